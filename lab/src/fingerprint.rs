// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Stamps by content: tell whether the inputs of a step have changed.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

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
            let path = folder.join(&relative);
            let content =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            self.add(&relative, content);
        }
        Ok(self)
    }

    /// The result in hexadecimal digits.
    pub fn finish(&self) -> String {
        hex(&self.0.clone().finalize())
    }
}

/// A file that says what a result was made of. Where it is, the result is whole.
#[derive(Clone, Debug)]
pub struct Stamp(PathBuf);

impl Stamp {
    /// The stamp at a path, which need not be there yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Whether the result was made of these inputs.
    pub fn says(&self, inputs: &str) -> bool {
        fs::read_to_string(&self.0).is_ok_and(|old| old == inputs)
    }

    /// Makes the result, without a stamp until it is whole: what is cut off, or fails, is never taken for what was
    /// there before. `make` returns the inputs.
    pub fn renew(&self, make: impl FnOnce() -> Result<String>) -> Result<()> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", self.0.display()))
            }
            _ => {}
        }
        let inputs = make()?;
        fs::write(&self.0, inputs).with_context(|| format!("cannot write {}", self.0.display()))
    }
}

/// The SHA-256 of a file, in hexadecimal digits.
pub fn of_file(path: &Path) -> Result<String> {
    let mut file =
        fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hex(&sum.finalize()));
        }
        sum.update(&buffer[..count]);
    }
}

/// The relative paths of all regular files below a folder, sorted; editors' left-overs and build output excluded.
pub fn files(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    if !folder.exists() {
        return Ok(found);
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_names_and_contents() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/x"), "1").unwrap();
        let sum = |dir: &Path| Fingerprint::new().add_files(dir).unwrap().finish();
        let first = sum(dir.path());
        assert_eq!(first, sum(dir.path()));
        fs::write(dir.path().join("a/x"), "2").unwrap();
        let second = sum(dir.path());
        assert_ne!(first, second);
        fs::rename(dir.path().join("a/x"), dir.path().join("a/y")).unwrap();
        assert_ne!(second, sum(dir.path()));
    }

    #[test]
    fn files_leaves_out_what_editors_leave() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["x.c", ".x.c.swp", "x.c~", "x.c.orig"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(files(dir.path()).unwrap(), ["x.c"]);
    }

    #[test]
    fn a_stamp_is_there_only_while_the_result_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let stamp = Stamp::at(dir.path().join("stamp"));
        assert!(!stamp.says(""));
        stamp.renew(|| Ok("a".to_owned())).unwrap();
        assert!(stamp.says("a") && !stamp.says("b"));
        let failed = stamp.renew(|| {
            assert!(!stamp.says("a"));
            anyhow::bail!("half of it is made")
        });
        assert!(failed.is_err() && !stamp.says("a"));
    }

    #[test]
    fn sum_of_a_file_is_sha256() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        fs::write(&path, "abc").unwrap();
        assert!(of_file(&path).unwrap().starts_with("ba7816bf"));
    }
}
