// SPDX-License-Identifier: GPL-2.0-only

//! VT-d: what it adds to units and attachments, its live tables, and the steps of a swap.

use core::cell::Cell;
use core::marker::PhantomData;
use core::ptr::NonNull;

use hitless_core::abi::iommu::{
    FORMAT_VTDSS,
    FORMAT_X86_64, //
};
use hitless_core::abi::vtd::HARDWARE;
use hitless_core::image::{
    format_feature,
    kind_feature, //
};
use hitless_core::iommu::vtd::irq::IrqTableFacts;
use hitless_core::iommu::vtd::mode::Mode;
use hitless_core::iommu::vtd::record::{
    DeviceTables,
    EntryFacts,
    PasidTables,
    Registers, //
};
use hitless_core::iommu::change::SwapFacts;
use kernel::bindings;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::table_memory;

use super::iommu::{
    RawAttachment,
    RawUnit, //
};

/// Number of words in a table.
const WORDS: usize = 512;
/// The present bit of a root entry's halves.
const PRESENT: u64 = 1;
/// The address bits of a root entry's halves.
const ADDRESS: u64 = !0xfff;

fn payload(unit: &RawUnit) -> bindings::hitless_vtd_unit {
    let payload: *const bindings::hitless_vtd_unit = unit.0.payload.as_ptr().cast();
    // SAFETY: Both are nothing but numbers of 64 bits, and of the same size: C asserts it.
    unsafe { payload.read() }
}

/// What the registers of a unit of VT-d's say.
pub(crate) fn registers(unit: &RawUnit) -> Registers {
    let unit = payload(unit);
    Registers {
        // Before the unit is set up, the only root table there is is the one that the register names.
        root_table: match unit.root_table {
            0 => unit.live_root & ADDRESS,
            root_table => root_table,
        },
        live_root: unit.live_root,
        capability: unit.capability,
        extended_capability: unit.extended_capability,
        mode: match unit.scalable {
            0 => Mode::Legacy,
            _ => Mode::Scalable,
        },
    }
}

/// Whether translation is on in a unit of VT-d's.
pub(crate) fn is_translating(unit: &RawUnit) -> bool {
    payload(unit).translating != 0
}

/// The table by which the unit with a number remaps interrupts, if it does. `None`: there is no such unit.
pub(crate) fn irq_table(index: u32) -> Option<Option<u64>> {
    let mut phys = 0;
    // SAFETY: The result is written before the call returns.
    let is = unsafe { bindings::hitless_seam_vtd_irq_table(index, &mut phys) };
    is.then_some((phys != 0).then_some(phys))
}

/// Facts by the names of core and of the contract, which must be the same bits.
const _: () = {
    assert!(IrqTableFacts::REMAPPING == bindings::HITLESS_IRQ_REMAPPING);
    assert!(IrqTableFacts::AFTER_HANDOVER == bindings::HITLESS_IRQ_AFTER_HANDOVER);
    assert!(IrqTableFacts::TABLE_HANDED_OVER == bindings::HITLESS_IRQ_TABLE_HANDED_OVER);
};

/// What the image says that this kernel takes over is what it does take over.
const _: () = assert!(
    bindings::HITLESS_IMAGE_TAKES as u64
        == kind_feature(HARDWARE) | format_feature(FORMAT_VTDSS) | format_feature(FORMAT_X86_64)
);

/// The tables that translate for a device behind a unit of VT-d's. What its entries say C does not know.
pub(crate) fn device_tables(attachment: &RawAttachment) -> DeviceTables {
    let payload: *const bindings::hitless_vtd_attachment = attachment.0.payload.as_ptr().cast();
    // SAFETY: Both are nothing but numbers of 64 bits, and of the same size: C asserts it.
    let tables = unsafe { payload.read() };
    DeviceTables {
        context_table: tables.context_table,
        pasid: (tables.pasid_directory != 0).then(|| PasidTables {
            directory: tables.pasid_directory,
            table: tables.pasid_table,
            max_pasid: u32::try_from(tables.max_pasid).unwrap_or(0),
        }),
        entry: EntryFacts::default(),
    }
}

/// The tables of a device, to C.
pub(crate) fn device_tables_to_c(tables: &DeviceTables) -> bindings::hitless_vtd_attachment {
    let pasid = tables.pasid;
    bindings::hitless_vtd_attachment {
        context_table: tables.context_table,
        pasid_directory: pasid.map_or(0, |pasid| pasid.directory),
        pasid_table: pasid.map_or(0, |pasid| pasid.table),
        max_pasid: pasid.map_or(0, |pasid| pasid.max_pasid.into()),
    }
}

