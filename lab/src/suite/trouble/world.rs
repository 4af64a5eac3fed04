// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A cache, a repository and programs of a test's own.

use std::fs;
use std::os::unix::fs::{chown, symlink, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::call::{Call, NOBODY};
use crate::setup::{self, KernelTools};
use crate::{command, paths};

/// A place for `cargo lab`. The host is set up: whatever is missing in a test is what the test took away.
#[derive(Debug)]
pub(super) struct World {
    /// What the host has.
    pub(super) tools: KernelTools,
    /// The QEMU that the host has.
    pub(super) qemu: PathBuf,
    folder: TempDir,
}

impl World {
    /// One with an empty cache, and a repository that says which Linux is wanted and nothing else.
    pub(super) fn new() -> Result<Self> {
        let qemu = setup::qemu()?;
        let tools = setup::kernel_tools()?;
        let place = paths::output()?.join("trouble");
        fs::create_dir_all(&place)?;
        let folder = tempfile::Builder::new()
            .prefix("world-")
            .tempdir_in(&place)
            .with_context(|| format!("no folder can be made in {}", place.display()))?;
        let world = Self {
            tools,
            qemu,
            folder,
        };
        for name in ["cache", "repository/kernel", "repository/target/lab", "bin"] {
            fs::create_dir_all(world.path(name))?;
        }
        let pin = "kernel/UPSTREAM";
        fs::copy(
            paths::repository()?.join(pin),
            world.path("repository").join(pin),
        )?;
        Ok(world)
    }

    /// One whose cache has what was built and fetched on the host, but for Linux.
    pub(super) fn with_tools() -> Result<Self> {
        let world = Self::new()?;
        world.link_cache("tools")?;
        world.link_cache("rust-src-")?;
        Ok(world)
    }

    /// Links what the host's cache has of names that begin so.
    pub(super) fn link_cache(&self, prefix: &str) -> Result<()> {
        for entry in fs::read_dir(paths::cache()?)?.flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with(prefix) {
                symlink(entry.path(), self.cache().join(name))?;
            }
        }
        Ok(())
    }

    /// A path in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its cache.
    pub(super) fn cache(&self) -> PathBuf {
        self.path("cache")
    }

    /// Everything in the cache whose name begins so.
    pub(super) fn cached(&self, prefix: &str) -> Result<Vec<PathBuf>> {
        Ok(named(fs::read_dir(self.cache())?, prefix))
    }

    /// What is being made for the cache, or was left there.
    pub(super) fn at_work(&self, prefix: &str) -> Vec<PathBuf> {
        fs::read_dir(self.cache().join(setup::WORK))
            .map(|entries| named(entries, prefix))
            .unwrap_or_default()
    }

    /// Lets a user without rights work in it.
    pub(super) fn give_away(&self) -> Result<()> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        for name in ["cache", "repository/target/lab"] {
            chown(self.path(name), Some(NOBODY), Some(NOBODY))
                .with_context(|| format!("{name} can not be given away"))?;
        }
        Ok(())
    }

    /// The least that passes for an unpacked Linux.
    pub(super) fn linux(&self, version: &str) -> Result<PathBuf> {
        let tree = self.path(&format!("linux-{version}"));
        fs::create_dir_all(&tree)?;
        fs::write(tree.join("Makefile"), makefile(version))?;
        Ok(tree)
    }

    /// The same of the wanted release.
    pub(super) fn good_linux(&self) -> Result<PathBuf> {
        self.linux(&self.tools.source.release.to_string())
    }

    /// What a set-up says that has come to its end.
    pub(super) fn all_set(&self) -> String {
        format!("linux     {} at ", self.tools.source.release)
    }

    /// Where a copy of `cargo lab` may be, for a user without rights.
    pub(super) fn copy_of_lab(&self) -> PathBuf {
        self.path("lab")
    }

    /// A program of few words, in place of the host's one of that name. Returns the folder.
    pub(super) fn program(&self, name: &str, words: &str) -> Result<PathBuf> {
        let folder = self.path("bin");
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\n{words}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(folder)
    }

    /// Gives it kernel parts as the repository has them.
    pub(super) fn copy_kernel(&self) -> Result<()> {
        let repository = paths::repository()?;
        command::output(
            Command::new("cp")
                .arg("-a")
                .arg(repository.join("kernel"))
                .arg(self.path("repository")),
        )?;
        Ok(symlink(
            repository.join("core"),
            self.path("repository/core"),
        )?)
    }

    /// `cargo lab` in it.
    pub(super) fn lab(&self, arguments: &[&str]) -> Call {
        Call::new(arguments)
            .set("HITLESS_CACHE", self.cache())
            .set("CARGO_MANIFEST_DIR", self.path("repository"))
            .unset("HITLESS_LINUX")
    }

    /// `cargo lab setup` in it, with this Linux.
    pub(super) fn setup_with(&self, linux: &Path) -> Call {
        self.lab(&["setup"]).set("HITLESS_LINUX", linux)
    }
}

fn named(entries: fs::ReadDir, prefix: &str) -> Vec<PathBuf> {
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect()
}

/// The head of a kernel's Makefile.
fn makefile(version: &str) -> String {
    let names = ["VERSION", "PATCHLEVEL", "SUBLEVEL"];
    names
        .iter()
        .zip(version.split('.'))
        .map(|(name, number)| format!("{name} = {number}\n"))
        .collect()
}
