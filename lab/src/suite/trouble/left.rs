// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a machine may not leave behind: a process, and the folder of its memory.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{bail, Result};

use crate::run::machine::room::{places, PREFIX};

/// How long what is on its way out may take. Another `cargo lab` has its folder there for no longer either.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// The processes in whose command line a path is: QEMU has that of its run's directory.
pub(super) fn processes(path: &Path) -> Vec<u32> {
    let path = path.to_string_lossy().into_owned();
    all()
        .filter(|id| {
            fs::read(format!("/proc/{id}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&path))
        })
        .collect()
}

/// The processes that one has started.
pub(super) fn children(parent: u32) -> Vec<u32> {
    all()
        .filter(|id| {
            // The name before it is in brackets, and may hold anything.
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            stat.rsplit_once(')')
                .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok())
                == Some(parent)
        })
        .collect()
}

/// The words of a process's command line.
pub(super) fn command_line(id: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    bytes
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

fn all() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The folders of machines' memory at one moment.
#[derive(Debug)]
pub(super) struct Memories(BTreeSet<PathBuf>);

impl Memories {
    /// Those that are there now.
    pub(super) fn now() -> Self {
        let entries = places().into_iter().flat_map(fs::read_dir).flatten();
        let names = entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
        Self(names.map(|entry| entry.path()).collect())
    }

    /// Nothing may have been added since, and no process may be left that names `run`.
    pub(super) fn nothing_left(&self, run: &Path) -> Result<()> {
        let start = Instant::now();
        loop {
            let processes = processes(run);
            let now = Self::now();
            let added: Vec<&PathBuf> = now.0.difference(&self.0).collect();
            if processes.is_empty() && added.is_empty() {
                return Ok(());
            }
            if start.elapsed() > LIMIT {
                bail!("left behind: processes {processes:?}, folders {added:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_is_found_by_its_parent_and_its_words() {
        let mut child = Command::new("tail")
            .args(["-f", "/dev/null", "/dev/null/../no-such-words"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        assert!(children(std::process::id()).contains(&child.id()));
        let start = Instant::now();
        let words = Path::new("/dev/null/../no-such-words");
        while processes(words) != [child.id()] && start.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(processes(words), [child.id()]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(processes(words).is_empty());
    }
}
