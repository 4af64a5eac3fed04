// SPDX-License-Identifier: GPL-2.0-only

//! C asks us: the functions that seams call.
//!
//! The contract is in `include/linux/hitless/`, which also says in which context each function runs.
//! Here values are converted and nothing is decided.

#![expect(unsafe_code, reason = "functions that C calls")]

mod image;
mod iommu;
mod iommufd;
mod memory;
mod pci;
mod sleep;
mod start;
mod vtd;
