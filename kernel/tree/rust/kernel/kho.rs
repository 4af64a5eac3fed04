// SPDX-License-Identifier: GPL-2.0-only

//! Kexec handover: memory that survives a kexec.
//!
//! C header: [`include/linux/kexec_handover.h`](srctree/include/linux/kexec_handover.h)
//!
//! A page crosses in one of two ways. A [`PreservedPage`] is allocated for the purpose and taken by
//! the next kernel as a [`RestoredPage`]. A page that belongs to somebody else is handed over by
//! [`preserve_page`]; the next kernel may leave it where it is, out of everybody's reach, until
//! [`restore_and_free_page`] returns it to the allocator.

use crate::{
    bindings,
    error::{
        code::*,
        from_err_ptr,
        to_result,
        Result, //
    },
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    }, //
};
use core::{
    ops::{
        Deref,
        DerefMut, //
    },
    ptr::NonNull, //
};

/// Finds the `struct page` of the page frame at `phys`, if there is memory.
fn online_page(phys: u64) -> Option<NonNull<bindings::page>> {
    if phys & (PAGE_SIZE as u64 - 1) != 0 {
        return None;
    }
    // CAST: A physical address fits an `unsigned long` wherever kexec handover exists.
    let pfn = (phys >> PAGE_SHIFT) as usize;

    // SAFETY: The function accepts every page frame number.
    NonNull::new(unsafe { bindings::pfn_to_online_page(pfn) })
}

/// Whether a single page was handed over at `phys` that has not been taken yet. Any address will do.
pub fn is_restorable(phys: u64) -> bool {
    // SAFETY: The function accepts every address.
    unsafe { bindings::kho_is_restorable(phys, 0) }
}

/// A zeroed page of this kernel that is handed over to the next.
///
/// Dropping it takes it back from the handover and frees it.
///
/// # Invariants
///
/// `page` points to a page that came from `kho_alloc_preserve()` and that this value owns.
pub struct PreservedPage {
    page: NonNull<[u8; PAGE_SIZE]>,
}

// SAFETY: The page is owned, and none of the functions used on it cares about the thread.
unsafe impl Send for PreservedPage {}
// SAFETY: A shared reference allows reading only.
unsafe impl Sync for PreservedPage {}

impl PreservedPage {
    /// Allocates a page. May sleep.
    pub fn new() -> Result<Self> {
        // SAFETY: The function has no requirements.
        let page = from_err_ptr(unsafe { bindings::kho_alloc_preserve(PAGE_SIZE) })?;
        let page = NonNull::new(page.cast()).ok_or(ENOMEM)?;

        // INVARIANT: The page has just been allocated, for us alone.
        Ok(Self { page })
    }

    /// Physical address, by which the next kernel finds the page.
    pub fn phys(&self) -> u64 {
        // SAFETY: By the type invariant the page is one of the direct mapping.
        unsafe { bindings::virt_to_phys(self.page.as_ptr().cast()) }
    }
}

impl Deref for PreservedPage {
    type Target = [u8; PAGE_SIZE];

    fn deref(&self) -> &Self::Target {
        // SAFETY: By the type invariant the page is valid, initialized (zeroed at first), and ours.
        unsafe { self.page.as_ref() }
    }
}

impl DerefMut for PreservedPage {
    fn deref_mut(&mut self) -> &mut Self::Target {
        // SAFETY: As in `deref()`, and the reference is exclusive because `self` is.
        unsafe { self.page.as_mut() }
    }
}

impl Drop for PreservedPage {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the page came from `kho_alloc_preserve()`, and nobody uses
        // it after this.
        unsafe { bindings::kho_unpreserve_free(self.page.as_ptr().cast()) };
    }
}

/// A page that the previous kernel allocated as a [`PreservedPage`].
///
/// Dropping it leaks it: only [`Self::free`] returns it to the allocator. Whoever was misled about
/// what the page is can drop it and be sure that nobody else gets it.
///
/// # Invariants
///
/// `page` points to a page that was restored from the handover and that this value owns.
pub struct RestoredPage {
    page: NonNull<[u8; PAGE_SIZE]>,
}

