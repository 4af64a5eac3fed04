// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo lab <verb>`: fetches the kernel source, builds kernel and guest, boots machines, runs demo, tests and checks.
//!
//! The lab knows the kernel as files and serial lines only; it links neither `hitless_core` nor `hitless_sim`.
//! Everything made here goes below `target/lab` (see [`paths`]); everything fetched goes below the cache.
//!
//! Verbs are at the root, and what they stand on is in folders. A file uses files of its own floor and of those below it:
//!
//! | floor | what |
//! |---|---|
//! | [`cli`], [`setup`], [`kernel`], [`boot`], [`demo`], [`mod@test`], [`check`], [`export`] | verbs; `tests/` stands beside them |
//! | [`play`] | a machine under traffic, and the steps of an update |
//! | [`evidence`] | what happened to a card, and the verdict |
//! | [`machine`] | profiles, QEMU, a running machine |
//! | [`build`] | what is fetched and built |
//! | [`paths`], [`upstream`], [`fingerprint`], [`command`], [`lock`], [`progress`], [`trouble`] | the ground |

pub mod boot;
pub mod build;
pub mod check;
pub mod cli;
pub mod command;
pub mod demo;
pub mod evidence;
pub mod export;
pub mod fingerprint;
pub mod kernel;
pub mod lock;
pub mod machine;
pub mod paths;
pub mod play;
pub mod progress;
pub mod setup;
pub mod test;
pub mod trouble;
pub mod upstream;
