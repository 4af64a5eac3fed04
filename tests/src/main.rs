// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo lab`: the lab's verbs, and the tests that run on machines, by subject.
//!
//! | module | what |
//! |---|---|
//! | [`updates`], [`lifecycle`] | the main job in each table format; lists of actions |
//! | [`repetition`], [`owner`] | update after update; a session whose owner dies |
//! | [`uapi`] | what a VMM may call, in which order, and what it is refused |
//! | [`library`] | what the library for VMMs does beside the calls in their order |
//! | [`crowd`] | more entries than a page of records holds, in every family |
//! | [`sleep`] | suspend, hibernation and kexec jump while anything is preserved or not finished |
//! | [`log`] | what the old kernel did can be read in the new one |
//! | [`isolation`], [`stopped`] | what is not preserved, and what the new kernel does not take over |
//! | [`twins`] | each part left out shows the loss that it prevents |
//! | [`vm`] | stock QEMU with a virtual machine and a passed-through card |
//! | [`debug`] | a kernel that watches itself |
//! | [`selftests`], [`harness`] | the kernel tree's own tests, of LUO and of iommufd and VFIO |
//! | [`checks`], [`trouble`] | `cargo lab check`; what goes wrong in set-up and running |
//! | [`agent`] | the agent with real QEMUs, on this machine |
//! | [`host`] | `cargo test` over the workspace |
//! | [`mod@test`], [`outcome`], [`runner`] | what a test is, what its run has to be, and who runs them |

use std::process::ExitCode;

mod agent;
mod checks;
mod corrupt;
mod crowd;
mod debug;
mod faults;
mod frozen;
mod harness;
mod host;
mod image;
mod isolation;
mod library;
mod lifecycle;
mod log;
mod outcome;
mod owner;
mod repetition;
mod requests;
mod runner;
mod selftests;
mod sleep;
mod steps;
mod stopped;
mod tenants;
mod test;
mod trouble;
mod twins;
mod uapi;
mod updates;
mod vm;
mod vmms;

fn main() -> ExitCode {
    hitless_lab::cli::main(runner::main, vm::demo)
}
