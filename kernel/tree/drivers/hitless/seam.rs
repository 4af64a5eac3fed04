// SPDX-License-Identifier: GPL-2.0-only

//! The way out to C: what seams are asked and told, as safe functions.
//!
//! The contract is in `include/linux/hitless/`.

#![expect(unsafe_code, reason = "calls of C")]

pub(crate) mod image;
pub(crate) mod iommu;
pub(crate) mod iommufd;
pub(crate) mod pci;
pub(crate) mod vfio;
pub(crate) mod vtd;
