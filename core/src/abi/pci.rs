// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! PCI functions that take part: devices and the bridges above them.
//!
//! Compatible string `hitless-pci-v1`. One page; an entry whose `kind` is 0 is free. Written at
//! preserve, read by the incoming kernel from PCI enumeration until the device's file is finished.

use zerocopy::little_endian::{U16, U32};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::header::HeaderSer;

/// Magic number.
pub const MAGIC: [u8; 8] = *b"hitl-pci";
/// Version.
pub const VERSION: u32 = 1;
/// Bits of `required` that are known: none yet.
pub const KNOWN_REQUIRED: u64 = 0;
/// Devices and bridges that the page has room for.
pub const DEVICES: usize = 126;

/// `DeviceSer::kind`: free.
pub const KIND_FREE: u16 = 0;
/// `DeviceSer::kind`: a device with a file of its own.
pub const KIND_ENDPOINT: u16 = 1;
/// `DeviceSer::kind`: a bridge above one.
pub const KIND_BRIDGE: u16 = 2;

/// One function.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DeviceSer {
    /// PCI segment.
    pub segment: U32,
    /// Bus, device and function.
    pub bdf: U16,
    /// `KIND_*`.
    pub kind: U16,
    /// Devices below a bridge that take part; 1 for a device.
    pub users: U32,
    /// Vendor id; this and the identity below are 0 for a bridge.
    pub vendor: U16,
    /// Device id.
    pub device: U16,
    /// Subsystem vendor id.
    pub subsystem_vendor: U16,
    /// Subsystem device id.
    pub subsystem_device: U16,
    /// Class code and revision.
    pub class_revision: U32,
    /// 0.
    pub reserved: [u8; 8],
}

/// The page.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct PciSer {
    /// Header.
    pub header: HeaderSer,
    /// 0.
    pub reserved: [u8; 32],
    /// Functions, in no order.
    pub devices: [DeviceSer; DEVICES],
}

const _: () = assert!(size_of::<DeviceSer>() == 32);
const _: () = assert!(core::mem::offset_of!(DeviceSer, users) == 8);
const _: () = assert!(core::mem::offset_of!(DeviceSer, class_revision) == 20);
const _: () = assert!(size_of::<PciSer>() == super::PAGE_SIZE);
const _: () = assert!(core::mem::offset_of!(PciSer, devices) == 64);
