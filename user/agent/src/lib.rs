// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What holds virtual machines through an update of the kernel for VMMs that do not know of one.
//!
//! | module | what |
//! |---|---|
//! | [`qemu`] | QEMU's checkpoint-restart: what it sends, and what its successor has to be sent |
//! | [`socket`] | bytes with descriptors over Unix sockets, within limits, and who is at the other end |
//! | [`refusal`] | every reason to say no |
//!
//! The library has no unsafe code and believes nothing that it is sent: one constructor checks, and the types that it makes
//! carry the proof.

pub mod qemu;
pub mod refusal;
pub mod socket;
