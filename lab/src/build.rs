// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is fetched and built before a machine can start.

pub mod archive;
pub mod initramfs;
pub mod kernel;
pub mod sources;