// SAFETY: The page is owned, and none of the functions used on it cares about the thread.
unsafe impl Send for RestoredPage {}
// SAFETY: A shared reference allows reading only.
unsafe impl Sync for RestoredPage {}

impl RestoredPage {
    /// Takes the page at `phys` out of the handover.
    ///
    /// `None` if no page was handed over there, or if it has been taken already.
    pub fn take(phys: u64) -> Option<Self> {
        // SAFETY: The function accepts every address, and gives each page to one caller.
        let folio = NonNull::new(unsafe { bindings::kho_try_restore_folio(phys, 0) })?;
        // SAFETY: The folio has just been restored, and kexec handover has no high memory.
        let page = unsafe { bindings::folio_address(folio.as_ptr()) };

        // INVARIANT: The page was given to us and to nobody else.
        Some(Self {
            page: NonNull::new(page.cast())?,
        })
    }

    /// Physical address.
    pub fn phys(&self) -> u64 {
        // SAFETY: By the type invariant the page is one of the direct mapping.
        unsafe { bindings::virt_to_phys(self.page.as_ptr().cast()) }
    }

    /// Returns the page to the allocator.
    pub fn free(self) {
        if let Some(page) = online_page(self.phys()) {
            // SAFETY: A restored page is the head of its folio and holds one reference, which is
            // ours by the type invariant; `self` is gone after this.
            unsafe { bindings::folio_put(page.as_ptr().cast()) };
        }
    }
}

impl Deref for RestoredPage {
    type Target = [u8; PAGE_SIZE];

    fn deref(&self) -> &Self::Target {
        // SAFETY: By the type invariant the page is valid and ours; the previous kernel wrote it.
        unsafe { self.page.as_ref() }
    }
}

impl DerefMut for RestoredPage {
    fn deref_mut(&mut self) -> &mut Self::Target {
        // SAFETY: As in `deref()`, and the reference is exclusive because `self` is.
        unsafe { self.page.as_mut() }
    }
}

/// Hands over the page at `phys`, which stays its owner's in this kernel. May sleep.
pub fn preserve_page(phys: u64) -> Result {
    preserve_pages(phys, 1)
}

/// Undo of [`preserve_page`]. May sleep.
pub fn unpreserve_page(phys: u64) {
    unpreserve_pages(phys, 1);
}

/// Hands over `count` pages from `phys` on, which stay their owner's in this kernel. May sleep.
///
/// If their number is a power of two and the address a multiple of their size, the next kernel takes them as one folio.
pub fn preserve_pages(phys: u64, count: usize) -> Result {
    let size = (count as u64).checked_mul(PAGE_SIZE as u64).ok_or(EINVAL)?;
    let last = size.checked_sub(PAGE_SIZE as u64).ok_or(EINVAL)?;
    let page = online_page(phys).ok_or(EINVAL)?;
    online_page(phys.checked_add(last).ok_or(EINVAL)?).ok_or(EINVAL)?;

    // SAFETY: The first and the last page exist, and of those between no more than their numbers is used. That they are
    // handed over changes nothing for their users here.
    to_result(unsafe { bindings::kho_preserve_pages(page.as_ptr(), count) })
}

/// Undo of [`preserve_pages`]. May sleep.
pub fn unpreserve_pages(phys: u64, count: usize) {
    if let Some(page) = online_page(phys) {
        // SAFETY: As in `preserve_pages()`. If they were not handed over, the function warns and does nothing.
        unsafe { bindings::kho_unpreserve_pages(page.as_ptr(), count) };
    }
}

/// Takes a page that was handed over by [`preserve_page`] and returns it to the allocator.
///
/// Says whether there was one. The page is taken out of the handover here and now, so nobody in
/// this kernel can hold a reference to it; that no device uses it is the caller's business.
pub fn restore_and_free_page(phys: u64) -> bool {
    match RestoredPage::take(phys) {
        Some(page) => {
            page.free();
            true
        }
        None => false,
    }
}
