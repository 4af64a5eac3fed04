// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Context entries: of legacy mode (VT-d 9.3), 128 bits, and of scalable mode (VT-d 9.4), 256 bits.

use super::pasid::DirectorySize;
use super::word::{pointer, PRESENT};
use crate::iommu::address::{DomainId, HostAddressWidth, TableAddress};
use crate::iommu::bits;
use crate::iommu::flaw::{Entry, Flaw};
use crate::iommu::pt::vtdss::Levels;

/// Words of a context entry of legacy mode.
pub const CONTEXT_WORDS: usize = 2;
/// Words of a context entry of scalable mode.
pub const SCALABLE_CONTEXT_WORDS: usize = 4;

/// FPD, bit 1 in both modes.
const FAULT_PROCESSING_DISABLE: u32 = 1;

/// Legacy: TT, bits 3:2.
const TRANSLATION_TYPE_SHIFT: u32 = 2;
const TRANSLATION_TYPE: u64 = 3 << TRANSLATION_TYPE_SHIFT;
/// Legacy: bits 11:4 of the low word are reserved.
const LOW_RESERVED: u64 = 0xff0;
/// Legacy: AW, bits 2:0 of the high word.
const ADDRESS_WIDTH: u64 = 7;
/// Legacy: bits 6:3 of the high word are ignored by hardware; bit 7 and bits 63:24 are reserved.
const HIGH_IGNORED: u64 = 0x78;
const HIGH_RESERVED: u64 = !0xff_ff7f;
/// Legacy: DID, bits 23:8 of the high word.
const DOMAIN_ID_SHIFT: u32 = 8;

/// Scalable: DTE, PASIDE, PRE: bits 2 to 4.
const DEVICE_TLB_ENABLE: u32 = 2;
const PASID_ENABLE: u32 = 3;
const PAGE_REQUEST_ENABLE: u32 = 4;
/// Scalable: bits 8:5 are reserved.
const SCALABLE_RESERVED: u64 = 0x1e0;
/// Scalable: PDTS, bits 11:9: the directory has 2^(PDTS + 7) entries.
const DIRECTORY_SIZE_SHIFT: u32 = 9;
/// Scalable: RID_PASID, bits 19:0 of word 1, and RID_PRIV, bit 20.
const REQUEST_PASID: u64 = 0xf_ffff;
const REQUEST_PRIVILEGE: u32 = 20;
const SCALABLE_HIGH_RESERVED: u64 = !0x1f_ffff;

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

/// A present context entry of legacy mode.
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
        words: [u64; CONTEXT_WORDS],
        width: HostAddressWidth,
    ) -> Result<Option<Self>, Flaw> {
        let [low, high] = words;
        if !bits::is_set(low, PRESENT) {
            return Ok(None);
        }
        if low & LOW_RESERVED != 0 || high & (HIGH_RESERVED | HIGH_IGNORED) != 0 {
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
    pub fn encode(self) -> [u64; CONTEXT_WORDS] {
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
pub(super) fn with_domain_id(words: [u64; CONTEXT_WORDS], id: DomainId) -> [u64; CONTEXT_WORDS] {
    const DOMAIN_ID: u64 = 0xffff << DOMAIN_ID_SHIFT;
    let [low, high] = words;
    [low, high & !DOMAIN_ID | u64::from(id.0) << DOMAIN_ID_SHIFT]
}

/// A present context entry of scalable mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScalableContextEntry {
    /// The PASID directory (PASIDDIRPTR).
    pub pasid_directory: TableAddress,
    /// Its size (PDTS).
    pub directory_size: DirectorySize,
    /// The PASID used for requests that carry none (RID_PASID), 20 bits.
    pub request_pasid: u32,
    /// Requests without PASID count as privileged (RID_PRIV).
    pub request_privileged: bool,
    /// Translation requests and translated requests of a device TLB are allowed (DTE).
    pub device_tlb: bool,
    /// Requests with a PASID are allowed (PASIDE).
    pub pasids: bool,
    /// Page requests are allowed (PRE).
    pub page_requests: bool,
    /// Faults of the device are not reported (FPD).
    pub fault_processing_disabled: bool,
}

impl ScalableContextEntry {
    /// `None` if the entry is not present.
    ///
    /// # Errors
    ///
    /// [`Flaw::Reserved`], [`Flaw::PointerBeyondHost`].
    pub const fn decode(
        words: [u64; SCALABLE_CONTEXT_WORDS],
        width: HostAddressWidth,
    ) -> Result<Option<Self>, Flaw> {
        let [low, high, third, fourth] = words;
        if !bits::is_set(low, PRESENT) {
            return Ok(None);
        }
        if low & SCALABLE_RESERVED != 0
            || high & SCALABLE_HIGH_RESERVED != 0
            || third != 0
            || fourth != 0
        {
            return Err(Flaw::Reserved(Entry::Context));
        }
        let pasid_directory = match pointer(low, width, Entry::Context) {
            Ok(pasid_directory) => pasid_directory,
            Err(flaw) => return Err(flaw),
        };
        Ok(Some(Self {
            pasid_directory,
            directory_size: DirectorySize::from_bits(bits::low_u8(low >> DIRECTORY_SIZE_SHIFT)),
            request_pasid: bits::low_u32(high & REQUEST_PASID),
            request_privileged: bits::is_set(high, REQUEST_PRIVILEGE),
            device_tlb: bits::is_set(low, DEVICE_TLB_ENABLE),
            pasids: bits::is_set(low, PASID_ENABLE),
            page_requests: bits::is_set(low, PAGE_REQUEST_ENABLE),
            fault_processing_disabled: bits::is_set(low, FAULT_PROCESSING_DISABLE),
        }))
    }

    /// The words of the entry. Of `request_pasid` only 20 bits fit.
    pub fn encode(self) -> [u64; SCALABLE_CONTEXT_WORDS] {
        [
            self.pasid_directory.get()
                | u64::from(self.directory_size.code()) << DIRECTORY_SIZE_SHIFT
                | bits::flag(PAGE_REQUEST_ENABLE, self.page_requests)
                | bits::flag(PASID_ENABLE, self.pasids)
                | bits::flag(DEVICE_TLB_ENABLE, self.device_tlb)
                | bits::flag(FAULT_PROCESSING_DISABLE, self.fault_processing_disabled)
                | bits::bit(PRESENT),
            u64::from(self.request_pasid) & REQUEST_PASID
                | bits::flag(REQUEST_PRIVILEGE, self.request_privileged),
            0,
            0,
        ]
    }
}
