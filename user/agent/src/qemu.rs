// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU's checkpoint-restart in mode `cpr-transfer`, from both of its ends.
//!
//! | module | what |
//! |---|---|
//! | [`version`] | everything that another release of QEMU may have different |
//! | [`wire`] | integers and strings as QEMU sends them, read within bounds |
//! | [`state`] | the state on the cpr channel: names of descriptors, and the ids of devices |
//! | [`roles`] | what each descriptor is, and that it goes with its name |
//! | [`stream`] | the little that is looked at in the stream on the main channel |
//! | [`target`] | being the QEMU to which an old one gives its VM |
//! | [`source`] | being the QEMU from which a new one gets it |
//!
//! An old QEMU sends the state with its descriptors on the cpr channel while the VM still runs. When that channel is closed
//! it stops the VM and sends the rest on the main channel. A new one takes both in the same order.

pub mod roles;
pub mod source;
pub mod state;
pub mod stream;
pub mod target;
pub mod version;

#[cfg(test)]
pub(crate) mod golden;
#[cfg(test)]
mod live;
#[cfg(test)]
mod loopback;
mod wire;
