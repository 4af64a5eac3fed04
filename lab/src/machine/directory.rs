// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A run's directory: its logs, kept when something went wrong.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::SystemTime;

use anyhow::{Context, Result};
use rustix::fs::{flock, FlockOperation};
use tempfile::TempDir;

/// So many directories of earlier labs are kept: a trace may have a gigabyte.
const KEPT: usize = 20;

/// A directory `target/lab/runs/<time>-<name>-<letters>`. It is kept unless it is discarded; of those that are kept, the next
/// labs remove the oldest.
#[derive(Debug)]
pub struct Directory {
    folder: TempDir,
    /// Locked, so that no other lab removes what this one uses.
    _lock: Option<File>,
}

impl Directory {
    /// Makes the directory. It is kept until [`Directory::discard`].
    pub fn create(name: &str) -> Result<Self> {
        let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let plain = name.replace(|letter: char| !letter.is_alphanumeric(), "-");
        let prefix = format!("{}-{plain}-", time.replace(':', ""));
        let runs = crate::paths::output()?.join("runs");
        // What this lab keeps is its own affair: a test of everything keeps more.
        static PRUNED: Once = Once::new();
        PRUNED.call_once(|| prune(&runs, KEPT));
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).disable_cleanup(true);
        let folder = std::fs::create_dir_all(&runs)
            .and_then(|()| builder.tempdir_in(&runs))
            .with_context(|| {
                let runs = runs.display();
                format!("no folder can be made in {runs}: check space and rights")
            })?;
        let _lock = lock(folder.path());
        Ok(Self { folder, _lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Nobody needs the logs: remove them when dropped.
    pub fn discard(&mut self) {
        self.folder.disable_cleanup(false);
    }

    /// Writes a file into the directory; a failure to do so is no reason to end a run.
    pub fn write(&self, name: &str, content: &str) {
        if let Err(error) = std::fs::write(self.path().join(name), content) {
            let folder = self.path().display();
            eprintln!("warning: {name} was not written to {folder}: {error}");
        }
    }
}

/// The lock of a directory that nobody uses.
fn lock(path: &Path) -> Option<File> {
    let file = File::open(path).ok()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

/// Removes all but the newest directories of runs. What cannot be removed only takes space.
fn prune(runs: &Path, keep: usize) {
    let Ok(entries) = std::fs::read_dir(runs) else {
        return;
    };
    let mut all: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    // A name begins with its time.
    all.sort_unstable();
    all.truncate(all.len().saturating_sub(keep));
    for path in all {
        if let Some(_lock) = lock(&path) {
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_unless_they_are_used() {
        let runs = tempfile::tempdir().expect("a folder");
        let make = |name: &str| {
            let path = runs.path().join(name);
            std::fs::create_dir(&path).expect("made");
            path
        };
        let [used, old, new, newest] =
            ["1", "2", "3", "4"].map(|day| make(&format!("2026-01-0{day}T-x")));
        let _used = lock(&used).expect("nobody uses it");
        prune(runs.path(), 2);
        assert!(!old.exists());
        assert!([used, new, newest].iter().all(|path| path.exists()));
    }

    #[test]
    fn it_stays_unless_it_is_discarded() {
        for discarded in [false, true] {
            let mut directory = Directory::create("unit test").expect("made");
            let path = directory.path().to_owned();
            directory.write("log", "x");
            if discarded {
                directory.discard();
            }
            drop(directory);
            assert_ne!(path.join("log").is_file(), discarded);
            let _ = std::fs::remove_dir_all(path);
        }
    }
}
