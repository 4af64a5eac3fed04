// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo lab setup`: this very program, once more, with a cache and a repository of its own, in another environment.

use std::env;
use std::fs;
use std::os::unix::fs::{chown, symlink, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{ensure, Context, Result};
use hitless_lab::build::sources::tools::kernel_tools;
use hitless_lab::paths;
use tempfile::TempDir;

/// A user who owns nothing, and may read everything, for the checkout and the toolchain may be root's.
const NOBODY: [&str; 6] = [
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=-all,+dac_read_search",
    "--bounding-set=-all,+dac_read_search",
];

/// A place for `cargo lab`. The host is set up: whatever is missing in a test is what the test took away.
#[derive(Debug)]
pub(super) struct World {
    folder: TempDir,
    /// Words before the call.
    entry: Vec<String>,
    linux: Option<PathBuf>,
}

impl World {
    /// One with an empty cache, and a repository that says which Linux is wanted and nothing else.
    pub(super) fn new() -> Result<Self> {
        kernel_tools()?;
        let place = paths::output()?.join("trouble");
        fs::create_dir_all(&place)?;
        let world = Self {
            folder: tempfile::tempdir_in(place)?,
            entry: Vec::new(),
            linux: None,
        };
        for name in ["cache", "repository/kernel", "repository/target/lab", "bin"] {
            fs::create_dir_all(world.path(name))?;
        }
        let pin = "kernel/UPSTREAM";
        let copy = world.path("repository").join(pin);
        fs::copy(paths::repository()?.join(pin), copy)?;
        Ok(world)
    }

    /// One whose cache has what was built on the host, and this for Linux: the least that passes for it.
    pub(super) fn with_linux(version: &str) -> Result<Self> {
        let mut world = Self::new()?;
        symlink(paths::cache()?.join("tools"), world.path("cache/tools"))?;
        let tree = world.path(&format!("linux-{version}"));
        fs::create_dir_all(&tree)?;
        let names = ["VERSION", "PATCHLEVEL", "SUBLEVEL"].iter();
        let lines = names
            .zip(version.split('.'))
            .map(|(name, number)| format!("{name} = {number}\n"));
        fs::write(tree.join("Makefile"), lines.collect::<String>())?;
        world.linux = Some(tree);
        Ok(world)
    }

    /// A path in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// With a program of few words before the host's one of that name.
    pub(super) fn with_program(self, name: &str, words: &str) -> Result<Self> {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{words}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(self)
    }

    /// Where the host has no network.
    pub(super) fn without_network(mut self) -> Self {
        self.entry = ["unshare", "--net", "--"].map(str::to_owned).to_vec();
        self
    }

    /// After these commands of a shell, which change the mounts that only the call sees.
    pub(super) fn after(mut self, mounts: &str) -> Self {
        let script = format!("{mounts} && exec \"$@\"");
        let words = ["unshare", "--mount", "sh", "-e", "-c", &script, "sh"];
        self.entry = words.map(str::to_owned).to_vec();
        self
    }

    /// `cargo lab setup`, by a user who may write nothing but what is made in this world.
    pub(super) fn setup_by_nobody(&self) -> Result<Said> {
        // This user does not see the program as somebody's process.
        let copy = self.path("lab");
        fs::copy("/proc/self/exe", &copy)?;
        if !rustix::process::geteuid().is_root() {
            return self.run(&[], &copy);
        }
        for name in ["cache", "repository/target/lab"] {
            chown(self.path(name), Some(65534), Some(65534))?;
        }
        self.run(&NOBODY, &copy)
    }

    /// `cargo lab setup`.
    pub(super) fn setup(&self) -> Result<Said> {
        let program = format!("/proc/{}/exe", std::process::id());
        self.run(&[], Path::new(&program))
    }

    fn run(&self, user: &[&str], program: &Path) -> Result<Said> {
        let mut path = self.path("bin").into_os_string();
        path.push(":");
        path.push(env::var_os("PATH").unwrap_or_default());
        // It must not outlive a test that is killed.
        let holder = ["setpriv", "--pdeathsig", "KILL"];
        let mut words = self.entry.iter().map(String::as_str).chain(holder);
        let mut command = Command::new(words.next().unwrap_or_default());
        command
            .args(words)
            .args(user)
            .arg("--")
            .arg(program)
            .arg("setup")
            .env("HITLESS_CACHE", self.path("cache"))
            .env("CARGO_MANIFEST_DIR", self.path("repository"))
            .env("PATH", path)
            .env_remove("HITLESS_QEMU")
            .env_remove("HITLESS_LINUX")
            .envs(self.linux.iter().map(|tree| ("HITLESS_LINUX", tree)))
            .stdin(Stdio::null());
        let output = command
            .output()
            .context("util-linux is not there: setpriv or unshare can not be started")?;
        Ok(Said {
            status: output.status.code(),
            all: String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        })
    }
}

/// What a call said.
#[derive(Debug)]
pub(super) struct Said {
    status: Option<i32>,
    /// Output and errors.
    pub(super) all: String,
}

impl Said {
    /// It has to have failed, with all of these words.
    pub(super) fn fails(&self, words: &[&str]) -> Result<()> {
        self.ends(1, words)
    }

    /// It has to have succeeded, with all of these words.
    pub(super) fn succeeds(&self, words: &[&str]) -> Result<()> {
        self.ends(0, words)
    }

    fn ends(&self, wanted: i32, words: &[&str]) -> Result<()> {
        let Self { status, all } = self;
        ensure!(
            *status == Some(wanted),
            "`cargo lab setup` should have ended with {wanted}, and ended with {status:?}:\n{all}"
        );
        says(all, words)
    }
}

/// All of these words are there.
pub(super) fn says(text: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(text.contains(word), "`{word}` is missing in:\n{text}");
    }
    Ok(())
}
