// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the checks look at, and what they find. The files of the repository are those that git sees, new ones included.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{command, fingerprint, paths};

/// What the checks look at.
#[derive(Debug)]
pub(super) struct Repository {
    pub(super) root: PathBuf,
    /// Paths relative to `root`, sorted.
    pub(super) files: Vec<String>,
}

/// The result of a check: it passed when there is no problem.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Shown in any case: figures, an inventory.
    pub(super) notes: Vec<String>,
    /// Each with its place, and what to do.
    pub(super) problems: Vec<String>,
}

/// Relative paths of all files that are tracked, or that could be and are not ignored; sorted. A copy without `.git`
/// is walked instead.
fn list(root: &Path) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ])
    .current_dir(root);
    let mut files: Vec<String> = match root.join(".git").exists() {
        true => command::output(&mut git)?
            .split('\0')
            .filter(|path| !path.is_empty())
            .map(str::to_owned)
            .collect(),
        false => fingerprint::files(root)?,
    };
    // A file that was removed but not yet committed is still in the list.
    files.retain(|path| root.join(path).is_file());
    files.sort();
    files.dedup();
    Ok(files)
}

impl Repository {
    pub(super) fn read() -> Result<Self> {
        let root = paths::repository()?;
        Ok(Self {
            files: list(&root)?,
            root,
        })
    }

    /// The text of one file.
    pub(super) fn text(&self, path: &str) -> Result<String> {
        let full = self.root.join(path);
        fs::read_to_string(&full).with_context(|| format!("cannot read {}", full.display()))
    }

    /// The files for which `wanted` holds, with their text; those that are not text are left out.
    pub(super) fn texts(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<(&str, String)>> {
        let mut found = Vec::new();
        for path in self.files.iter().filter(|path| wanted(path)) {
            let full = self.root.join(path);
            let bytes =
                fs::read(&full).with_context(|| format!("cannot read {}", full.display()))?;
            if let Ok(text) = String::from_utf8(bytes) {
                found.push((path.as_str(), text));
            }
        }
        Ok(found)
    }

    /// The Rust files below a folder, with their text.
    pub(super) fn rust(&self, folder: &str) -> Result<Vec<(&str, String)>> {
        self.texts(|path| path.starts_with(folder) && path.ends_with(".rs"))
    }
}

/// A repository of these files in a folder of its own.
#[cfg(test)]
pub(super) fn pretend(files: &[(&str, &str)]) -> (tempfile::TempDir, Repository) {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let repository = Repository {
        root: dir.path().to_path_buf(),
        files: files.iter().map(|(path, _)| (*path).to_owned()).collect(),
    };
    (dir, repository)
}
