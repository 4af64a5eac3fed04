// SPDX-License-Identifier: GPL-2.0-only

//! The seams, as safe functions.

use core::marker::PhantomData;
use core::ptr::NonNull;

use hitless_core::model::{
    Attachment,
    DeviceAddress,
    DomainKey,
    HwptFacts,
    Identity,
    Table,
    Unit,
    VfioFacts, //
};
use kernel::bindings;
use kernel::error::to_result;
use kernel::fs::File;
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::table_memory::TableMemory;

use super::convert;

/// Has hitless been left on?
pub(super) fn is_enabled() -> bool {
    // SAFETY: The function has no requirements.
    unsafe { bindings::hitless_enabled() }
}

/// Is a part left out on purpose (CONFIG_HITLESS_BREAK)?
pub(crate) fn leaves_out(name: &CStr) -> bool {
    // SAFETY: The string is valid and terminated.
    unsafe { bindings::hitless_leaves_out(name.as_char_ptr()) }
}

/// Leave to read table words, and in the scrub to clear them.
///
/// It is used for root, context, PASID and page tables that VT-d's seam or checked records name, and
/// for what entries in them point to.
pub(crate) fn table_memory() -> TableMemory {
    // SAFETY: Tables of VT-d are only ever accessed by their C code and by hardware, word by word. An
    // address in a damaged table may lead elsewhere; then the words read are only compared with what
    // is expected, and nothing is written: the scrub writes to the live root table and to the context
    // tables that records name.
    unsafe { TableMemory::new() }
}

/// Takes a table page back from the handover, with the accounting of IOMMU pages.
pub(crate) fn iommu_restore_page(phys: u64) -> Result {
    // SAFETY: The function itself checks that the page was handed over, and gives it once.
    to_result(unsafe { bindings::hitless_seam_iommu_restore_page(phys) })
}

/// Identity of the PCI function at an address, if there is one.
pub(crate) fn pci_identity(address: DeviceAddress) -> Option<Identity> {
    let [bus, devfn] = address.bdf.to_be_bytes();
    let segment = c_int::try_from(address.segment).ok()?;
    // SAFETY: The function accepts every address, and takes a reference.
    let device = unsafe {
        bindings::pci_get_domain_bus_and_slot(segment, c_uint::from(bus), c_uint::from(devfn))
    };
    let device = NonNull::new(device)?;
    let identity = {
        // SAFETY: The reference taken keeps the device; these fields do not change.
        let device = unsafe { device.as_ref() };
        Identity {
            vendor: device.vendor,
            device: device.device,
            subsystem_vendor: device.subsystem_vendor,
            subsystem_device: device.subsystem_device,
            class_revision: (device.class << 8) | u32::from(device.revision),
        }
    };
    // SAFETY: The reference was taken above and is not used any more.
    unsafe { bindings::pci_dev_put(device.as_ptr()) };
    Some(identity)
}

/// Turns a file that a seam made, with its reference, into a value.
fn new_file(ret: c_int, file: *mut bindings::file) -> Result<ARef<File>> {
    to_result(ret)?;
    let file = NonNull::new(file).ok_or(EINVAL)?;

    // SAFETY: The seam made the file and left the reference to us. It has no descriptor yet, so no
    // light reference with an unlocked position exists.
    Ok(unsafe { ARef::from_raw(file.cast()) })
}

/// Is it an iommufd?
pub(crate) fn iommufd_is(file: &File) -> bool {
    // SAFETY: The file is valid.
    unsafe { bindings::hitless_seam_iommufd_is(file.as_ptr()) }
}

/// Makes an iommufd that carries a key.
pub(crate) fn iommufd_create(key: u64) -> Result<ARef<File>> {
    let mut file = core::ptr::null_mut();
    // SAFETY: The result is written before the call returns.
    let ret = unsafe { bindings::hitless_seam_iommufd_create(key, &mut file) };
    new_file(ret, file)
}

/// A marked HWPT.
pub(crate) struct Hwpt {
    id: u32,
    pub(crate) token: u64,
    pub(crate) facts: HwptFacts,
    /// `None`: the format is unknown.
    pub(crate) table: Option<Table>,
}

/// An iommufd whose marked HWPTs and their IOASes cannot change. Dropping it undoes that.
///
/// # Invariants
///
/// The file is an iommufd and was frozen.
pub(crate) struct FrozenIommufd<'a>(&'a File);

impl<'a> FrozenIommufd<'a> {
    /// Freezes an iommufd, which [`iommufd_is`] has said it is.
    pub(crate) fn new(file: &'a File) -> Result<Self> {
        // SAFETY: The file is valid, and LUO calls a handler for its own files only.
        to_result(unsafe { bindings::hitless_seam_iommufd_freeze(file.as_ptr()) })?;

        // INVARIANT: It has just been frozen.
        Ok(Self(file))
    }

    /// Leaves the iommufd frozen.
    pub(crate) fn keep(self) {
        core::mem::forget(self);
    }

