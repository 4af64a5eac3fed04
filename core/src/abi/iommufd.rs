// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! An iommufd: its preserved HWPTs and the memory behind them.
//!
//! Compatible string `hitless-iommufd-v1`. One page, whose physical address is LUO's data for the file
//! and names the iommufd in other records. Read by the incoming kernel from boot (which memory is
//! mapped?) until the file is finished.

use zerocopy::little_endian::{U16, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::header::HeaderSer;

/// Magic number.
pub const MAGIC: [u8; 8] = *b"hitl-ifd";
/// Version.
pub const VERSION: u32 = 1;
/// Bits of `required` that are known: none yet.
pub const KNOWN_REQUIRED: u64 = 0;
/// HWPTs that the page has room for.
pub const HWPTS: usize = 16;
/// Pairs of HWPT and memory file that the page has room for.
pub const MEMORIES: usize = 235;

/// A HWPT.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct HwptSer {
    /// The user's token.
    pub token: U64,
    /// Key of its domain; 0: this entry is free.
    pub domain: U16,
    /// 0.
    pub reserved: [u8; 6],
}

/// A memory file that a HWPT maps.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct MemorySer {
    /// LUO's data of the file.
    pub data: U64,
    /// Key of the HWPT's domain; 0: this entry is free.
    pub domain: U16,
    /// 0.
    pub reserved: [u8; 6],
}

/// The page.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IommufdSer {
    /// Header.
    pub header: HeaderSer,
    /// 0.
    pub reserved: [u8; 32],
    /// HWPTs, in no order.
    pub hwpts: [HwptSer; HWPTS],
    /// Memory files, in no order.
    pub memories: [MemorySer; MEMORIES],
    /// 0.
    pub reserved_end: [u8; 16],
}

const _: () = assert!(size_of::<HwptSer>() == 16);
const _: () = assert!(size_of::<MemorySer>() == 16);
const _: () = assert!(size_of::<IommufdSer>() == super::PAGE_SIZE);
const _: () = assert!(core::mem::offset_of!(IommufdSer, memories) == 320);
