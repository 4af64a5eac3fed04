// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The image of the next kernel: what it says of itself, and what its command line will make of it.
//!
//! | module | question |
//! |---|---|
//! | [`bzimage`] | what can the kernel in a file take over? |
//! | [`command_line`] | what do the words on a command line switch off, and what do they change? |
//!
//! [`rules::image`](crate::rules::image) decides whether the machine may jump into it.

pub mod bzimage;
pub mod command_line;

/// The feature of taking over a kind of hardware (`UnitSer::hardware`).
pub const fn kind_feature(number: u8) -> u64 {
    1 << (number % 16)
}

/// The feature of taking over a page-table format (`FORMAT_*`).
pub const fn format_feature(number: u8) -> u64 {
    1 << (16 + number % 48)
}
