// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Legacy mode: root entries (VT-d 9.1) and context entries (VT-d 9.3), 128 bits each.

use crate::iommu::address::{DomainId, HostAddressWidth, TableAddress};
use crate::iommu::bits::{self, POINTER};
use crate::iommu::flaw::{Entry, Flaw};
use crate::iommu::pt::vtdss::Levels;

/// Words of a root entry and of a context entry.
pub const ENTRY_WORDS: usize = 2;

/// P, bit 0 of the first word of both kinds of entry.
pub(super) const PRESENT: u32 = 0;
/// FPD, bit 1 of a context entry.
const FAULT_PROCESSING_DISABLE: u32 = 1;
/// TT, bits 3:2 of a context entry.
const TRANSLATION_TYPE_SHIFT: u32 = 2;
const TRANSLATION_TYPE: u64 = 3 << TRANSLATION_TYPE_SHIFT;
/// Bits 11:4 of the low word of a context entry and 11:1 of a root entry are reserved.
const CONTEXT_LOW_RESERVED: u64 = 0xff0;
const ROOT_LOW_RESERVED: u64 = 0xffe;
/// AW, bits 2:0 of the high word.
const ADDRESS_WIDTH: u64 = 7;
/// Bits 6:3 of the high word are ignored by hardware; bit 7 and bits 63:24 are reserved.
const CONTEXT_HIGH_IGNORED: u64 = 0x78;
const CONTEXT_HIGH_RESERVED: u64 = !0xff_ff7f;
/// DID, bits 23:8 of the high word.
const DOMAIN_ID_SHIFT: u32 = 8;

/// The pointer in `word`, or a refusal that says in which kind of entry it is wrong.
pub(super) const fn pointer(
    word: u64,
    width: HostAddressWidth,
    entry: Entry,
) -> Result<TableAddress, Flaw> {
    match TableAddress::new(word & POINTER, width) {
        Ok(address) => Ok(address),
        Err(_) => Err(Flaw::PointerBeyondHost(entry)),
    }
}

/// A present root entry: where the context table of a bus is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootEntry {
    /// The 256 context entries of the bus (CTP).
    pub context_table: TableAddress,
}

impl RootEntry {
    /// `None` if the entry is not present.
    ///
    /// # Errors
    ///
    /// [`Flaw::Reserved`], [`Flaw::PointerBeyondHost`].
    pub const fn decode(
        words: [u64; ENTRY_WORDS],
        width: HostAddressWidth,
    ) -> Result<Option<Self>, Flaw> {
        let [low, high] = words;
        if !bits::is_set(low, PRESENT) {
            return Ok(None);
        }
        if low & ROOT_LOW_RESERVED != 0 || high != 0 {
            return Err(Flaw::Reserved(Entry::Root));
        }
        match pointer(low, width, Entry::Root) {
            Ok(context_table) => Ok(Some(Self { context_table })),
            Err(flaw) => Err(flaw),
        }
    }

    /// The words of the entry.
    pub const fn encode(self) -> [u64; ENTRY_WORDS] {
        [self.context_table.get() | bits::bit(PRESENT), 0]
    }
}

/// What a context entry does with a request without PASID (TT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextTarget {
    /// TT 0 and 1: translated by a second-stage table.
    SecondStage {
        /// The top table (SSPTPTR).
        table: TableAddress,
        /// Its levels (AW).
        levels: Levels,
        /// TT 1: translation requests and translated requests of a device TLB are allowed.
        device_tlb: bool,
    },
    /// TT 2: not translated. The pointer is ignored by hardware and must be zero here.
    PassThrough {
        /// The width that addresses are checked against (AW).
        levels: Levels,
    },
}

/// A present context entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextEntry {
    /// Tag of the device's cached translations.
    pub domain_id: DomainId,
    /// Where requests go.
    pub target: ContextTarget,
    /// Faults of the device are not reported (FPD).
    pub fault_processing_disabled: bool,
}

impl ContextEntry {
    /// `None` if the entry is not present.
    ///
    /// # Errors
    ///
    /// [`Flaw::Reserved`], [`Flaw::PointerBeyondHost`], [`Flaw::UnknownAddressWidth`], or
    /// [`Flaw::TranslationType`] for TT 3.
    pub const fn decode(
        words: [u64; ENTRY_WORDS],
        width: HostAddressWidth,
    ) -> Result<Option<Self>, Flaw> {
        let [low, high] = words;
        if !bits::is_set(low, PRESENT) {
            return Ok(None);
        }
        if low & CONTEXT_LOW_RESERVED != 0
            || high & (CONTEXT_HIGH_RESERVED | CONTEXT_HIGH_IGNORED) != 0
        {
            return Err(Flaw::Reserved(Entry::Context));
        }
        let Some(levels) = Levels::from_code(high & ADDRESS_WIDTH) else {
            return Err(Flaw::UnknownAddressWidth(Entry::Context));
        };
        let table = match pointer(low, width, Entry::Context) {
            Ok(table) => table,
            Err(flaw) => return Err(flaw),
        };
        let target = match (low & TRANSLATION_TYPE) >> TRANSLATION_TYPE_SHIFT {
            code @ (0 | 1) => ContextTarget::SecondStage {
                table,
                levels,
                device_tlb: code == 1,
            },
            2 if table.get() == 0 => ContextTarget::PassThrough { levels },
            2 => return Err(Flaw::Reserved(Entry::Context)),
            _ => return Err(Flaw::TranslationType(Entry::Context)),
        };
        Ok(Some(Self {
            domain_id: DomainId(bits::low_u16(high >> DOMAIN_ID_SHIFT)),
            target,
            fault_processing_disabled: bits::is_set(low, FAULT_PROCESSING_DISABLE),
        }))
    }

    /// The words of the entry.
    pub fn encode(self) -> [u64; ENTRY_WORDS] {
        let (table, levels, translation_type) = match self.target {
            ContextTarget::SecondStage {
                table,
                levels,
                device_tlb,
            } => (table.get(), levels, u64::from(device_tlb)),
            ContextTarget::PassThrough { levels } => (0, levels, 2),
        };
        [
            table
                | translation_type << TRANSLATION_TYPE_SHIFT
                | bits::flag(FAULT_PROCESSING_DISABLE, self.fault_processing_disabled)
                | bits::bit(PRESENT),
            levels.code() | u64::from(self.domain_id.0) << DOMAIN_ID_SHIFT,
        ]
    }
}

/// The words of a context entry with another domain id.
pub(super) fn with_domain_id(words: [u64; ENTRY_WORDS], id: DomainId) -> [u64; ENTRY_WORDS] {
    const DOMAIN_ID: u64 = 0xffff << DOMAIN_ID_SHIFT;
    let [low, high] = words;
    [low, high & !DOMAIN_ID | u64::from(id.0) << DOMAIN_ID_SHIFT]
}
