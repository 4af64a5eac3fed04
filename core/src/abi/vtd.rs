// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What the IOMMU records hold of VT-d: the payloads of a unit and of an attachment.
//!
//! Part of `hitless-iommu-v1`.

use zerocopy::little_endian::{U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::iommu::{ATTACHMENT_PAYLOAD, UNIT_PAYLOAD};

/// `UnitSer::hardware`: VT-d.
pub const HARDWARE: u8 = 1;

/// `VtdUnitSer::mode`: legacy mode.
pub const MODE_LEGACY: u32 = 1;
/// `VtdUnitSer::mode`: scalable mode.
pub const MODE_SCALABLE: u32 = 2;

/// `VtdAttachmentSer::flags`: the device's entry lets it use a device TLB.
pub const ATTACHMENT_DEVICE_TLB: u32 = 1;
/// `VtdAttachmentSer::flags`: page-walk snoop (PWSNP) is set in its PASID entry.
pub const ATTACHMENT_WALK_SNOOP: u32 = 2;
/// `VtdAttachmentSer::flags`: page snoop (PGSNP) is set in its PASID entry.
pub const ATTACHMENT_PAGE_SNOOP: u32 = 4;

/// Payload of a unit.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct VtdUnitSer {
    /// Physical address of the root table.
    pub root_table: U64,
    /// Root Table Address Register.
    pub live_root: U64,
    /// Capability Register.
    pub capability: U64,
    /// Extended Capability Register.
    pub extended_capability: U64,
    /// `MODE_*`.
    pub mode: U32,
    /// 0.
    pub reserved: [u8; 12],
}

/// Payload of an attachment.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct VtdAttachmentSer {
    /// Physical address of the context table that has the device's entry.
    pub context_table: U64,
    /// Physical address of the PASID directory; 0 in legacy mode.
    pub pasid_directory: U64,
    /// Physical address of the PASID table that has entry 0; 0 in legacy mode.
    pub pasid_table: U64,
    /// PASIDs that the directory has room for; 0 in legacy mode.
    pub max_pasid: U32,
    /// `ATTACHMENT_*`.
    pub flags: U32,
    /// 0.
    pub reserved: [u8; 8],
}

const _: () = assert!(size_of::<VtdUnitSer>() == UNIT_PAYLOAD);
const _: () = assert!(core::mem::offset_of!(VtdUnitSer, mode) == 32);
const _: () = assert!(size_of::<VtdAttachmentSer>() == ATTACHMENT_PAYLOAD);
const _: () = assert!(core::mem::offset_of!(VtdAttachmentSer, flags) == 28);
