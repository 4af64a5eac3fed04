// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Scalable mode: root entries (VT-d 9.2), context entries (VT-d 9.4) and PASID directory entries
//! (VT-d 9.5). PASID table entries are in [`super::pasid`].

use super::legacy::{pointer, PRESENT};
use crate::iommu::address::{HostAddressWidth, TableAddress};
use crate::iommu::bits;
use crate::iommu::flaw::{Entry, Flaw};

/// Words of a root entry: the lower and the upper half.
pub const ROOT_WORDS: usize = 2;
/// Words of a context entry.
pub const CONTEXT_WORDS: usize = 4;
/// Bits 11:1 of half a root entry are reserved.
const ROOT_RESERVED: u64 = 0xffe;
/// FPD, DTE, PASIDE, PRE: bits 1 to 4 of a context entry.
const FAULT_PROCESSING_DISABLE: u32 = 1;
const DEVICE_TLB_ENABLE: u32 = 2;
const PASID_ENABLE: u32 = 3;
const PAGE_REQUEST_ENABLE: u32 = 4;
/// Bits 8:5 are reserved.
const CONTEXT_RESERVED: u64 = 0x1e0;
/// PDTS, bits 11:9: the directory has 2^(PDTS + 7) entries.
const DIRECTORY_SIZE_SHIFT: u32 = 9;
/// RID_PASID, bits 19:0 of word 1, and RID_PRIV, bit 20.
const REQUEST_PASID: u64 = 0xf_ffff;
const REQUEST_PRIVILEGE: u32 = 20;
const CONTEXT_HIGH_RESERVED: u64 = !0x1f_ffff;
/// Bits 11:2 of a PASID directory entry are reserved; bit 1 is FPD.
const DIRECTORY_RESERVED: u64 = 0xffc;

/// One half of a root entry, if present: the context table of devices 0 to 15 (lower) or 16 to 31
/// (upper) of a bus, 128 entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootHalf {
    /// The context table (LCTP or UCTP).
    pub context_table: TableAddress,
}

impl RootHalf {
    /// `None` if this half is not present.
    ///
    /// # Errors
    ///
    /// [`Flaw::Reserved`], [`Flaw::PointerBeyondHost`].
    pub const fn decode(word: u64, width: HostAddressWidth) -> Result<Option<Self>, Flaw> {
        if !bits::is_set(word, PRESENT) {
            return Ok(None);
        }
        if word & ROOT_RESERVED != 0 {
            return Err(Flaw::Reserved(Entry::Root));
        }
        match pointer(word, width, Entry::Root) {
            Ok(context_table) => Ok(Some(Self { context_table })),
            Err(flaw) => Err(flaw),
        }
    }

    /// The word of this half.
    pub const fn encode(self) -> u64 {
        self.context_table.get() | bits::bit(PRESENT)
    }
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

/// A present context entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextEntry {
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

impl ContextEntry {
    /// `None` if the entry is not present.
    ///
    /// # Errors
    ///
    /// [`Flaw::Reserved`], [`Flaw::PointerBeyondHost`].
    pub const fn decode(
        words: [u64; CONTEXT_WORDS],
        width: HostAddressWidth,
    ) -> Result<Option<Self>, Flaw> {
        let [low, high, third, fourth] = words;
        if !bits::is_set(low, PRESENT) {
            return Ok(None);
        }
        if low & CONTEXT_RESERVED != 0
            || high & CONTEXT_HIGH_RESERVED != 0
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
            directory_size: DirectorySize(bits::low_u8(low >> DIRECTORY_SIZE_SHIFT) & 7),
            request_pasid: bits::low_u32(high & REQUEST_PASID),
            request_privileged: bits::is_set(high, REQUEST_PRIVILEGE),
            device_tlb: bits::is_set(low, DEVICE_TLB_ENABLE),
            pasids: bits::is_set(low, PASID_ENABLE),
            page_requests: bits::is_set(low, PAGE_REQUEST_ENABLE),
            fault_processing_disabled: bits::is_set(low, FAULT_PROCESSING_DISABLE),
        }))
    }

    /// The words of the entry. Of `request_pasid` only 20 bits fit.
    pub fn encode(self) -> [u64; CONTEXT_WORDS] {
        [
            self.pasid_directory.get()
                | u64::from(self.directory_size.0) << DIRECTORY_SIZE_SHIFT
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
