// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Safe bindings of the kernel interfaces that a live update uses.
//!
//! One type per kind of file descriptor, so that the type says which calls there are:
//!
//! | type | file | calls |
//! |---|---|---|
//! | [`LiveUpdate`] | `/dev/liveupdate` | create and retrieve sessions |
//! | [`Session`] | a LUO session | preserve, retrieve, finish |
//! | [`Iommufd`] | `/dev/iommu` | IOAS, mappings, HWPTs, mark, restore and their mappings |
//! | [`VfioDevice`] | `/dev/vfio/devices/vfioN` | bind, attach, regions, config space, interrupts |
//! | [`Memfd`] | a memfd | seal, map |
//!
//! [`kexec`] loads the next kernel and jumps, and [`image`] tells before whether it can take over what runs.
//!
//! What it does not do: no policy, no retries, no caches, no global state, and nothing after a failed call. An
//! error says which call failed with which errno; what to do about it is the caller's knowledge.
//!
//! # What it builds on
//!
//! The calls go through `rustix`. The structures of iommufd and VFIO come from `iommufd-bindings` and
//! `vfio-bindings`. The safe layers above those two are not used: `iommufd-ioctls` keeps its descriptor to itself,
//! which a LUO session and a VFIO bind both need, and `vfio-ioctls` resets and configures a device when it opens
//! it, which is what a device that lives through an update must be spared. The structures of LUO and of the three
//! iommufd calls of this project are written here, and a test compares all of them with the kernel's headers.
//!
//! # Unsafe code
//!
//! Four modules have unsafe code, each for one reason: `ioctl` (the call itself), `memory` (mapping), `kexec` (a
//! system call that rustix has not) and `descriptor` (descriptors that the kernel hands out inside structures).
//! The others only promise, once each in `arguments!`, that a structure belongs to an ioctl number.

mod descriptor;
pub mod error;
pub mod eventfd;
pub mod image;
mod ioctl;
pub mod iommufd;
pub mod kexec;
#[cfg(test)]
mod layouts;
pub mod liveupdate;
pub mod memory;
pub mod vfio;

pub use error::{Error, Result};
pub use iommufd::Iommufd;
pub use liveupdate::{LiveUpdate, Session};
pub use memory::{Mapping, Memfd, Registers};
pub use vfio::VfioDevice;
