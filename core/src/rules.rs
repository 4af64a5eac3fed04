// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Pure decisions: may it be preserved, and does it fit this machine?

pub mod arrival;
pub mod domain_id;
pub mod fits;
pub mod preserve;
pub mod records;
pub mod replace;
pub mod tables;

#[cfg(test)]
mod tests;
