// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The file of figures: looked at before the run, written whole after it or not at all.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

use crate::evidence::judge::Report;
use crate::trouble::Trouble;

/// Refuses a file that can not be written, before a run that would end with it. Nothing is left of the try.
///
/// # Errors
///
/// [`Trouble`] that names the file.
pub(super) fn check(path: &Path) -> Result<()> {
    if is_stream(path) {
        let opened = OpenOptions::new().write(true).open(path);
        return opened.map(drop).map_err(|error| no(path, &error));
    }
    partial(path).map(drop)
}

/// Writes the figures; who reads the file meanwhile sees what was there before.
///
/// # Errors
///
/// It can not be written; then it is as it was.
pub(super) fn write(report: &Report, path: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(report).context("the figures as JSON")? + "\n";
    put(&text, path)
}

fn put(text: &str, path: &Path) -> Result<()> {
    if is_stream(path) {
        return fs::write(path, text).map_err(|error| no(path, &error));
    }
    let (mut partial, target) = partial(path)?;
    partial
        .write_all(text.as_bytes())
        .map_err(|error| no(path, &error))?;
    partial
        .persist(target)
        .map_err(|error| no(path, &error.error))?;
    Ok(())
}

/// A pipe, a terminal, /dev/null: what is there has to stay, and to be written into.
fn is_stream(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir())
}

/// A temporary file beside the one to be written, and the path of that one, which may be what a link names.
fn partial(path: &Path) -> Result<(NamedTempFile, PathBuf)> {
    if path.is_dir() {
        return Err(no(path, &"it is a folder"));
    }
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = match target.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let made = tempfile::Builder::new()
        .prefix(".hitless-figures-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder);
    let made = made.map_err(|error| no(path, &error))?;
    Ok((made, target))
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
    use std::os::unix::fs::symlink;

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_look_leaves_nothing_and_a_file_is_written_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        check(&path).unwrap();
        assert_eq!(names(dir.path()), 0);
        put("1", &path).unwrap();
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        check(&link).unwrap();
        put("2", &link).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "2");
        assert_eq!(names(dir.path()), 2);
    }

    #[test]
    fn what_can_not_be_written_is_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        for bad in [dir.path(), Path::new("/no/such/folder/x.json")] {
            let error = check(bad).unwrap_err().to_string();
            let path = bad.display().to_string();
            assert!(
                error.contains(&path) && error.contains("what to do"),
                "{error}"
            );
        }
        assert_eq!(names(dir.path()), 0);
    }

    #[test]
    fn a_stream_is_written_into() {
        let null = Path::new("/dev/null");
        check(null).unwrap();
        put("1", null).unwrap();
        assert!(is_stream(null));
    }
}
