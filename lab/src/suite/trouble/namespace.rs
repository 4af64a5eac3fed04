// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Mounts and a network that only those see who are put into them: the host stays as it is.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};

use super::Cannot;
use crate::command::output;
use crate::run::machine::with_parent_death;

/// Holds a namespace open.
const HOLDER: &str = "sleep";
/// How long it may take to get there.
const LIMIT: Duration = Duration::from_secs(10);

/// A private view of the host, as long as this lives.
#[derive(Debug)]
pub(super) struct Namespace {
    kind: &'static str,
    holder: Child,
}

impl Namespace {
    /// The host's mounts, which may then be changed.
    ///
    /// # Errors
    ///
    /// [`Cannot`], where that is not permitted.
    pub(super) fn of_mounts() -> Result<Self> {
        Self::new("--mount")
    }

    /// No network at all.
    ///
    /// # Errors
    ///
    /// [`Cannot`], where that is not permitted.
    pub(super) fn without_network() -> Result<Self> {
        Self::new("--net")
    }

    fn new(kind: &'static str) -> Result<Self> {
        let holder = with_parent_death(Path::new("unshare"))
            .args([kind, HOLDER, "infinity"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Cannot(format!("setpriv (util-linux) can not be started: {error}")))?;
        let mut namespace = Self { kind, holder };
        let start = Instant::now();
        // Only then it is where it should be: the program is started last.
        while namespace.name()? != HOLDER {
            if namespace.holder.try_wait()?.is_some() {
                let said = namespace.holder.stderr.take();
                let said = said.map(std::io::read_to_string).transpose()?;
                return Err(Cannot(format!(
                    "`unshare {kind}` is not permitted: {}",
                    said.unwrap_or_default().trim()
                ))
                .into());
            }
            if start.elapsed() > LIMIT {
                bail!("`unshare {kind}` does not get there");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(namespace)
    }

    fn name(&self) -> Result<String> {
        let path = format!("/proc/{}/comm", self.holder.id());
        Ok(fs::read_to_string(path)
            .context("/proc does not show a process")?
            .trim()
            .to_owned())
    }

    /// The words before a command that put it into the namespace.
    pub(super) fn entry(&self) -> Vec<String> {
        let target = format!("--target={}", self.holder.id());
        ["nsenter", &target, self.kind, "--"]
            .map(str::to_owned)
            .to_vec()
    }

    /// Runs a program in it.
    pub(super) fn run(&self, words: &[&str]) -> Result<String> {
        let entry = self.entry();
        output(Command::new(&entry[0]).args(&entry[1..]).args(words))
    }

    fn mounted(&self, words: &[&str], place: &Path) -> Result<()> {
        let shown = place.to_string_lossy();
        let words: Vec<&str> = words.iter().copied().chain([shown.as_ref()]).collect();
        self.run(&words)
            .map_err(|error| Cannot(format!("{shown} can not be mounted over: {error:#}")))?;
        Ok(())
    }

    /// Shows `file` where `place` is.
    pub(super) fn cover(&self, place: &Path, file: &Path) -> Result<()> {
        let file = file.to_string_lossy();
        self.mounted(&["mount", "--bind", &file], place)
    }

    /// Shows something at `place` that is no file.
    pub(super) fn hide(&self, place: &Path) -> Result<()> {
        self.cover(place, Path::new("/dev/null"))
    }

    /// An empty file system of so many MiB at `place`.
    pub(super) fn small(&self, place: &Path, mib: u32) -> Result<()> {
        let size = format!("size={mib}m,mode=1777");
        self.mounted(&["mount", "-t", "tmpfs", "-o", &size, "trouble"], place)
    }

    /// Puts what is changed at `place` into `scratch`, which is below a file system of [`Self::small`].
    pub(super) fn copy_on_write(&self, place: &Path, scratch: &Path) -> Result<()> {
        let name = place.to_string_lossy().replace('/', "");
        let [upper, work] =
            ["upper", "work"].map(|part| scratch.join(&name).join(part).display().to_string());
        self.run(&["mkdir", "--parents", &upper, &work])?;
        let lower = place.display();
        let option = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        self.mounted(&["mount", "-t", "overlay", "-o", &option, "trouble"], place)
    }

    /// What was there before.
    pub(super) fn uncover(&self, place: &Path) -> Result<()> {
        self.mounted(&["umount"], place)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
