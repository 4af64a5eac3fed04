// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! PASID directory entries (VT-d 9.5), 64 bits, and PASID table entries (VT-d 9.6), 512 bits.

use super::word::{pointer, PRESENT};
use crate::iommu::address::{DomainId, HostAddressWidth, TableAddress};
use crate::iommu::bits::{self, POINTER};
use crate::iommu::flaw::{Entry, Flaw};
use crate::iommu::pt::format::Format;
use crate::iommu::pt::vtdss::Levels;
use crate::iommu::pt::x86_64;

/// Words of a PASID table entry.
pub const PASID_WORDS: usize = 8;
/// Entries of a PASID table, which is always one page.
pub const PASIDS_PER_TABLE: u16 = 64;

/// Bits 11:2 of a PASID directory entry are reserved; bit 1 is FPD.
const DIRECTORY_RESERVED: u64 = 0xffc;

/// Which word of the entry holds SSPTPTR, and which FSPTPTR.
pub(super) const SECOND_STAGE_WORD: usize = 0;
pub(super) const FIRST_STAGE_WORD: usize = 2;

// Word 0.
const FAULT_PROCESSING_DISABLE: u32 = 1;
const ADDRESS_WIDTH_SHIFT: u32 = 2;
const ADDRESS_WIDTH: u64 = 7 << ADDRESS_WIDTH_SHIFT;
/// PGTT, bits 8:6.
const TRANSLATION_TYPE_SHIFT: u32 = 6;
const TRANSLATION_TYPE: u64 = 7 << TRANSLATION_TYPE_SHIFT;
const FIRST_STAGE: u64 = 1;
const SECOND_STAGE: u64 = 2;
const PASS_THROUGH: u64 = 4;
const ACCESSED_DIRTY: u32 = 9;
/// Bits 11:10 are reserved; bit 5 allows execute requests in second stage, which nobody uses.
const WORD_0_UNKNOWN: u64 = 0xc20;

// Word 1.
const PAGE_WALK_SNOOP: u32 = 23;
const PAGE_SNOOP: u32 = 24;
/// Bits 22:16 are reserved; bits 63:25 select memory types, which Linux leaves alone.
const WORD_1_UNKNOWN: u64 = !0x180_ffff;

// Word 2.
const SUPERVISOR_REQUEST: u32 = 0;
/// FSPM, bits 3:2: 0 is 4 levels, 1 is 5 levels.
const PAGING_MODE_SHIFT: u32 = 2;
const PAGING_MODE: u64 = 3 << PAGING_MODE_SHIFT;
const WRITE_PROTECT: u32 = 4;
const EXTENDED_ACCESSED: u32 = 7;
/// Bits 11:8 are reserved; bits 1, 5 and 6 concern execute requests.
const WORD_2_UNKNOWN: u64 = 0xf62;

/// What a PASID entry does with requests (PGTT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasidTarget {
    /// PGTT 1: first-stage translation.
    FirstStage {
        /// The top table (FSPTPTR).
        table: TableAddress,
        /// Its levels (FSPM).
        levels: x86_64::Levels,
        /// What AW says; no concern of first-stage translation, Linux fills it in.
        address_width: Levels,
        /// Requests for supervisor privilege are allowed (SRE).
        supervisor_requests: bool,
        /// Such requests heed write protection (WPE).
        write_protect: bool,
        /// Extended accessed bits are set by hardware (EAFE).
        extended_accessed: bool,
    },
    /// PGTT 2: second-stage translation.
    SecondStage {
        /// The top table (SSPTPTR).
        table: TableAddress,
        /// Its levels (AW).
        levels: Levels,
        /// Accessed and dirty bits are set by hardware (SSADE).
        accessed_dirty: bool,
    },
    /// PGTT 4: not translated.
    PassThrough {
        /// The width that addresses are checked against (AW).
        address_width: Levels,
    },
}

/// A present PASID table entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasidEntry {
    /// Tag of the PASID's cached translations.
    pub domain_id: DomainId,
    /// Where requests go.
    pub target: PasidTarget,
    /// Hardware snoops caches when it walks the page table (PWSNP).
    pub page_walk_snoop: bool,
    /// Accesses are snooped whatever the device asks for (PGSNP).
    pub page_snoop: bool,
    /// Faults are not reported (FPD).
    pub fault_processing_disabled: bool,
}

