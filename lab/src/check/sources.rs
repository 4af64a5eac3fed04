// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The files of the repository, as git sees them, new ones included.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::Repository;
use crate::{command, fingerprint};

/// Relative paths of all files that are tracked, or that could be and are not ignored; sorted. A copy without `.git`
/// is walked instead.
pub(super) fn list(root: &Path) -> Result<Vec<String>> {
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
