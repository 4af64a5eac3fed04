// SPDX-License-Identifier: GPL-2.0-only

//! Glue of hitless: runs the decisions of [`hitless_core`] on the real machine.
//!
//! Three floors; each uses only what is below it.
//!
//! - Top: C asks us ([`entry`]), LUO asks us ([`luo`]).
//! - Middle: what is given to the next kernel ([`outgoing`]) and what came from the previous one
//!   ([`incoming`]), both nothing but records in pages; kinds of IOMMU ([`hardware`], each in a folder
//!   of its own), table pages ([`tables`]), what all units are left with ([`units`]), PCI functions
//!   ([`keeps`]) and the log of the previous kernel ([`previous`]).
//! - Ground: we ask C ([`seam`]); how things fail ([`failure`]); whether we run ([`running`]) and what
//!   is left out on purpose ([`part`]); memory for records ([`lent`]); the log of what is done ([`log`]).
//!
//! Happy path: LUO preserves an iommufd and a device file, which fill the records; the scrub is the
//! last thing before the jump. After it the records are fetched once, before PCI is scanned; IOMMU
//! initialization asks to adopt; device probe asks for the restored domain; LUO retrieves and finishes
//! the files; the last finish frees the records.
//!
//! Unhappy paths: what a preserve has done is owned by a value, so an error drops it and thereby
//! undoes it; unpreserve drops the same value. Records that are refused on arrival stay refused: what
//! they might speak of is blocked, and their pages are never given to anyone.

#![deny(unsafe_code)]

mod entry;
mod failure;
#[cfg(CONFIG_HITLESS_KUNIT_TEST)]
mod golden;
mod hardware;
mod incoming;
mod keeps;
mod kinds;
mod lent;
mod log;
mod luo;
mod outgoing;
mod part;
mod previous;
mod running;
mod seam;
mod tables;
mod units;
mod vtd;

/// What the lines in the kernel log begin with.
const __LOG_PREFIX: &[u8] = b"hitless\0";
