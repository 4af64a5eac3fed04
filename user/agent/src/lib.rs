// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What holds virtual machines through an update of the kernel for VMMs that do not know of one.
//!
//! | module | what |
//! |---|---|
//! | [`keeper`] | all VMs by name, and what can be done with each |
//! | [`vm`] | one VM on its way: given, held, retrieved, handed on |
//! | [`manifest`] | what of a VM has to be known after the jump |
//! | [`qemu`] | QEMU's checkpoint-restart: what it sends, and what its successor has to be sent |
//! | [`socket`] | bytes with descriptors over Unix sockets, within limits, and who is at the other end |
//! | [`refusal`] | every reason to say no |
//!
//! The library has no unsafe code and believes nothing that it is sent: one constructor checks, and the types that it makes
//! carry the proof.

pub mod control;
mod interrupts;
pub mod keeper;
pub mod manifest;
pub mod qemu;
pub mod refusal;
pub mod socket;
pub mod vm;