    /// Undo of [`Self::keep`].
    pub(crate) fn kept(file: &'a File) {
        // INVARIANT: The file was frozen when it was preserved, and is unpreserved once.
        drop(Self(file));
    }

    /// Its marked HWPTs.
    pub(crate) fn hwpts(&self) -> Result<KVec<Hwpt>> {
        const MAX: usize = bindings::HITLESS_MAX_HWPTS as usize;
        let mut raw: [bindings::hitless_hwpt; MAX] = Zeroable::zeroed();
        // SAFETY: The file is a frozen iommufd by the type invariant; the array has as many entries
        // as the call is told.
        let count = unsafe {
            bindings::hitless_seam_iommufd_hwpts(
                self.0.as_ptr(),
                raw.as_mut_ptr(),
                bindings::HITLESS_MAX_HWPTS,
            )
        };
        let count = length(count)?;
        let mut hwpts = KVec::with_capacity(count, GFP_KERNEL)?;
        for hwpt in raw.iter().take(count) {
            let hwpt = Hwpt {
                id: hwpt.id,
                token: hwpt.token,
                facts: HwptFacts(hwpt.flags),
                table: convert::table(&hwpt.table),
            };
            hwpts.push(hwpt, GFP_KERNEL)?;
        }
        Ok(hwpts)
    }

    /// The files behind a HWPT's mappings, which cannot change while the iommufd is frozen.
    pub(crate) fn files(&self, hwpt: &Hwpt) -> Result<KVec<&File>> {
        const MAX: usize = bindings::HITLESS_MAX_FILES as usize;
        let mut raw = [core::ptr::null_mut(); MAX];
        // SAFETY: The file is a frozen iommufd by the type invariant; the array has as many entries
        // as the call is told.
        let count = unsafe {
            bindings::hitless_seam_iommufd_files(
                self.0.as_ptr(),
                hwpt.id,
                raw.as_mut_ptr(),
                bindings::HITLESS_MAX_FILES,
            )
        };
        let count = length(count)?;
        let mut files = KVec::with_capacity(count, GFP_KERNEL)?;
        for file in raw.into_iter().take(count) {
            // SAFETY: The mappings hold references to their files and cannot change while `self`
            // exists. They are files of memory, of which no position is in use.
            files.push(unsafe { File::from_raw_file(file) }, GFP_KERNEL)?;
        }
        Ok(files)
    }
}

impl Drop for FrozenIommufd<'_> {
    fn drop(&mut self) {
        // SAFETY: The file is a frozen iommufd by the type invariant.
        unsafe { bindings::hitless_seam_iommufd_unfreeze(self.0.as_ptr()) };
    }
}

/// A count that a seam gave, or its error.
fn length(count: c_int) -> Result<usize> {
    usize::try_from(count).map_err(|_| Error::from_errno(count))
}

/// Will the next kernel get what is handed over to it? To be asked while files are frozen.
pub(crate) fn image_takes_over() -> bool {
    // SAFETY: Files are frozen by `kernel_kexec()`, which keeps the image from changing.
    unsafe { bindings::hitless_seam_image_takes_over() }
}

/// Is it a device file of vfio-pci?
pub(crate) fn vfio_is(file: &File) -> bool {
    // SAFETY: The file is valid.
    unsafe { bindings::hitless_seam_vfio_is(file.as_ptr()) }
}

/// Has a device file been bound to its iommufd?
pub(crate) fn vfio_is_bound(file: &File) -> bool {
    // SAFETY: The file is one that [`vfio_create`] made, as LUO hands retrieved files to the handler
    // that retrieved them.
    unsafe { bindings::hitless_seam_vfio_is_bound(file.as_ptr()) }
}

/// Makes a file for a device that arrived running.
pub(crate) fn vfio_create(address: DeviceAddress) -> Result<ARef<File>> {
    let mut file = core::ptr::null_mut();
    // SAFETY: The result is written before the call returns.
    let ret =
        unsafe { bindings::hitless_seam_vfio_create(address.segment, address.bdf, &mut file) };
    new_file(ret, file)
}

/// A device behind a device file.
pub(crate) struct VfioDevice<'a> {
    pub(crate) address: DeviceAddress,
    pub(crate) identity: Identity,
    pub(crate) facts: VfioFacts,
    /// The iommufd it is bound to.
    pub(crate) iommufd: Option<&'a File>,
    pub(crate) hwpt_token: u64,
    pub(crate) bridges: KVec<u16>,
    pub(crate) unit: Unit,
    /// Domain and entry facts are not known yet.
    pub(crate) attachment: Attachment,
    /// `None`: the format is unknown.
    pub(crate) table: Option<Table>,
}