impl PasidEntry {
    /// `None` if the entry is not present.
    ///
    /// # Errors
    ///
    /// [`Flaw::Reserved`] also for bits that are defined but that hitless does not understand,
    /// [`Flaw::PointerBeyondHost`], [`Flaw::UnknownAddressWidth`], and
    /// [`Flaw::TranslationType`] for reserved types and for nested translation.
    pub const fn decode(
        words: [u64; PASID_WORDS],
        width: HostAddressWidth,
    ) -> Result<Option<Self>, Flaw> {
        const RESERVED: Flaw = Flaw::Reserved(Entry::Pasid);
        let [first, second, third, d, e, f, g, h] = words;
        if !bits::is_set(first, PRESENT) {
            return Ok(None);
        }
        if first & WORD_0_UNKNOWN != 0
            || second & WORD_1_UNKNOWN != 0
            || third & WORD_2_UNKNOWN != 0
            || d | e | f | g | h != 0
        {
            return Err(RESERVED);
        }
        let code = (first & ADDRESS_WIDTH) >> ADDRESS_WIDTH_SHIFT;
        let Some(address_width) = Levels::from_code(code) else {
            return Err(Flaw::UnknownAddressWidth(Entry::Pasid));
        };
        let accessed_dirty = bits::is_set(first, ACCESSED_DIRTY);
        let target = match (first & TRANSLATION_TYPE) >> TRANSLATION_TYPE_SHIFT {
            FIRST_STAGE => {
                if accessed_dirty || first & POINTER != 0 {
                    return Err(RESERVED);
                }
                let levels = match (third & PAGING_MODE) >> PAGING_MODE_SHIFT {
                    0 => x86_64::Levels::Four,
                    1 => x86_64::Levels::Five,
                    _ => return Err(Flaw::UnknownAddressWidth(Entry::Pasid)),
                };
                match pointer(third, width, Entry::Pasid) {
                    Ok(table) => PasidTarget::FirstStage {
                        table,
                        levels,
                        address_width,
                        supervisor_requests: bits::is_set(third, SUPERVISOR_REQUEST),
                        write_protect: bits::is_set(third, WRITE_PROTECT),
                        extended_accessed: bits::is_set(third, EXTENDED_ACCESSED),
                    },
                    Err(flaw) => return Err(flaw),
                }
            }
            SECOND_STAGE => {
                if third != 0 {
                    return Err(RESERVED);
                }
                match pointer(first, width, Entry::Pasid) {
                    Ok(table) => PasidTarget::SecondStage {
                        table,
                        levels: address_width,
                        accessed_dirty,
                    },
                    Err(flaw) => return Err(flaw),
                }
            }
            PASS_THROUGH => {
                if third != 0 || accessed_dirty || first & POINTER != 0 {
                    return Err(RESERVED);
                }
                PasidTarget::PassThrough { address_width }
            }
            _ => return Err(Flaw::TranslationType(Entry::Pasid)),
        };
        Ok(Some(Self {
            domain_id: DomainId(bits::low_u16(second)),
            target,
            page_walk_snoop: bits::is_set(second, PAGE_WALK_SNOOP),
            page_snoop: bits::is_set(second, PAGE_SNOOP),
            fault_processing_disabled: bits::is_set(first, FAULT_PROCESSING_DISABLE),
        }))
    }

    /// The words of the entry.
    pub const fn encode(self) -> [u64; PASID_WORDS] {
        let (low, third) = match self.target {
            PasidTarget::FirstStage {
                table,
                levels,
                address_width,
                supervisor_requests,
                write_protect,
                extended_accessed,
            } => {
                let mode = match levels {
                    x86_64::Levels::Four => 0,
                    x86_64::Levels::Five => 1 << PAGING_MODE_SHIFT,
                };
                (
                    FIRST_STAGE << TRANSLATION_TYPE_SHIFT
                        | address_width.code() << ADDRESS_WIDTH_SHIFT,
                    table.get()
                        | mode
                        | bits::flag(SUPERVISOR_REQUEST, supervisor_requests)
                        | bits::flag(WRITE_PROTECT, write_protect)
                        | bits::flag(EXTENDED_ACCESSED, extended_accessed),
                )
            }
            PasidTarget::SecondStage {
                table,
                levels,
                accessed_dirty,
            } => (
                table.get()
                    | SECOND_STAGE << TRANSLATION_TYPE_SHIFT
                    | levels.code() << ADDRESS_WIDTH_SHIFT
                    | bits::flag(ACCESSED_DIRTY, accessed_dirty),
                0,
            ),
            PasidTarget::PassThrough { address_width } => (
                PASS_THROUGH << TRANSLATION_TYPE_SHIFT
                    | address_width.code() << ADDRESS_WIDTH_SHIFT,
                0,
            ),
        };
        // The domain id is the only field below that is wider than a bit.
        let [did_low, did_high] = self.domain_id.0.to_le_bytes();
        let domain_id = u64::from_le_bytes([did_low, did_high, 0, 0, 0, 0, 0, 0]);
        [
            low | bits::flag(FAULT_PROCESSING_DISABLE, self.fault_processing_disabled)
                | bits::bit(PRESENT),
            domain_id
                | bits::flag(PAGE_WALK_SNOOP, self.page_walk_snoop)
                | bits::flag(PAGE_SNOOP, self.page_snoop),
            third,
            0,
            0,
            0,
            0,
            0,
        ]
    }

