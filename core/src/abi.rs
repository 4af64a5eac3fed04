// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The bytes that cross the jump: layout and nothing else.
//!
//! Every record is a chain of pages of 4096 bytes that the outgoing kernel fills and hands over; numbers
//! are little-endian. Each page begins with a [`HeaderSer`](header::HeaderSer) and holds entries of 64
//! bytes ([`list`]). Any change of a layout that an older reader would misread needs a bit in the
//! header's `required` word or, where the family as a whole changes, another compatible string. Golden
//! bytes of every released version stay in `core/testdata/abi` and are decoded or refused by all later
//! versions.
//!
//! `docs/abi.md` is made from these files by `core/tests/abi_doc.rs`.
//!
//! An image of a kernel says what it can take over ([`image`]).
//!
//! | family | compatible string | found through |
//! |---|---|---|
//! | [`pci`] | `hitless-pci-v1` | LUO's file-lifecycle-bound data |
//! | [`iommu`] | `hitless-iommu-v1` | LUO's file-lifecycle-bound data |
//! | [`iommufd`] | `hitless-iommufd-v1` | LUO's file, and `DomainSer::iommufd` |
//! | [`vfio`] | `hitless-vfio-pci-v1` | LUO's file |
//! | [`log`] | `hitless-log-v1` | LUO's file-lifecycle-bound data |

pub mod header;
pub mod image;
pub mod iommu;
pub mod iommufd;
pub mod list;
pub mod log;
pub mod pci;
pub mod vfio;
pub mod vtd;
