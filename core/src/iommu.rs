// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Tables of IOMMUs: what they say, how a live entry is changed, what is cleared before the jump and
//! what is checked after it.
//!
//! Nothing here touches hardware or memory by itself. Tables are read through [`memory::Memory`],
//! which the caller lends; everything that has to be written comes back as a step that the caller
//! carries out (kernel glue on the machine, the simulator in pretend memory).
//!
//! | module | holds |
//! |---|---|
//! | [`address`], [`bdf`], [`memory`] | checked addresses, requester ids, and the seam through which tables are read |
//! | [`pt`] | page tables, by the names that Linux's generic_pt has for their formats |
//! | [`change`], [`plan`] | facts about a device that changes its domain, and the steps of a change of a live entry, for any hardware |
//! | [`flaw`] | what is wrong with tables |
//!
//! Each kind of hardware has a folder of its own beside these, which nothing outside of it refers to
//! by name: its records are opaque to the neutral part, which asks [`crate::record::hardware::Hardware`].

pub mod address;
pub mod bdf;
pub(crate) mod bits;
pub mod change;
pub mod flaw;
pub mod kinds;
pub mod memory;
pub mod plan;
pub mod pt;
pub mod vtd;
