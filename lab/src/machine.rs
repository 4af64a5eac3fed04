// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A machine: what it is, as data, and how one runs.
//!
//! | module | what |
//! |---|---|
//! | [`profile`], [`topology`] | what the machine is, and where its cards are |
//! | [`program`], [`qemu`] | which QEMU there is; the only place that knows its flags |
//! | [`vtd`] | what one kind of IOMMU is called |
//! | [`vmm`] | the VMM inside a machine, and its flags |
//! | [`parts`] | the files a machine is made of |
//! | [`running`], [`process`], [`room`] | a running machine: started, watched, never left behind |
//! | [`pace`], [`priority`] | what this host can take; who goes first on a busy one |
//! | [`console`], [`monitor`], [`ram`] | the kernel's lines with host times; QEMU's monitor; the memory seen from outside |
//! | [`guest`] | orders to the guest program and its reports |
//! | [`directory`], [`clock`] | the logs, and the time of everything in them |

pub mod clock;
pub mod console;
pub mod directory;
pub mod guest;
pub mod monitor;
pub mod pace;
pub mod parts;
pub mod priority;
pub mod process;
pub mod profile;
pub mod program;
pub mod qemu;
pub mod ram;
pub mod room;
pub mod running;
pub mod topology;
pub mod vmm;
pub mod vtd;
