// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs a machine and judges what happened to its card.
//!
//! | module | what |
//! |---|---|
//! | [`profile`], [`topology`] | what the machine is, as data, and where its cards are |
//! | [`program`], [`qemu`] | which QEMU there is; the only place that knows its flags |
//! | [`machine`] | a running machine: started, watched, never left behind |
//! | [`pace`] | what this host can take |
//! | [`priority`] | who goes first on a busy host |
//! | [`console`], [`markers`] | the kernel's lines with host times, and which of them mean something |
//! | [`guest`] | orders to the guest program and its reports |
//! | [`generator`] | the frames, sent from outside |
//! | [`ram`], [`witness`], [`stray`] | the machine's memory seen from outside: what landed where it should, and where it should not |
//! | [`trace`], [`registers`] | what QEMU's VT-d and PCI say: faults, resets, translation and bus mastering switched off |
//! | [`phases`], [`judge`] | the timeline and the verdict |
//! | [`scene`], [`update`] | all of it together, and the steps of an update |
//!
//! Nothing here believes the guest: frames are counted in the machine's memory by the lab itself, and the guest's
//! own count must agree.

pub(crate) mod clock;
pub(crate) mod console;
pub(crate) mod directory;
pub(crate) mod generator;
pub(crate) mod guest;
pub(crate) mod judge;
pub(crate) mod machine;
pub(crate) mod markers;
pub(crate) mod monitor;
pub(crate) mod pace;
pub(crate) mod parts;
pub(crate) mod phases;
pub(crate) mod priority;
pub(crate) mod profile;
pub(crate) mod program;
pub(crate) mod qemu;
pub(crate) mod ram;
pub(crate) mod registers;
pub(crate) mod scene;
pub(crate) mod stray;
pub(crate) mod topology;
pub(crate) mod trace;
pub(crate) mod update;
pub(crate) mod witness;
