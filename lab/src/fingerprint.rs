// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Stamps by content: tell whether the inputs of a step have changed.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

/// Collects named inputs; the names are part of the result.
#[derive(Clone, Debug, Default)]
pub struct Fingerprint(Sha256);

impl Fingerprint {
    /// Starts with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a named value.
    pub fn add(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        let value = value.as_ref();
        self.0.update(format!("{name}\0{}\0", value.len()));
        self.0.update(value);
        self
    }

    /// Adds every regular file below `folder`, by relative path and content. A folder that is absent is empty.
    pub fn add_files(&mut self, folder: &Path) -> Result<&mut Self> {
        for relative in files(folder)? {
            self.add_file(&relative, &folder.join(&relative))?;
        }
        Ok(self)
    }

    /// Adds a file's content.
    pub fn add_file(&mut self, name: &str, path: &Path) -> Result<&mut Self> {
        let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(self.add(name, content))
    }

    /// The result in hexadecimal digits.
    pub fn finish(&self) -> String {
        format!("{:x}", self.0.clone().finalize())
    }
}

/// Makes results, unless all are there and the stamp, a file, says that they were made of these inputs. While they are
/// made there is no stamp: what is cut off, or fails, is never taken for what was there before.
pub fn made(
    stamp: &Path,
    inputs: &str,
    results: &[&Path],
    make: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let is_current = fs::read_to_string(stamp).is_ok_and(|old| old == inputs);
    if is_current && results.iter().all(|path| path.exists()) {
        return Ok(());
    }
    if stamp.exists() {
        fs::remove_file(stamp).with_context(|| format!("cannot remove {}", stamp.display()))?;
    }
    let folder = stamp.parent().unwrap_or(stamp);
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    make()?;
    fs::write(stamp, inputs).with_context(|| format!("cannot write {}", stamp.display()))
}

/// The SHA-256 of a file, in hexadecimal digits.
pub fn of_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut sum = Sha256::new();
    io::copy(&mut file, &mut sum)?;
    Ok(format!("{:x}", sum.finalize()))
}

/// The relative paths of all regular files below a folder, sorted; editors' left-overs and build output excluded.
pub fn files(folder: &Path) -> Result<Vec<String>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let wanted = |name: &str| {
        !(name.starts_with('.')
            || name.ends_with('~')
            || name.ends_with(".orig")
            || name == "target")
    };
    let walk = WalkDir::new(folder)
        .min_depth(1)
        .into_iter()
        .filter_entry(|entry| wanted(&entry.file_name().to_string_lossy()));
    let mut found = Vec::new();
    for entry in walk {
        let entry = entry?;
        if entry.file_type().is_file() {
            let relative = entry.path().strip_prefix(folder)?;
            found.push(relative.to_string_lossy().into_owned());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_contents_count_and_what_editors_leave_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let sum = || Fingerprint::new().add_files(dir.path()).unwrap().finish();
        fs::write(path("x"), "1").unwrap();
        let first = sum();
        for name in [".x.swp", "x~", "x.orig"] {
            fs::write(path(name), "").unwrap();
        }
        assert_eq!(sum(), first);
        fs::write(path("x"), "2").unwrap();
        let second = sum();
        assert_ne!(second, first);
        fs::rename(path("x"), path("y")).unwrap();
        assert_ne!(sum(), second);
        fs::write(path("abc"), "abc").unwrap();
        assert!(of_file(&path("abc")).unwrap().starts_with("ba7816bf"));
    }

    #[test]
    fn a_result_is_made_when_its_inputs_change_or_the_last_attempt_failed() {
        let dir = tempfile::tempdir().unwrap();
        let (stamp, result) = (dir.path().join("a/stamp"), dir.path().join("result"));
        let mut count = 0;
        let mut make = |inputs: &str, works: bool| {
            let outcome = made(&stamp, inputs, &[&result], || {
                count += 1;
                assert!(!stamp.exists());
                fs::write(&result, inputs)?;
                anyhow::ensure!(works, "half of it is made");
                Ok(())
            });
            assert_eq!(outcome.is_ok(), works);
            count
        };
        assert_eq!(make("a", true), 1);
        assert_eq!(make("a", true), 1);
        assert_eq!(make("b", false), 2);
        assert_eq!(make("a", true), 3);
        fs::remove_file(&result).unwrap();
        assert_eq!(make("a", true), 4);
    }
}
