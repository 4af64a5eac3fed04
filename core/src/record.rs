// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Records: checked values, and how they are written into and read out of lent pages.
//!
//! The pages are the truth: what is preserved is written into them at once, and what is asked is read
//! out of them. All families are entries over a chain of pages (`list.rs`) in memory that the caller
//! lends ([`lender`]); there is no other bound than that memory. Names are found through an index in
//! lent memory, so that a look-up takes a number of steps that grows with the logarithm of the number of
//! entries.
//!
//! The outgoing kernel makes records with `create` and adds to them. The incoming kernel gets at none of
//! them by itself: [`set::Records`] decodes all families, and answers for what agrees.
//!
//! | module | holds |
//! |---|---|
//! | [`pci`] | devices and the bridges above them |
//! | [`iommu`] | units, domains and attachments; values in [`attachment`], hardware behind [`hardware`] |
//! | [`iommufd`] | HWPTs, memory files and mappings of an iommufd |
//! | [`vfio`] | a VFIO device file |
//! | [`set`] | all of them together |
//! | [`log`] | what a kernel did, and when: it stands for itself |

pub mod attachment;
mod checksum;
pub mod hardware;
mod index;
pub mod iommu;
pub mod iommufd;
pub mod lender;
mod list;
pub mod log;
pub mod pci;
pub mod set;
pub mod vfio;

#[cfg(test)]
mod tests;
