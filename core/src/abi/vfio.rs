// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A VFIO device file.
//!
//! Compatible string `hitless-vfio-pci-v1`. The physical address of the page is LUO's data for the file.
//! Read by the incoming kernel when the file is retrieved and finished. One entry says which device it
//! is; others may say later what its user had set up.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Magic number.
pub const MAGIC: [u8; 8] = *b"hitl-vfp";
/// Version.
pub const VERSION: u32 = 1;
/// Bits of `required` that are known: none yet.
pub const KNOWN_REQUIRED: u64 = 0;

/// `DeviceFileSer::kind`: the device.
pub const KIND_FILE: u8 = 1;

/// The device.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DeviceFileSer {
    /// `KIND_FILE`.
    pub kind: u8,
    /// 0.
    pub reserved: u8,
    /// Bus, device and function.
    pub bdf: U16,
    /// PCI segment.
    pub segment: U32,
    /// LUO's data of the iommufd that the device is bound to.
    pub iommufd: U64,
    /// Token of the HWPT that the device is attached to.
    pub hwpt_token: U64,
    /// 0.
    pub reserved_end: [u8; 40],
}

const _: () = assert!(size_of::<DeviceFileSer>() == super::list::ENTRY_SIZE);
const _: () = assert!(core::mem::offset_of!(DeviceFileSer, iommufd) == 8);
