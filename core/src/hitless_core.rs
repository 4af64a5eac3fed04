// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Records, rules and IOMMU table code of hitless.
//!
//! This crate sees neither kernel nor operating system: it is compiled by kbuild into the kernel and
//! by cargo for tests and tools, from the same files. It allocates nothing, takes no locks, does no
//! I/O and never panics; what has to be done to a machine it returns as a value.
//!
//! | module | holds |
//! |---|---|
//! | [`abi`] | the bytes that cross the jump: layout and nothing else |
//! | [`record`] | checked values, encoded into and decoded from pages that the caller lends |
//! | [`rules`] | may it be preserved, and does it fit this machine? |
//! | [`iommu`] | page tables, and the tables of each kind of IOMMU |
//! | [`image`] | the next kernel: what its image and its command line say |
//! | [`refusal`], [`error`] | every reason to say no |

// kbuild injects `no_std` itself; saying it twice is a warning there.
#![cfg_attr(not(CONFIG_RUST), no_std)]
#![forbid(unsafe_code)]
// A panic on the incoming side is a host that does not boot.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

pub mod abi;
pub mod error;
mod facts;
pub mod image;
pub mod iommu;
pub mod record;
pub mod refusal;
pub mod rules;
