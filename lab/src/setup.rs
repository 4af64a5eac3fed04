// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Gets everything that is not in the repository: packages, QEMU, the Linux source, the Rust library source, bindgen.
//!
//! Each step looks at the result first and does nothing when it is there. What is fetched or built is made under a
//! temporary name and renamed, so an interrupted set-up resumes and never leaves half a thing that looks whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::lock::lock;
use crate::paths;
use crate::run::program::Program;
use crate::upstream::Upstream;

pub mod apt;
pub mod bindgen;
pub mod linux;
pub mod packages;
pub mod platform;
pub mod qemu;
pub mod rust;
pub mod sources;

/// The folder of the cache in which things are made. The cache itself may be a folder that holds other things too, so
/// nothing is ever removed there by the look of its name.
pub(crate) const WORK: &str = "hitless-work";

/// Arguments of `cargo lab setup`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// What kbuild needs beyond the programs on PATH.
#[derive(Clone, Debug)]
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

/// Runs `cargo lab setup`.
pub fn main(_args: Args) -> Result<ExitCode> {
    let qemu = Program::for_all()?;
    let tools = kernel_tools()?;
    println!("cache     {}", paths::cache()?.display());
    println!(
        "linux     {} at {}",
        tools.source.release,
        tools.source.path.display()
    );
    println!("rust-src  {}", tools.rust_library.display());
    println!("bindgen   {}", tools.bindgen.display());
    println!("qemu      {}", qemu.path.display());
    for line in tools.versions.lines() {
        println!("          {line}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Gets or finds the Linux source alone.
pub fn linux_source() -> Result<linux::Source> {
    let cache = paths::cache()?;
    let upstream = Upstream::read(&paths::repository()?)?;
    let _lock = lock(&cache)?;
    sweep_work(&cache);
    linux::source(&cache, &upstream)
}

/// Gets or finds everything a kernel build needs.
pub fn kernel_tools() -> Result<KernelTools> {
    let cache = paths::cache()?;
    let upstream = Upstream::read(&paths::repository()?)?;
    let rustc = rust::compiler()?;
    let _lock = lock(&cache)?;
    sweep_work(&cache);
    packages::ensure(&cache, packages::BUILD)?;
    let source = linux::source(&cache, &upstream)?;
    let rust_library = rust::library(&cache, &rustc)?;
    let libclang = packages::libclang()?;
    let bindgen = bindgen::ensure(&cache, &libclang)?;
    let versions = format!(
        "rustc {}\ngcc {}\nbindgen {}\nlibclang {}\n",
        rustc.full,
        packages::gcc_version()?,
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
pub fn qemu() -> Result<PathBuf> {
    if let Some(path) = qemu::found()? {
        return Ok(path);
    }
    let cache = paths::cache()?;
    let _lock = lock(&cache)?;
    qemu::install(&cache)
}

/// Gets or finds a shell for the machine's initramfs (package busybox-static).
pub fn shell() -> Result<()> {
    let cache = paths::cache()?;
    let _lock = lock(&cache)?;
    packages::ensure(&cache, packages::SHELL)
}

/// A temporary folder for something that is being made for the cache, and then renamed into it.
pub(crate) fn work_folder(cache: &Path, what: &str) -> Result<TempDir> {
    let folder = cache.join(WORK);
    fs::create_dir_all(&folder)
        .and_then(|()| {
            tempfile::Builder::new()
                .prefix(&format!("{what}-"))
                .tempdir_in(&folder)
        })
        .with_context(|| format!("no folder can be made in {}", folder.display()))
}

/// Removes what interrupted runs left behind. The caller holds the lock of the cache, so nobody is at work.
fn sweep_work(cache: &Path) {
    sweep(&cache.join(WORK), "");
}

/// Removes everything in a folder of the lab's own whose name begins so. The caller sees to it that nobody uses it.
pub(crate) fn sweep(folder: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) {
            // What cannot be removed only takes space.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leavings_are_swept_and_everything_else_stays() {
        let cache = tempfile::tempdir().unwrap();
        let left = work_folder(cache.path(), "unpack").unwrap().keep();
        fs::create_dir(left.join("root")).unwrap();
        // Names of the user's own, such as the lab once used.
        let others = ["bindgen-notes", "download-x", "linux-7.3.4", "unpack-a"];
        for name in others {
            fs::create_dir(cache.path().join(name)).unwrap();
        }
        sweep_work(cache.path());
        assert!(!left.exists());
        for name in others {
            assert!(cache.path().join(name).is_dir(), "{name}");
        }
    }
}
