// SPDX-License-Identifier: GPL-2.0-only

//! Words of tables that hardware walks, named by physical address.

use crate::{
    bindings,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    }, //
};
use core::mem::size_of;

/// Words of 64 bits in a page.
const WORDS: usize = PAGE_SIZE / size_of::<u64>();

/// Finds the word with number `index` of the page at `table`, if there is memory.
fn word(table: u64, index: usize) -> Option<*mut u64> {
    if table & (PAGE_SIZE as u64 - 1) != 0 || index >= WORDS {
        return None;
    }
    // CAST: A physical address fits an `unsigned long` on 64-bit machines.
    let pfn = (table >> PAGE_SHIFT) as usize;
    // SAFETY: The function accepts every page frame number.
    let page = unsafe { bindings::pfn_to_online_page(pfn) };
    if page.is_null() {
        return None;
    }
    // SAFETY: The page exists; 64-bit machines have no high memory, so it is mapped.
    let address: *mut u64 = unsafe { bindings::page_address(page) }.cast();

    Some(address.wrapping_add(index))
}

/// Reads the word with number `index` of the page at `table`, in one access.
///
/// What the page really is does not matter: if it is no table, the word is just any number.
/// `None` if there is no memory, or no such word.
pub fn read(table: u64, index: usize) -> Option<u64> {
    let word = word(table, index)?;
    let mut value: u64 = 0;

    // SAFETY: The function accepts every source, also one that is not mapped, and the destination has
    // as many bytes. It reads an aligned word of 64 bits in one access.
    let ret = unsafe {
        bindings::copy_from_kernel_nofault(
            core::ptr::from_mut(&mut value).cast(),
            word.cast(),
            size_of::<u64>(),
        )
    };
    (ret == 0).then_some(value)
}

/// Writes the word with number `index` of the page at `table`, in one access.
///
/// `None` if there is no memory, or no such word. Caches are not written back.
///
/// # Safety
///
/// The page at `table` must be a table that hardware walks and that no Rust reference points into,
/// and nobody else may be writing to it.
pub unsafe fn write(table: u64, index: usize, value: u64) -> Option<()> {
    let word = word(table, index)?;

    // SAFETY: The word is mapped and aligned, and ours to write by the safety requirement.
    unsafe { word.write_volatile(value) };
    Some(())
}