impl<'a> VfioDevice<'a> {
    /// Collects the facts about the device behind `file`, which [`vfio_is`] has said it is.
    pub(crate) fn describe(file: &'a File) -> Result<Self> {
        /// Stands for the domain until that is known; never recorded.
        const UNKNOWN: Option<DomainKey> = DomainKey::new(u16::MAX);

        let mut raw = bindings::hitless_vfio::default();
        // SAFETY: The file is valid, and the result is written before the call returns.
        to_result(unsafe { bindings::hitless_seam_vfio_describe(file.as_ptr(), &mut raw) })?;
        let mut bridges = KVec::new();
        for bridge in raw.bridge.iter().take(usize::from(raw.bridges)) {
            bridges.push(*bridge, GFP_KERNEL)?;
        }
        let iommufd = NonNull::new(raw.iommufd).map(|iommufd| {
            // SAFETY: A bound device file holds its iommufd until it is closed, and `file` is
            // borrowed for that long.
            unsafe { File::from_raw_file(iommufd.as_ptr()) }
        });
        Ok(Self {
            address: DeviceAddress {
                segment: raw.segment,
                bdf: raw.bdf,
            },
            identity: convert::identity(&raw),
            facts: VfioFacts(raw.flags),
            iommufd,
            hwpt_token: raw.hwpt_token,
            bridges,
            unit: convert::unit(&raw.unit),
            attachment: convert::attachment(&raw.attachment, UNKNOWN.ok_or(EINVAL)?),
            table: convert::table(&raw.attachment.table),
        })
    }
}

/// Kinds of live entry.
pub(crate) enum EntryKind {
    /// Legacy context entry.
    Context,
    /// PASID table entry.
    Pasid,
}

/// A live translation entry that is being replaced, and the steps of doing so.
///
/// # Invariants
///
/// `raw` is valid, and nobody else changes the entry.
pub(crate) struct LiveEntry<'a> {
    raw: NonNull<bindings::hitless_replace>,
    _borrowed: PhantomData<&'a bindings::hitless_replace>,
}

impl LiveEntry<'_> {
    /// # Safety
    ///
    /// `raw` must be what VT-d's seam gave `hitless_vtd_replace()`, which is running.
    pub(super) unsafe fn new(raw: *const bindings::hitless_replace) -> Self {
        // SAFETY: A valid pointer is not NULL.
        let raw = unsafe { NonNull::new_unchecked(raw.cast_mut()) };
        // INVARIANT: By the safety requirement.
        Self {
            raw,
            _borrowed: PhantomData,
        }
    }

    fn raw(&self) -> &bindings::hitless_replace {
        // SAFETY: By the type invariant.
        unsafe { self.raw.as_ref() }
    }

    fn as_ptr(&self) -> *const bindings::hitless_replace {
        self.raw.as_ptr()
    }

    /// What kind of entry it is, if it is a known one.
    pub(crate) fn kind(&self) -> Option<EntryKind> {
        match self.raw().kind {
            bindings::HITLESS_ENTRY_CONTEXT => Some(EntryKind::Context),
            bindings::HITLESS_ENTRY_PASID => Some(EntryKind::Pasid),
            _ => None,
        }
    }

    /// Whether 128 bits can be exchanged at once.
    pub(crate) fn wide(&self) -> bool {
        self.raw().wide != 0
    }

    /// Whether the device has translation caches of its own.
    pub(crate) fn ats(&self) -> bool {
        self.raw().ats != 0
    }

    /// The words that the entry has.
    pub(crate) fn old(&self) -> [u64; 8] {
        self.raw().old
    }

    /// The words that it shall have.
    pub(crate) fn new_words(&self) -> [u64; 8] {
        self.raw().new
    }

    /// Stores one word.
    pub(crate) fn store64(&self, word: usize, value: u64) -> Result {
        let word = u32::try_from(word)?;
        // SAFETY: By the type invariant.
        to_result(unsafe { bindings::hitless_seam_vtd_store64(self.as_ptr(), word, value) })
    }

    /// Exchanges two words, if they are still the old ones.
    pub(crate) fn exchange128(&self, word: usize, [low, high]: [u64; 2]) -> Result {
        let word = u32::try_from(word)?;
        // SAFETY: By the type invariant.
        to_result(unsafe { bindings::hitless_seam_vtd_exchange128(self.as_ptr(), word, low, high) })
    }

    /// Flushes the context cache for the device.
    pub(crate) fn flush_context(&self, domain_id: u16) {
        // SAFETY: By the type invariant.
        unsafe { bindings::hitless_seam_vtd_flush_context(self.as_ptr(), domain_id) };
    }

    /// Flushes the PASID cache for a domain.
    pub(crate) fn flush_pasid(&self, domain_id: u16) {
        // SAFETY: By the type invariant.
        unsafe { bindings::hitless_seam_vtd_flush_pasid(self.as_ptr(), domain_id) };
    }

    /// Flushes translations of a domain.
    pub(crate) fn flush_iotlb(&self, domain_id: u16) {
        // SAFETY: By the type invariant.
        unsafe { bindings::hitless_seam_vtd_flush_iotlb(self.as_ptr(), domain_id) };
    }

    /// Flushes the device's own translations.
    pub(crate) fn flush_device(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::hitless_seam_vtd_flush_device(self.as_ptr()) };
    }
}
