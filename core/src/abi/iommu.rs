// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! IOMMU units, the domains whose tables are handed over, and which device is attached to which.
//!
//! Compatible string `hitless-iommu-v1`. Written at preserve, read by the incoming kernel from IOMMU
//! initialization until the last restored domain is gone. What only one kind of hardware has is a
//! payload, which that kind lays out.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Magic number.
pub const MAGIC: [u8; 8] = *b"hitl-iom";
/// Version.
pub const VERSION: u32 = 1;
/// Bits of `required` that are known: none yet.
pub const KNOWN_REQUIRED: u64 = 0;

/// `UnitSer::kind`: a unit.
pub const KIND_UNIT: u8 = 1;
/// `DomainSer::kind`: a domain.
pub const KIND_DOMAIN: u8 = 2;
/// `AttachmentSer::kind`: an attachment.
pub const KIND_ATTACHMENT: u8 = 3;

/// `DomainSer::format`: VT-d's second stage.
pub const FORMAT_VTDSS: u8 = 1;
/// `DomainSer::format`: the processor's format.
pub const FORMAT_X86_64: u8 = 2;

/// `DomainSer::flags`: hardware does not snoop the tables.
pub const DOMAIN_INCOHERENT: u8 = 1;
/// `DomainSer::flags`: snooping of the domain's accesses is forced.
pub const DOMAIN_SNOOP: u8 = 2;

/// Bytes of a unit that its kind of hardware lays out.
pub const UNIT_PAYLOAD: usize = 48;
/// Bytes of an attachment that its unit's kind of hardware lays out.
pub const ATTACHMENT_PAYLOAD: usize = 40;

/// An IOMMU unit.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct UnitSer {
    /// `KIND_UNIT`.
    pub kind: u8,
    /// The kind of hardware.
    pub hardware: u8,
    /// 0.
    pub reserved: U16,
    /// PCI segment of the devices behind it.
    pub segment: U32,
    /// Physical address of the register set; names the unit.
    pub base: U64,
    /// As the kind of hardware has it.
    pub payload: [u8; UNIT_PAYLOAD],
}

/// A domain.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DomainSer {
    /// `KIND_DOMAIN`.
    pub kind: u8,
    /// `FORMAT_*`.
    pub format: u8,
    /// Levels of the page table: 3 to 5 in second stage, 4 or 5 in the processor's format.
    pub levels: u8,
    /// `DOMAIN_*`.
    pub flags: u8,
    /// 0.
    pub reserved: U32,
    /// Physical address of the top table.
    pub top: U64,
    /// Pages of the page table: so many were handed over with it.
    pub tables: U64,
    /// Physical address of the record of the iommufd that has the HWPT.
    pub iommufd: U64,
    /// The HWPT's token.
    pub token: U64,
    /// 0.
    pub reserved_end: [u8; 24],
}

/// A device's attachment to a domain.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct AttachmentSer {
    /// `KIND_ATTACHMENT`.
    pub kind: u8,
    /// 0.
    pub reserved: u8,
    /// Bus, device and function.
    pub bdf: U16,
    /// PCI segment.
    pub segment: U32,
    /// Key of the unit.
    pub unit: U32,
    /// Key of the domain.
    pub domain: U32,
    /// The number under which the unit caches translations of the domain.
    pub domain_id: U32,
    /// 0.
    pub reserved_id: U32,
    /// As the unit's kind of hardware has it.
    pub payload: [u8; ATTACHMENT_PAYLOAD],
}

const _: () = assert!(size_of::<UnitSer>() == super::list::ENTRY_SIZE);
const _: () = assert!(core::mem::offset_of!(UnitSer, payload) == 16);
const _: () = assert!(size_of::<DomainSer>() == super::list::ENTRY_SIZE);
const _: () = assert!(core::mem::offset_of!(DomainSer, top) == 8);
const _: () = assert!(size_of::<AttachmentSer>() == super::list::ENTRY_SIZE);
const _: () = assert!(core::mem::offset_of!(AttachmentSer, payload) == 24);
