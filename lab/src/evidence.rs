// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What happened to a card, seen from outside, and the verdict on it. Nothing here believes the guest: frames are counted in
//! the machine's memory by the lab itself, and the guest's own count must agree.
//!
//! | module | what |
//! |---|---|
//! | [`generator`] | the frames, sent from outside |
//! | [`witness`], [`stray`] | what landed where it should, and where it should not |
//! | [`trace`] of [`event`]s, [`registers`], [`iommu`] | what QEMU's IOMMU and PCI say: faults, resets, translation and bus mastering switched off |
//! | [`requests`] | requests for interrupts that devices make by DMA |
//! | [`phases`] | the timeline, and which of the kernel's lines mean something |
//! | [`account`], [`judge`], [`verdict`] | the account of the frames, and the verdict |
//! | [`echoes`], [`inside`] | what a virtual machine inside a machine answers, and the verdict on that |
//! | [`worker`] | the thread of each of those that send or watch |

pub mod account;
pub mod echoes;
pub mod event;
pub mod generator;
pub mod inside;
pub mod iommu;
pub mod judge;
pub mod phases;
#[cfg(test)]
pub(crate) mod pretend;
pub mod registers;
pub mod requests;
pub mod stray;
pub mod trace;
pub mod verdict;
mod vtd;
pub mod witness;
pub mod worker;