/// The root table of a unit that is being set up or shut down, and the context tables that it leads to.
///
/// # Invariants
///
/// `root` is the root table that the unit uses, or is no table at all, and nobody else writes to the unit's
/// tables.
pub(crate) struct LiveTables {
    root: u64,
    /// The context table that was found last, since one after the other is cleared.
    known: Cell<u64>,
}

impl LiveTables {
    /// # Safety
    ///
    /// `root` must be what a unit's registers name as its root table, and nobody else may write to the
    /// unit's tables until the value is gone.
    pub(crate) unsafe fn new(root: u64) -> Self {
        // INVARIANT: By the safety requirement.
        Self {
            root,
            known: Cell::new(root),
        }
    }

    /// Physical address of the root table.
    pub(crate) fn root(&self) -> u64 {
        self.root
    }

    /// Whether the root table leads to a table.
    fn leads_to(&self, table: u64) -> bool {
        if table == self.known.get() {
            return true;
        }
        let found = (0..WORDS).any(|index| {
            let word = table_memory::read(self.root, index);
            word.is_some_and(|word| word & PRESENT != 0 && word & ADDRESS == table)
        });
        if found {
            self.known.set(table);
        }
        found
    }

    /// Clears a word of the root table or of a context table. `None` if it is neither.
    pub(crate) fn clear(&self, table: u64, index: usize) -> Option<()> {
        if table != self.root && !self.leads_to(table) {
            return None;
        }
        // SAFETY: By the type invariant it is the root table of a unit or one that this leads to,
        // hardware walks it, and nobody else writes to it.
        unsafe { table_memory::write(table, index, 0) }
    }
}

/// Kinds of live entry.
pub(crate) enum EntryKind {
    /// Legacy context entry.
    Context,
    /// PASID table entry.
    Pasid,
}

/// Caches of translation.
#[derive(Clone, Copy)]
pub(crate) enum Cache {
    /// Context entries, for the device.
    Context,
    /// PASID entries, for the domain.
    Pasid,
    /// Translations, for the domain.
    Iotlb,
    /// The device's own.
    Device,
}

/// A live translation entry whose device changes its domain, and the steps of doing so.
///
/// # Invariants
///
/// `raw` is valid, and nobody else changes the entry or a domain id of the unit.
pub(crate) struct LiveEntry<'a> {
    raw: NonNull<bindings::hitless_vtd_swap>,
    _borrowed: PhantomData<&'a bindings::hitless_vtd_swap>,
}

impl<'a> LiveEntry<'a> {
    /// # Safety
    ///
    /// `raw` must be what VT-d's driver gave `hitless_vtd_swap()`, which is running.
    pub(crate) unsafe fn new(raw: *mut bindings::hitless_vtd_swap) -> Self {
        // SAFETY: A valid pointer is not NULL.
        let raw = unsafe { NonNull::new_unchecked(raw) };
        // INVARIANT: By the safety requirement.
        Self {
            raw,
            _borrowed: PhantomData,
        }
    }

    fn raw(&self) -> &bindings::hitless_vtd_swap {
        // SAFETY: By the type invariant. C writes to it only in calls that are made through a
        // mutable reference of this value.
        unsafe { self.raw.as_ref() }
    }

    /// What is known of it.
    pub(crate) fn facts(&self) -> SwapFacts {
        SwapFacts(self.raw().facts)
    }

    /// What kind of entry it is, if it is a known one.
    pub(crate) fn kind(&self) -> Option<EntryKind> {
        match self.raw().kind {
            bindings::HITLESS_VTD_CONTEXT => Some(EntryKind::Context),
            bindings::HITLESS_VTD_PASID => Some(EntryKind::Pasid),
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

    /// Whether the new domain has an id on the unit.
    pub(crate) fn has_own_id(&self) -> bool {
        self.raw().has_own_id != 0
    }

    /// The domain id in the entry.
    pub(crate) fn old_id(&self) -> u16 {
        // CAST: The field of an entry has 16 bits.
        self.raw().old_id as u16
    }

    /// The domain id that the new domain has on the unit, once the swap has begun.
    pub(crate) fn new_id(&self) -> u16 {
        // CAST: As above.
        self.raw().new_id as u16
    }

    /// How many attachments of this kernel's use the old domain under its id.
    pub(crate) fn old_users(&self) -> u32 {
        self.raw().old_users
    }

    /// The key of the restored domain that the device is on, if it is.
    pub(crate) fn restored(&self) -> Option<u64> {
        Some(self.raw().restored).filter(|key| *key != 0)
    }

    /// The unit.
    pub(crate) fn register_base(&self) -> u64 {
        self.raw().register_base
    }

    /// Prepares the new domain, under the id of the old one or one of its own.
    pub(crate) fn begin(self, hand_over: bool) -> Result<BegunSwap<'a>> {
        // SAFETY: By the type invariant.
        to_result(unsafe {
            bindings::hitless_seam_vtd_swap_begin(self.raw.as_ptr(), hand_over)
        })?;
        // INVARIANT: It has just been begun.
        Ok(BegunSwap {
            entry: self,
            hand_over,
        })
    }
}

/// A swap of which both domains are ready. Dropping it undoes that.
///
/// # Invariants
///
/// `hitless_seam_vtd_swap_begin()` succeeded, and neither of its two ends has been called.
pub(crate) struct BegunSwap<'a> {
    entry: LiveEntry<'a>,
    hand_over: bool,
}

