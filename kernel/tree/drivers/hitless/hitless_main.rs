// SPDX-License-Identifier: GPL-2.0-only

//! Glue of hitless: runs the decisions of [`hitless_core`] on the real machine.
//!
//! Seams in C ask through [`entry`], which is also the way out to them; nothing else here touches C.
//! What is given to the next kernel is kept in [`outgoing`], what came from the previous one in
//! [`incoming`]; both are nothing but records in pages, and every answer is read out of them.
//!
//! Happy path: LUO preserves an iommufd ([`iommufd`]) and a device file ([`vfio`]), which fill the
//! records; the scrub ([`vtd`]) is the last thing before the jump. After it the records are fetched
//! once, before PCI is scanned; IOMMU initialization asks to adopt ([`vtd`]); device probe asks for
//! the attachment; LUO retrieves and finishes the files; the last finish frees the records.
//!
//! Unhappy paths: what a preserve has done is owned by a value, so an error drops it and thereby
//! undoes it; unpreserve drops the same value. Records that are refused on arrival stay refused: what
//! they might speak of is blocked, and their pages are never given to anyone.

#![deny(unsafe_code)]

mod entry;
mod errno;
mod exec;
#[cfg(CONFIG_HITLESS_KUNIT_TEST)]
mod golden;
mod incoming;
mod iommufd;
mod outgoing;
mod records;
mod tables;
mod vfio;
mod vtd;

/// What the lines in the kernel log begin with.
const __LOG_PREFIX: &[u8] = b"hitless\0";
