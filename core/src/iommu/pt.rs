// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Page tables.
//!
//! All formats here are radix trees of 4 KiB tables with 512 entries of 64 bits. Level 1 tables hold
//! leaves only; levels 2 and 3 may hold leaves of 2 MiB and 1 GiB; the others hold tables only.
//!
//! | module | holds |
//! |---|---|
//! | [`vtdss`], [`x86_64`] | the formats, named as generic_pt names them |
//! | [`format`] | any of them |
//! | [`table`] | the page table of a domain |
//! | [`walk`], [`translate`] | which pages it consists of, and where an address goes |
//! | [`handover`] | handing over and releasing these pages |

pub mod entry;
pub mod format;
pub mod handover;
pub mod table;
pub mod translate;
pub mod vtdss;
pub mod walk;
pub mod x86_64;
