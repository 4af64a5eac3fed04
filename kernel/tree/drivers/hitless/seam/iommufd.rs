// SPDX-License-Identifier: GPL-2.0-only

//! Iommufds: what is marked in them and mapped, and how they come back.

use core::ptr::NonNull;

use hitless_core::iommu::pt::table::Table;
use hitless_core::rules::iommufd::HwptFacts;
use hitless_core::rules::memory::MemoryFacts;
use kernel::bindings;
use kernel::error::to_result;
use kernel::fs::File;
use kernel::prelude::*;
use kernel::sync::aref::ARef;

use super::iommu;

/// Turns a file that a seam made, with its reference, into a value.
///
/// # Safety
///
/// If `ret` is 0 then `file` is NULL, or a new file whose reference the caller has and gives up.
pub(super) unsafe fn new_file(ret: c_int, file: *mut bindings::file) -> Result<ARef<File>> {
    to_result(ret)?;
    let file = NonNull::new(file).ok_or(EINVAL)?;

    // SAFETY: By the safety requirement. The file has no descriptor yet, so no light reference with
    // an unlocked position exists.
    Ok(unsafe { ARef::from_raw(file.cast()) })
}

/// Is it an iommufd?
pub(crate) fn is(file: &File) -> bool {
    // SAFETY: The file is valid.
    unsafe { bindings::hitless_seam_iommufd_is(file.as_ptr()) }
}

/// Makes an iommufd that carries a key.
pub(crate) fn create(key: u64) -> Result<ARef<File>> {
    let mut file = core::ptr::null_mut();
    // SAFETY: The result is written before the call returns.
    let ret = unsafe { bindings::hitless_seam_iommufd_create(key, &mut file) };
    // SAFETY: The seam has made the file for us.
    unsafe { new_file(ret, file) }
}

/// A marked HWPT.
pub(crate) struct Hwpt {
    id: u32,
    pub(crate) token: u64,
    pub(crate) facts: HwptFacts,
    /// `None`: the format is unknown.
    pub(crate) table: Option<Table>,
}

/// A mapping of a marked HWPT.
pub(crate) struct Mapping<'a> {
    pub(crate) iova: u64,
    pub(crate) length: u64,
    pub(crate) offset: u64,
    pub(crate) facts: MemoryFacts,
    pub(crate) file: Option<&'a File>,
}

/// An iommufd whose marked HWPTs and their IOASes cannot change. Dropping it undoes that.
///
/// # Invariants
///
/// The file is an iommufd and has been frozen for this value.
pub(crate) struct FrozenIommufd(ARef<File>);

impl FrozenIommufd {
    /// Freezes an iommufd. `None` if it is none.
    pub(crate) fn new(file: &File) -> Option<Self> {
        if !is(file) {
            return None;
        }
        // SAFETY: The file is valid, and an iommufd.
        unsafe { bindings::hitless_seam_iommufd_freeze(file.as_ptr()) };

        // INVARIANT: It has just been frozen.
        Some(Self(ARef::from(file)))
    }

    /// Its marked HWPTs.
    pub(crate) fn hwpts(&self) -> impl Iterator<Item = Hwpt> + '_ {
        let mut id = Some(0);
        core::iter::from_fn(move || {
            let mut raw = bindings::hitless_hwpt::default();
            // SAFETY: The file is a frozen iommufd by the type invariant; the result is written
            // before the call returns.
            let found = unsafe {
                bindings::hitless_seam_iommufd_next_hwpt(self.0.as_ptr(), id?, &mut raw)
            };
            id = raw.id.checked_add(1);
            found.then(|| Hwpt {
                id: raw.id,
                token: raw.token,
                facts: HwptFacts(raw.facts),
                table: iommu::table(&raw.table),
            })
        })
    }

    /// A HWPT's mappings in the order of their addresses, which cannot change while this exists.
    pub(crate) fn mappings(&self, hwpt: &Hwpt) -> impl Iterator<Item = Mapping<'_>> + '_ {
        let hwpt = hwpt.id;
        let mut iova = Some(0);
        core::iter::from_fn(move || {
            let mut raw = bindings::hitless_mapping::default();
            // SAFETY: As above.
            let found = unsafe {
                bindings::hitless_seam_iommufd_next_mapping(self.0.as_ptr(), hwpt, iova?, &mut raw)
            };
            if !found {
                return None;
            }
            iova = raw.iova.checked_add(raw.length);
            let file = NonNull::new(raw.file).map(|file| {
                // SAFETY: The mapping holds a reference to its file and cannot change while `self`
                // exists. It is a file of memory, of which no position is in use.
                unsafe { File::from_raw_file(file.as_ptr()) }
            });
            Some(Mapping {
                iova: raw.iova,
                length: raw.length,
                offset: raw.offset,
                facts: MemoryFacts(raw.facts),
                file,
            })
        })
    }
}

impl Drop for FrozenIommufd {
    fn drop(&mut self) {
        // SAFETY: The file is an iommufd that was frozen for this value, by the type invariant.
        unsafe { bindings::hitless_seam_iommufd_unfreeze(self.0.as_ptr()) };
    }
}

/// Facts by the names of core and of the contract, which must be the same bits.
const _: () = {
    assert!(HwptFacts::DIRTY_TRACKING == bindings::HITLESS_HWPT_DIRTY_TRACKING);
    assert!(HwptFacts::NEST_PARENT == bindings::HITLESS_HWPT_NEST_PARENT);
    assert!(HwptFacts::FAULT == bindings::HITLESS_HWPT_FAULT);
    assert!(HwptFacts::PASID == bindings::HITLESS_HWPT_PASID);
    assert!(HwptFacts::AUTO == bindings::HITLESS_HWPT_AUTO);
    assert!(HwptFacts::UNKNOWN_TABLE == bindings::HITLESS_HWPT_UNKNOWN_TABLE);
    assert!(MemoryFacts::NO_FILE == bindings::HITLESS_MEMORY_NO_FILE);
    assert!(MemoryFacts::DMABUF == bindings::HITLESS_MEMORY_DMABUF);
    assert!(MemoryFacts::NOT_SHMEM == bindings::HITLESS_MEMORY_NOT_SHMEM);
    assert!(MemoryFacts::HOLES == bindings::HITLESS_MEMORY_HOLES);
    assert!(MemoryFacts::UNSETTLED == bindings::HITLESS_MEMORY_UNSETTLED);
    assert!(MemoryFacts::READABLE == bindings::HITLESS_MEMORY_READABLE);
    assert!(MemoryFacts::WRITEABLE == bindings::HITLESS_MEMORY_WRITEABLE);
};