    /// The page table that requests are translated by; `None` for pass-through.
    pub const fn page_table(&self) -> Option<(TableAddress, Format)> {
        match self.target {
            PasidTarget::FirstStage { table, levels, .. } => Some((table, Format::X86_64(levels))),
            PasidTarget::SecondStage { table, levels, .. } => Some((table, Format::Vtdss(levels))),
            PasidTarget::PassThrough { .. } => None,
        }
    }
}

/// The words of a PASID entry with another domain id.
pub(super) fn with_domain_id(mut words: [u64; PASID_WORDS], id: DomainId) -> [u64; PASID_WORDS] {
    let [_, second, ..] = &mut words;
    *second = *second & !0xffff | u64::from(id.0);
    words
}

/// Size of a PASID directory (PDTS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectorySize(u8);

impl DirectorySize {
    /// `code` as in the PDTS field: 2^(code + 7) directory entries. `None` above 7.
    pub const fn from_code(code: u8) -> Option<Self> {
        if code <= 7 {
            Some(Self(code))
        } else {
            None
        }
    }

    /// Of the lowest three bits.
    pub(super) const fn from_bits(bits: u8) -> Self {
        Self(bits & 7)
    }

    /// The size of a directory that Linux has made with room for `max_pasid` PASIDs, 64 per entry.
    ///
    /// `None` for a number that Linux does not arrive at: a directory is a power of two of pages, at
    /// least one, and at most what 20 bits of PASID need.
    pub const fn for_max_pasid(max_pasid: u32) -> Option<Self> {
        match max_pasid {
            0x8000 => Some(Self(2)),
            0x1_0000 => Some(Self(3)),
            0x2_0000 => Some(Self(4)),
            0x4_0000 => Some(Self(5)),
            0x8_0000 => Some(Self(6)),
            0x10_0000 => Some(Self(7)),
            _ => None,
        }
    }

    /// The PDTS field.
    pub const fn code(self) -> u8 {
        self.0
    }

    /// Number of directory entries: 128 to 16384.
    pub fn entries(self) -> u16 {
        128u16.checked_shl(u32::from(self.0)).unwrap_or(u16::MAX)
    }
}

/// A present PASID directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasidDirectoryEntry {
    /// The PASID table (SMPTBLPTR), 64 entries.
    pub pasid_table: TableAddress,
    /// Faults are not reported (FPD).
    pub fault_processing_disabled: bool,
}

impl PasidDirectoryEntry {
    /// `None` if the entry is not present.
    ///
    /// # Errors
    ///
    /// [`Flaw::Reserved`], [`Flaw::PointerBeyondHost`].
    pub const fn decode(word: u64, width: HostAddressWidth) -> Result<Option<Self>, Flaw> {
        if !bits::is_set(word, PRESENT) {
            return Ok(None);
        }
        if word & DIRECTORY_RESERVED != 0 {
            return Err(Flaw::Reserved(Entry::PasidDirectory));
        }
        match pointer(word, width, Entry::PasidDirectory) {
            Ok(pasid_table) => Ok(Some(Self {
                pasid_table,
                fault_processing_disabled: bits::is_set(word, FAULT_PROCESSING_DISABLE),
            })),
            Err(flaw) => Err(flaw),
        }
    }

    /// The word of the entry.
    pub const fn encode(self) -> u64 {
        self.pasid_table.get()
            | bits::flag(FAULT_PROCESSING_DISABLE, self.fault_processing_disabled)
            | bits::bit(PRESENT)
    }
}
