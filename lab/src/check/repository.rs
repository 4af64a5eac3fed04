// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the checks look at, and what they find. The files of the repository are those that git sees, new ones included.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{command, fingerprint, paths};

/// What the checks look at.
#[derive(Debug)]
pub(super) struct Repository {
    pub(super) root: PathBuf,
    /// The files that are text, by their paths relative to `root`.
    pub(super) files: BTreeMap<String, String>,
}

/// The result of a check: it passed when there is no problem.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Shown in any case: figures, an inventory.
    pub(super) notes: Vec<String>,
    /// Each with its place, and what to do.
    pub(super) problems: Vec<String>,
}

impl Repository {
    /// Reads what is tracked, or could be and is not ignored. A copy without `.git` is walked instead.
    pub(super) fn read() -> Result<Self> {
        let root = paths::repository()?;
        let mut git = Command::new("git");
        git.args("ls-files -z --cached --others --exclude-standard".split(' '))
            .current_dir(&root);
        let list: Vec<String> = match root.join(".git").exists() {
            true => command::output(&mut git)?
                .split_terminator('\0')
                .map(str::to_owned)
                .collect(),
            false => fingerprint::files(&root)?,
        };
        let mut files = BTreeMap::new();
        for path in list {
            let full = root.join(&path);
            // A file that was removed but not yet committed is still in the list.
            if full.is_file() {
                let bytes =
                    fs::read(&full).with_context(|| format!("cannot read {}", full.display()))?;
                files.extend(String::from_utf8(bytes).ok().map(|text| (path, text)));
            }
        }
        Ok(Self { root, files })
    }

    /// The text of one file.
    pub(super) fn text(&self, path: &str) -> Result<&str> {
        let text = self.files.get(path).map(String::as_str);
        text.with_context(|| format!("cannot read {path}: there is no such file of text"))
    }

    /// The files whose paths begin and end like this, with their texts.
    pub(super) fn texts<'a>(
        &'a self,
        begin: &'a str,
        ends: &'a [&str],
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let all = self.files.iter();
        all.map(|(path, text)| (path.as_str(), text.as_str()))
            .filter(move |(path, _)| {
                path.starts_with(begin) && ends.iter().any(|end| path.ends_with(end))
            })
    }

    /// The patches of the kernel, with their texts.
    pub(super) fn patches(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts("kernel/patches/", &[".patch"])
    }

    /// The manifests of our crates, each with the folder that it is in.
    pub(super) fn manifests(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.texts("", &["/Cargo.toml"]);
        all.map(|(path, text)| (path.trim_end_matches("/Cargo.toml"), text))
    }
}

/// The lines of a file with their numbers; of a patch only what it adds, because the rest is not ours.
pub(super) fn ours<'a>(path: &str, text: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let all = !path.ends_with(".patch");
    let lines = (1..).zip(text.lines());
    lines.filter(move |(_, line)| all || line.starts_with('+'))
}
