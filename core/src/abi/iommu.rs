// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! IOMMU units, the domains whose tables are handed over, and which device is attached to which.
//!
//! Compatible string `hitless-iommu-v1`. One page. Written at preserve, read by the incoming kernel
//! from IOMMU initialization until the last restored domain is gone. A domain's key is the number of
//! its entry, counted from 1.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::header::HeaderSer;

/// Magic number.
pub const MAGIC: [u8; 8] = *b"hitl-iom";
/// Version.
pub const VERSION: u32 = 1;
/// Bits of `required` that are known: none yet.
pub const KNOWN_REQUIRED: u64 = 0;
/// Units that the page has room for.
pub const UNITS: usize = 8;
/// Domains that the page has room for.
pub const DOMAINS: usize = 24;
/// Attachments that the page has room for.
pub const ATTACHMENTS: usize = 48;

/// `UnitSer::mode`: free.
pub const MODE_FREE: u32 = 0;
/// `UnitSer::mode`: legacy mode.
pub const MODE_LEGACY: u32 = 1;
/// `UnitSer::mode`: scalable mode.
pub const MODE_SCALABLE: u32 = 2;

/// `DomainSer::format`: free.
pub const FORMAT_FREE: u32 = 0;
/// `DomainSer::format`: second-stage page table.
pub const FORMAT_SECOND_STAGE: u32 = 1;
/// `DomainSer::format`: first-stage page table.
pub const FORMAT_FIRST_STAGE: u32 = 2;

/// `DomainSer::flags`: hardware does not snoop the tables.
pub const DOMAIN_INCOHERENT: u32 = 1;
/// `DomainSer::flags`: snooping of the domain's accesses is forced.
pub const DOMAIN_SNOOP: u32 = 2;

/// `AttachmentSer::flags`: the device's entry lets it use a device TLB.
pub const ATTACHMENT_DEVICE_TLB: u16 = 1;
/// `AttachmentSer::flags`: page-walk snoop (PWSNP) is set in its PASID entry.
pub const ATTACHMENT_WALK_SNOOP: u16 = 2;
/// `AttachmentSer::flags`: page snoop (PGSNP) is set in its PASID entry.
pub const ATTACHMENT_PAGE_SNOOP: u16 = 4;

/// A VT-d unit.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct UnitSer {
    /// Physical address of the register set; names the unit.
    pub register_base: U64,
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
    /// PCI segment of the devices behind it.
    pub segment: U32,
}

/// A domain.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DomainSer {
    /// `FORMAT_*`.
    pub format: U32,
    /// Levels of the page table: 3 to 5 in second stage, 4 or 5 in first stage.
    pub levels: U32,
    /// `DOMAIN_*`.
    pub flags: U32,
    /// 0.
    pub reserved: U32,
    /// Physical address of the top table.
    pub top: U64,
    /// Physical address of the first page of the list of tables.
    pub list: U64,
    /// Tables in the list.
    pub tables: U64,
    /// Physical address of the record of the iommufd that has the HWPT.
    pub iommufd: U64,
    /// The HWPT's token.
    pub token: U64,
}

/// A device's attachment to a domain.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct AttachmentSer {
    /// The unit.
    pub register_base: U64,
    /// Physical address of the context table that has the device's entry.
    pub context_table: U64,
    /// Physical address of the PASID directory; 0 in legacy mode.
    pub pasid_directory: U64,
    /// Physical address of the PASID table that has entry 0; 0 in legacy mode.
    pub pasid_table: U64,
    /// PCI segment.
    pub segment: U32,
    /// PASIDs that the directory has room for; 0 in legacy mode.
    pub max_pasid: U32,
    /// Bus, device and function.
    pub bdf: U16,
    /// Domain id in the device's entry.
    pub domain_id: U16,
    /// Key of the domain; 0: this entry is free.
    pub domain: U16,
    /// `ATTACHMENT_*`.
    pub flags: U16,
}

/// The page.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IommuSer {
    /// Header.
    pub header: HeaderSer,
    /// 0.
    pub reserved: [u8; 32],
    /// Units, in no order.
    pub units: [UnitSer; UNITS],
    /// Domains; the key of the first is 1.
    pub domains: [DomainSer; DOMAINS],
    /// Attachments, in no order.
    pub attachments: [AttachmentSer; ATTACHMENTS],
}

const _: () = assert!(size_of::<UnitSer>() == 48);
const _: () = assert!(core::mem::offset_of!(UnitSer, segment) == 44);
const _: () = assert!(size_of::<DomainSer>() == 56);
const _: () = assert!(core::mem::offset_of!(DomainSer, top) == 16);
const _: () = assert!(size_of::<AttachmentSer>() == 48);
const _: () = assert!(core::mem::offset_of!(AttachmentSer, bdf) == 40);
const _: () = assert!(size_of::<IommuSer>() == super::PAGE_SIZE);
const _: () = assert!(core::mem::offset_of!(IommuSer, domains) == 448);
const _: () = assert!(core::mem::offset_of!(IommuSer, attachments) == 1792);
