// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls `cargo lab`: this very program, once more, in another environment.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::ended::Ended;
use super::namespace::Namespace;
use super::running::Running;
use super::Cannot;
use crate::command::output;

/// A user who owns nothing.
pub(super) const NOBODY: u32 = 65534;

/// A run that has not begun.
#[derive(Debug)]
pub(super) struct Call {
    arguments: Vec<OsString>,
    variables: Vec<(&'static str, Option<OsString>)>,
    entry: Vec<String>,
    user: Vec<String>,
    program: PathBuf,
}

impl Call {
    /// `cargo lab` with these arguments, in the environment of this process.
    pub(super) fn new(arguments: &[&str]) -> Self {
        Self {
            arguments: arguments.iter().map(OsString::from).collect(),
            variables: Vec::new(),
            entry: Vec::new(),
            user: Vec::new(),
            // This very program, even if it has been built anew since it was started.
            program: format!("/proc/{}/exe", std::process::id()).into(),
        }
    }

    /// With a variable.
    pub(super) fn set(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name, Some(value.as_ref().to_owned())));
        self
    }

    /// Without a variable.
    pub(super) fn unset(mut self, name: &'static str) -> Self {
        self.variables.push((name, None));
        self
    }

    /// With programs of a folder before those of the host.
    pub(super) fn with_programs(self, folder: &Path) -> Result<Self> {
        let usual = std::env::var_os("PATH").unwrap_or_default();
        let all = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&usual));
        let path = std::env::join_paths(all).context("a folder's name does not fit into PATH")?;
        Ok(self.set("PATH", path))
    }

    /// In a namespace.
    pub(super) fn inside(mut self, namespace: &Namespace) -> Self {
        self.entry = namespace.entry();
        self
    }

    /// By a user who may read everything (the checkout and the toolchain may be root's) and write nothing. `copy` is a
    /// place for the program: this user does not see it as somebody's process.
    ///
    /// # Errors
    ///
    /// [`Cannot`], where root's rights can not be given up in part.
    pub(super) fn by_nobody(mut self, copy: &Path) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(self);
        }
        let mut words = vec![format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
        words.push("--clear-groups".to_owned());
        for set in ["inh-caps", "ambient-caps", "bounding-set"] {
            words.push(format!("--{set}=-all,+dac_read_search"));
        }
        output(Command::new("setpriv").args(&words).arg("true"))
            .map_err(|error| Cannot(format!("nobody can not be impersonated: {error:#}")))?;
        if !copy.exists() {
            std::fs::copy("/proc/self/exe", copy)?;
        }
        self.user = words;
        self.program = copy.to_owned();
        Ok(self)
    }

    fn command(&self) -> Command {
        let mut words: Vec<OsString> = self.entry.iter().map(OsString::from).collect();
        // It must not outlive a test that is killed.
        words.extend(["setpriv", "--pdeathsig", "KILL"].map(OsString::from));
        words.extend(self.user.iter().map(OsString::from));
        words.push("--".into());
        words.push(self.program.clone().into());
        words.extend(self.arguments.iter().cloned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        for (name, value) in &self.variables {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// Begins the run, in a process group of its own.
    pub(super) fn start(self) -> Result<Running> {
        let out = tempfile::tempfile().context("no file for the output")?;
        let error = tempfile::tempfile().context("no file for the errors")?;
        let child = self
            .command()
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(error.try_clone()?)
            .process_group(0)
            .spawn()
            .map_err(|error| Cannot(format!("util-linux is not there: {error}")))?;
        Ok(Running::new(child, out, error))
    }

    /// Runs it to its end.
    pub(super) fn run(self) -> Result<Ended> {
        self.start()?.end()
    }
}
