// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The file with the figures.

use std::fs::{self, OpenOptions};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::trouble::Trouble;

/// Refuses a file that can not be written, by name, before a run that would end with it.
pub(super) fn check(path: &Path) -> Result<()> {
    let there = path.exists();
    let opened = OpenOptions::new().append(true).create(true).open(path);
    let looked = opened.and_then(|_| match there {
        true => Ok(()),
        false => fs::remove_file(path),
    });
    looked.map_err(|error| no(path, &error))
}

/// Writes the figures.
pub(super) fn write(report: &impl Serialize, path: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(report).context("the figures as JSON")? + "\n";
    fs::write(path, text).map_err(|error| no(path, &error))
}

fn no(path: &Path, why: &dyn std::fmt::Display) -> anyhow::Error {
    Trouble::new(
        format!(
            "the figures can not be written to {}: {why}",
            path.display()
        ),
        "give --json a file in a folder that is there, is yours to write and has room",
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_written_is_told_at_once_and_a_look_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let good = dir.path().join("x.json");
        check(&good).unwrap();
        assert!(!good.exists());
        check(Path::new("/dev/null")).unwrap();
        for bad in [dir.path(), Path::new("/no/such/folder/x.json")] {
            let error = check(bad).unwrap_err().to_string();
            assert!(error.contains(bad.to_str().unwrap()) && error.contains("what to do"));
        }
    }
}
