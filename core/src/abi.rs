// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The bytes that cross the jump: layout and nothing else.
//!
//! Every record is one page of 4096 bytes that the outgoing kernel fills and hands over; numbers are
//! little-endian. Each begins with a [`HeaderSer`](header::HeaderSer), but for the list of tables, which
//! is a part of the IOMMU records and changes with their version. Any change of a layout that an older
//! reader would misread needs a bit in the header's `required` word or, where the family as a whole
//! changes, another compatible string. Golden bytes of every released version stay in
//! `core/testdata/abi` and are decoded or refused by all later versions.
//!
//! `docs/abi.md` is made from these files by `core/tests/abi_doc.rs`.
//!
//! | family | compatible string | found through |
//! |---|---|---|
//! | [`pci`] | `hitless-pci-v1` | LUO's file-lifecycle-bound data |
//! | [`iommu`] | `hitless-iommu-v1` | LUO's file-lifecycle-bound data |
//! | [`iommufd`] | `hitless-iommufd-v1` | LUO's file, and `DomainSer::iommufd` |
//! | [`vfio`] | `hitless-vfio-pci-v1` | LUO's file |
//! | [`tables`] | none of its own | `DomainSer::list` |

pub mod header;
pub mod iommu;
pub mod iommufd;
pub mod pci;
pub mod tables;
pub mod vfio;

/// Bytes of a page that holds a record.
pub const PAGE_SIZE: usize = 4096;

/// A page that holds a record.
pub type Page = [u8; PAGE_SIZE];
