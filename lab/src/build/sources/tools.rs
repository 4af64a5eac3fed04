// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Everything together: gets or finds what a build or a machine needs.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::{bindgen, linux, packages, qemu, rust, vmm, work};
use crate::command::output;
use crate::lock::lock;
use crate::paths;
use crate::upstream::Upstream;

/// What kbuild needs beyond the programs on PATH.
#[derive(Clone, Debug, Default)]
pub struct KernelTools {
    /// The Linux release.
    pub source: linux::Source,
    /// `library` of the Rust source, of rustc's own version.
    pub rust_library: PathBuf,
    /// The bindgen program.
    pub bindgen: PathBuf,
    /// The folder with libclang, for bindgen.
    pub libclang: PathBuf,
    /// One line per tool with its version: another line, another kernel.
    pub versions: String,
}

/// Gets or finds the Linux source alone.
pub fn linux_source() -> Result<linux::Source> {
    let cache = paths::cache()?;
    let upstream = Upstream::read(&paths::repository()?)?;
    let _lock = lock(&cache)?;
    work::sweep(&cache);
    linux::source(&cache, &upstream)
}

/// Gets or finds everything a kernel build needs.
pub fn kernel_tools() -> Result<KernelTools> {
    let cache = paths::cache()?;
    let upstream = Upstream::read(&paths::repository()?)?;
    let rustc = output(Command::new("rustc").arg("--version"))
        .context("rustc does not run: install Rust (rustup) first")?;
    let _lock = lock(&cache)?;
    work::sweep(&cache);
    let libclang = packages::for_build(&cache)?;
    let source = linux::source(&cache, &upstream)?;
    let rust_library = rust::library()?;
    let bindgen = bindgen::ensure(&cache, &libclang)?;
    let gcc = output(Command::new("gcc").arg("-dumpfullversion"))?;
    let versions = format!(
        "{rustc}gcc {gcc}bindgen {}\nlibclang {}\n",
        bindgen::VERSION,
        libclang.display()
    );
    Ok(KernelTools {
        source,
        rust_library,
        bindgen,
        libclang,
        versions,
    })
}

/// Gets or finds QEMU.
pub fn emulator() -> Result<PathBuf> {
    if let Ok(path) = qemu::found()? {
        return Ok(path);
    }
    let cache = paths::cache()?;
    let _lock = lock(&cache)?;
    qemu::install(&cache)
}

/// Gets or finds the disk with the VMM that runs inside a machine.
pub fn vmm_disk() -> Result<PathBuf> {
    let cache = paths::cache()?;
    let _lock = lock(&cache)?;
    vmm::image(&cache)
}

/// Gets or finds the libraries that the kernel tree's own selftests of iommufd and VFIO use.
pub fn selftest_libraries() -> Result<()> {
    let cache = paths::cache()?;
    let _lock = lock(&cache)?;
    packages::for_selftests(&cache)
}

/// Gets or finds a shell for the machine's initramfs.
pub fn shell() -> Result<()> {
    let cache = paths::cache()?;
    let _lock = lock(&cache)?;
    packages::for_shell(&cache)
}
