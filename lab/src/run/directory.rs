// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A run's directory: its logs, kept when something went wrong.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

/// A directory `target/lab/runs/<time>-<name>`. It is removed when dropped unless it is to be kept.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    keep: bool,
}

impl Directory {
    /// Makes the directory. It is kept until [`Directory::discard`].
    ///
    /// # Errors
    ///
    /// The directory can not be made.
    pub(crate) fn create(name: &str) -> Result<Self> {
        let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let runs = crate::paths::output()?.join("runs");
        let plain: String = name
            .chars()
            .map(|letter| {
                if letter.is_alphanumeric() {
                    letter
                } else {
                    '-'
                }
            })
            .collect();
        let stem = format!("{}-{plain}", time.replace(':', ""));
        std::fs::create_dir_all(&runs).with_context(|| {
            format!("{} can not be made: check space and rights", runs.display())
        })?;
        for attempt in 0_u32.. {
            let path = match attempt {
                0 => runs.join(&stem),
                again => runs.join(format!("{stem}-{again}")),
            };
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path, keep: true }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("{} can not be made", path.display()))
                }
            }
        }
        unreachable!("every number was taken")
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Nobody needs the logs: remove them when dropped.
    pub(crate) fn discard(&mut self) {
        self.keep = false;
    }

    /// The same directory for somebody else to keep or discard.
    pub(crate) fn take(&mut self) -> Self {
        let keep = std::mem::replace(&mut self.keep, true);
        Self {
            path: self.path.clone(),
            keep,
        }
    }

    /// Writes a file into the directory; a failure to do so is no reason to end a run.
    pub(crate) fn write(&self, name: &str, content: &str) {
        if let Err(error) = std::fs::write(self.path.join(name), content) {
            eprintln!(
                "warning: {name} was not written to {}: {error}",
                self.path.display()
            );
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.keep {
            // A directory that stays behind does no harm.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_until_it_is_discarded() {
        let kept = Directory::create("unit test").expect("made");
        let path = kept.path().to_owned();
        drop(kept);
        assert!(path.is_dir());
        let mut again = Directory {
            path: path.clone(),
            keep: true,
        };
        again.write("log", "x");
        again.discard();
        drop(again);
        assert!(!path.exists());
    }
}
