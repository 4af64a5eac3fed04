// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo lab <verb>`: fetches the kernel source, builds kernel and guest, boots machines, runs demo, tests and checks.
//!
//! The lab knows the kernel as files and serial lines only; it links neither `hitless_core` nor `hitless_sim`.
//! Everything made here goes below `target/lab` (see [`paths`]); everything fetched goes below the cache.

pub mod artifacts;
pub mod boot;
pub mod check;
pub mod cli;
pub mod command;
pub mod demo;
pub mod export;
pub mod fingerprint;
pub mod guest_image;
pub mod kernel;
pub mod lock;
pub mod paths;
pub mod progress;
pub mod run;
pub mod setup;
pub mod suite;
pub mod trouble;
pub mod upstream;
