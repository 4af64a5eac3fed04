// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Pure decisions: may it be preserved, and does it fit this machine?

pub mod image;
pub mod iommufd;
pub mod memory;
pub mod pci;
pub mod sleep;
pub mod vfio;
