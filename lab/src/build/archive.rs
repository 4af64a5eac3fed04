// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An initramfs under construction.
//!
//! The archive is not compressed: QEMU's emulated processor would spend more time unpacking it than the host saves.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use cpio::newc::{trailer, Builder};

/// Writes by way of a temporary name, and only when the content differs.
pub fn place(path: &Path, content: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let folder = path.parent().context("a file has a folder")?;
    fs::create_dir_all(folder)?;
    let mut partial = tempfile::NamedTempFile::new_in(folder)?;
    partial.write_all(content)?;
    partial
        .persist(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

/// A cpio archive ("newc") under construction, in memory. Equal inputs give equal bytes.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// One with these folders, `dev` among them, and with `/dev/console`, which the kernel gives to the first process.
    pub fn with_folders(paths: &[&str]) -> Result<Self> {
        let mut archive = Self::default();
        for path in paths {
            archive.entry(path, 0o040_755, (0, 0), &[])?;
        }
        archive.entry("dev/console", 0o020_600, (5, 1), &[])?;
        Ok(archive)
    }

    /// Adds a file of the host with mode 755.
    pub fn program(&mut self, path: &str, file: &Path) -> Result<()> {
        let content = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        self.bytes(path, 0o755, &content)
    }

    /// Adds a file with this mode and content.
    pub fn bytes(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entry(path, 0o100_000 | mode, (0, 0), content)
    }

    fn entry(
        &mut self,
        path: &str,
        mode: u32,
        (major, minor): (u32, u32),
        content: &[u8],
    ) -> Result<()> {
        let size = u32::try_from(content.len())
            .with_context(|| format!("{path} is too large for an initramfs"))?;
        self.entries += 1;
        let mut writer = Builder::new(path)
            .ino(self.entries)
            .mode(mode)
            .nlink(1)
            .rdev_major(major)
            .rdev_minor(minor)
            .write(&mut self.bytes, size);
        writer.write_all(content)?;
        writer.finish()?;
        Ok(())
    }

    /// The archive's bytes.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        trailer(&mut self.bytes)?;
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpio::newc::Reader;
    use std::io::Read;

    #[test]
    fn archive_holds_what_was_put_in() {
        let mut archive = Archive::with_folders(&["dev"]).unwrap();
        archive.bytes("init", 0o755, b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        let mut rest: &[u8] = &bytes;
        for (name, mode, content) in [
            ("dev", 0o040_755, ""),
            ("dev/console", 0o020_600, ""),
            ("init", 0o100_755, "hello"),
            ("TRAILER!!!", 0, ""),
        ] {
            let mut reader = Reader::new(rest).unwrap();
            let mut found = String::new();
            reader.read_to_string(&mut found).unwrap();
            let entry = reader.entry();
            assert_eq!((entry.name(), entry.mode(), &*found), (name, mode, content));
            rest = reader.finish().unwrap();
        }
    }

    #[test]
    fn place_keeps_equal_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x/y");
        place(&path, b"1").unwrap();
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        place(&path, b"1").unwrap();
        assert_eq!(before, fs::metadata(&path).unwrap().modified().unwrap());
        place(&path, b"2").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
    }
}
