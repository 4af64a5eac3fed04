// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The files a machine is made of.

use std::path::PathBuf;

use anyhow::Result;

use crate::build::initramfs;
use crate::build::kernel::build::images;
use crate::build::kernel::config::Config;
use crate::build::sources::tools::vmm_disk;
use crate::machine::program::Program;

/// The files a machine is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// QEMU.
    pub qemu: Program,
    /// The kernel that is booted first.
    pub kernel: PathBuf,
    /// The guest's root file system; the kernels to jump to are in its `/boot`.
    pub initramfs: PathBuf,
    /// The kernel's configuration.
    pub config: Config,
    /// A disk with a VMM.
    pub disk: Option<PathBuf>,
}

/// The two generations of the kernel below `/boot` of the guest.
pub const IMAGES: [&str; 2] = ["gen1", "gen2"];

impl Parts {
    /// Builds or finds everything for machines that run this configuration of the kernel, with a QEMU that was checked.
    pub fn with_qemu(qemu: Program, config: Config) -> Result<Self> {
        Ok(Self {
            qemu,
            kernel: images(config)?.gen1,
            initramfs: initramfs::build(config)?,
            config,
            disk: None,
        })
    }

    /// The same, for machines with a virtual machine inside: QEMU is on a disk, and what we build in the initramfs.
    pub fn with_vm(self) -> Result<Self> {
        Ok(Self {
            initramfs: initramfs::with_counter(self.config)?,
            disk: Some(vmm_disk()?),
            ..self
        })
    }

    /// The same, with a QEMU that can play every profile.
    pub fn ready(config: Config) -> Result<Self> {
        Self::with_qemu(Program::for_all()?, config)
    }
}
