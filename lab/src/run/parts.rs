// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The files a machine is made of.

use std::path::PathBuf;

use anyhow::Result;

use crate::artifacts::{self, Config};
use crate::run::program::Program;

/// The files a machine is made of.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    /// QEMU.
    pub(crate) qemu: Program,
    /// The kernel that is booted first.
    pub(crate) kernel: PathBuf,
    /// The guest's root file system; the kernels to jump to are in its `/boot`.
    pub(crate) initramfs: PathBuf,
    /// The kernel's configuration.
    pub(crate) config: Config,
}

/// The two generations of the kernel below `/boot` of the guest.
pub(crate) const IMAGES: [&str; 2] = ["gen1", "gen2"];

impl Parts {
    /// Builds or finds everything for machines that run this configuration of the kernel.
    ///
    /// # Errors
    ///
    /// Whatever set-up or build failed.
    pub(crate) fn ready(config: Config) -> Result<Self> {
        let qemu = Program::for_all()?;
        let made = artifacts::ready(config)?;
        Ok(Self {
            qemu,
            kernel: made.images.gen1,
            initramfs: made.initramfs,
            config,
        })
    }
}
