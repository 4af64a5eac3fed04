// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builds the kernel: source tree, configuration, two generations of the image.
//!
//! `target/lab/linux` is the pinned release with `kernel/patches` applied and `kernel/tree` and `core` linked in;
//! `target/lab/build/<config>` is where kbuild works; `target/lab/kernel/<config>` has the results and a stamp.
//! A fingerprint of all inputs in the stamp tells whether there is anything to do.

pub mod build;
pub mod config;
pub mod harness;
pub mod off;
pub mod patches;
pub mod selftests;
pub mod tree;
