// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! An iommufd: its preserved HWPTs, what they map, and the memory files behind that.
//!
//! Compatible string `hitless-iommufd-v1`. The physical address of the first page is LUO's data for the
//! file and names the iommufd in other records. Read by the incoming kernel from boot (which memory is
//! mapped?) until the file is finished. The mappings of a HWPT are entries in a row, in rising order of
//! their addresses.

use zerocopy::little_endian::{U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Magic number.
pub const MAGIC: [u8; 8] = *b"hitl-ifd";
/// Version.
pub const VERSION: u32 = 1;
/// Bits of `required` that are known: none yet.
pub const KNOWN_REQUIRED: u64 = 0;

/// `HwptSer::kind`: a HWPT.
pub const KIND_HWPT: u8 = 1;
/// `MemorySer::kind`: a memory file.
pub const KIND_MEMORY: u8 = 2;
/// `MappingSer::kind`: a mapping.
pub const KIND_MAPPING: u8 = 3;

/// `MappingSer::rights`: the device may read.
pub const MAPPING_READ: u8 = 1;
/// `MappingSer::rights`: the device may write.
pub const MAPPING_WRITE: u8 = 2;

/// A HWPT.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct HwptSer {
    /// `KIND_HWPT`.
    pub kind: u8,
    /// 0.
    pub reserved: [u8; 3],
    /// Key of its domain in the IOMMU records.
    pub domain: U32,
    /// The user's token.
    pub token: U64,
    /// Key of the entry of its first mapping; 0 if there is none.
    pub first: U32,
    /// Number of its mappings.
    pub count: U32,
    /// 0.
    pub reserved_end: [u8; 40],
}

/// A memory file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct MemorySer {
    /// `KIND_MEMORY`.
    pub kind: u8,
    /// 0.
    pub reserved: [u8; 7],
    /// LUO's data of the file.
    pub data: U64,
    /// LUO's token of the file.
    pub token: U64,
    /// 0.
    pub reserved_end: [u8; 40],
}

/// A mapping of a HWPT.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct MappingSer {
    /// `KIND_MAPPING`.
    pub kind: u8,
    /// `MAPPING_*`.
    pub rights: u8,
    /// 0.
    pub reserved: [u8; 6],
    /// Key of the HWPT.
    pub hwpt: U32,
    /// Key of the memory file.
    pub memory: U32,
    /// First I/O virtual address.
    pub iova: U64,
    /// Length in bytes.
    pub length: U64,
    /// Offset in the memory file in bytes.
    pub offset: U64,
    /// 0.
    pub reserved_end: [u8; 24],
}

const _: () = assert!(size_of::<HwptSer>() == super::list::ENTRY_SIZE);
const _: () = assert!(size_of::<MemorySer>() == super::list::ENTRY_SIZE);
const _: () = assert!(size_of::<MappingSer>() == super::list::ENTRY_SIZE);
const _: () = assert!(core::mem::offset_of!(MappingSer, iova) == 16);
