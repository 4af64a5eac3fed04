// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A VFIO device file.
//!
//! Compatible string `hitless-vfio-pci-v1`. One page, whose physical address is LUO's data for the
//! file. Read by the incoming kernel when the file is retrieved and finished.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::header::HeaderSer;

/// Magic number.
pub const MAGIC: [u8; 8] = *b"hitl-vfp";
/// Version.
pub const VERSION: u32 = 1;
/// Bits of `required` that are known: none yet.
pub const KNOWN_REQUIRED: u64 = 0;
/// Most bridges above a device.
pub const BRIDGES: usize = 16;

/// The page.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct VfioSer {
    /// Header.
    pub header: HeaderSer,
    /// 0.
    pub reserved: [u8; 32],
    /// PCI segment.
    pub segment: U32,
    /// Bus, device and function.
    pub bdf: U16,
    /// Number of valid entries in `bridges`.
    pub bridge_count: U16,
    /// LUO's data of the iommufd that the device is bound to.
    pub iommufd: U64,
    /// Token of the HWPT that the device is attached to.
    pub hwpt_token: U64,
    /// The bridges above the device, nearest first, as bus, device and function.
    pub bridges: [U16; BRIDGES],
    /// 0.
    pub reserved_end: [u8; 3976],
}

const _: () = assert!(size_of::<VfioSer>() == super::PAGE_SIZE);
const _: () = assert!(core::mem::offset_of!(VfioSer, iommufd) == 72);
const _: () = assert!(core::mem::offset_of!(VfioSer, bridges) == 88);
