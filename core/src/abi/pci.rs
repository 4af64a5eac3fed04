// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! PCI functions that take part: devices and the bridges above them.
//!
//! Compatible string `hitless-pci-v1`. Written at preserve, read by the incoming kernel from PCI
//! enumeration until the device's file is finished.

use zerocopy::little_endian::{U16, U32};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Magic number.
pub const MAGIC: [u8; 8] = *b"hitl-pci";
/// Version.
pub const VERSION: u32 = 1;
/// Bits of `required` that are known: none yet.
pub const KNOWN_REQUIRED: u64 = 0;

/// `FunctionSer::kind`: a device with a file of its own.
pub const KIND_ENDPOINT: u8 = 1;
/// `FunctionSer::kind`: a bridge above one.
pub const KIND_BRIDGE: u8 = 2;

/// One function.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct FunctionSer {
    /// `KIND_*`.
    pub kind: u8,
    /// 0.
    pub reserved: u8,
    /// Bus, device and function.
    pub bdf: U16,
    /// PCI segment.
    pub segment: U32,
    /// Key of the bridge above; 0 on a root bus.
    pub upstream: U32,
    /// 0.
    pub reserved_path: U32,
    /// Number of bridges above.
    pub depth: U16,
    /// Vendor id; this and the identity below are 0 for a bridge.
    pub vendor: U16,
    /// Device id.
    pub device: U16,
    /// Subsystem vendor id.
    pub subsystem_vendor: U16,
    /// Subsystem device id.
    pub subsystem_device: U16,
    /// 0.
    pub reserved_identity: U16,
    /// Class code and revision.
    pub class_revision: U32,
    /// 0.
    pub reserved_end: [u8; 32],
}

const _: () = assert!(size_of::<FunctionSer>() == super::list::ENTRY_SIZE);
const _: () = assert!(core::mem::offset_of!(FunctionSer, reserved_path) == 12);
const _: () = assert!(core::mem::offset_of!(FunctionSer, class_revision) == 28);