impl BegunSwap<'_> {
    /// The entry.
    pub(crate) fn entry(&self) -> &LiveEntry<'_> {
        &self.entry
    }

    fn as_ptr(&self) -> *const bindings::hitless_vtd_swap {
        self.entry.raw.as_ptr()
    }

    /// The words that the entry has.
    pub(crate) fn old_words(&self) -> [u64; 8] {
        self.entry.raw().old
    }

    /// The words that it shall have.
    pub(crate) fn new_words(&self) -> [u64; 8] {
        self.entry.raw().new
    }

    /// The entry has been changed and the caches are flushed.
    pub(crate) fn end(self) {
        // SAFETY: By the type invariants.
        unsafe {
            bindings::hitless_seam_vtd_swap_end(self.entry.raw.as_ptr(), self.hand_over);
        }
        core::mem::forget(self);
    }

    /// Stores one word.
    pub(crate) fn store64(&self, word: usize, value: u64) -> Result {
        let word = u32::try_from(word)?;
        // SAFETY: By the type invariants.
        to_result(unsafe { bindings::hitless_seam_vtd_store64(self.as_ptr(), word, value) })
    }

    /// Exchanges two words, if they are still the old ones.
    pub(crate) fn exchange128(&self, word: usize, [low, high]: [u64; 2]) -> Result {
        let word = u32::try_from(word)?;
        // SAFETY: By the type invariants.
        to_result(unsafe { bindings::hitless_seam_vtd_exchange128(self.as_ptr(), word, low, high) })
    }

    /// Flushes what a cache has of the entry, under the domain id that was in it.
    pub(crate) fn flush(&self, cache: Cache, domain_id: u16) {
        let cache = match cache {
            Cache::Context => bindings::hitless_vtd_cache_HITLESS_VTD_CACHE_CONTEXT,
            Cache::Pasid => bindings::hitless_vtd_cache_HITLESS_VTD_CACHE_PASID,
            Cache::Iotlb => bindings::hitless_vtd_cache_HITLESS_VTD_CACHE_IOTLB,
            Cache::Device => bindings::hitless_vtd_cache_HITLESS_VTD_CACHE_DEVICE,
        };
        // SAFETY: By the type invariants.
        unsafe { bindings::hitless_seam_vtd_flush(self.as_ptr(), cache, domain_id) };
    }
}

impl Drop for BegunSwap<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe {
            bindings::hitless_seam_vtd_swap_abort(self.entry.raw.as_ptr(), self.hand_over);
        }
    }
}

/// Numbers and facts by the names of core and of the contract, which must be the same.
const _: () = {
    assert!(FORMAT_VTDSS as u32 == bindings::HITLESS_PT_VTDSS);
    assert!(HARDWARE as u32 == bindings::HITLESS_KIND_VTD);
    assert!(SwapFacts::RESTORED == bindings::HITLESS_SWAP_RESTORED);
    assert!(SwapFacts::NO_ENTRY == bindings::HITLESS_SWAP_NO_ENTRY);
    assert!(SwapFacts::UNKNOWN_TABLE == bindings::HITLESS_SWAP_UNKNOWN_TABLE);
    assert!(SwapFacts::NOT_PCI == bindings::HITLESS_SWAP_NOT_PCI);
    assert!(SwapFacts::ALIASES == bindings::HITLESS_SWAP_ALIASES);
    assert!(SwapFacts::PAGE_FAULTS == bindings::HITLESS_SWAP_PAGE_FAULTS);
};
