// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a machine needs to start beside QEMU: kernel images and an initramfs. Made on demand, reused when nothing changed.
//!
//! Each function does whatever set-up and building is missing, with progress on stderr, and costs little when nothing
//! is. They may be called from several processes at once: a lock makes the second wait.

use std::path::PathBuf;

use anyhow::Result;

pub use crate::kernel::{Config, Images};

/// The LUO selftests of the kernel tree which [`selftest_initramfs`] takes.
pub const SELFTESTS: [&str; 4] = [
    "luo_kexec_simple",
    "luo_multi_session",
    "luo_stress_sessions",
    "luo_stress_files",
];

/// Everything for one kind of machine.
#[derive(Clone, Debug)]
pub struct Artifacts {
    /// The kernel's images.
    pub images: Images,
    /// Uncompressed cpio: `/init` (the guest), `/boot/gen1`, `/boot/gen2` (the images), `/selftests/luo_*`,
    /// `/bin/busybox` where the host has a static one.
    pub initramfs: PathBuf,
}

/// Builds or finds everything for machines that run this configuration.
pub fn ready(config: Config) -> Result<Artifacts> {
    let images = images(config)?;
    let initramfs = initramfs(config)?;
    Ok(Artifacts { images, initramfs })
}

/// Builds or finds the two generations of the kernel image.
pub fn images(config: Config) -> Result<Images> {
    crate::kernel::images(config)
}

/// Builds or finds the initramfs described at [`Artifacts::initramfs`].
pub fn initramfs(config: Config) -> Result<PathBuf> {
    crate::guest_image::build(config)
}

/// An initramfs for one of [`SELFTESTS`], laid out as the kernel tree's own `vmtest.sh` does it, with the tree's own
/// unmodified `init.c`: boot it with `liveupdate=on kho=on panic=-1` and look for `TEST PASSED` on the console.
/// The machine jumps once by itself and then reboots (use `-no-reboot`).
pub fn selftest_initramfs(config: Config, test: &str) -> Result<PathBuf> {
    crate::kernel::selftests::initramfs(config, test)
}
