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
    /// An empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a folder.
    pub fn folder(&mut self, path: &str) -> Result<()> {
        self.entry(path, 0o040_755, |builder| builder, &[])
    }

    /// Adds `/dev/console`, which the kernel gives to the first process.
    pub fn console(&mut self) -> Result<()> {
        self.entry(
            "dev/console",
            0o020_600,
            |builder| builder.rdev_major(5).rdev_minor(1),
            &[],
        )
    }

    /// Adds a file of the host with mode 755.
    pub fn program(&mut self, path: &str, file: &Path) -> Result<()> {
        let content = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        self.bytes(path, 0o755, &content)
    }

    /// Adds a file with this mode and content.
    pub fn bytes(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entry(path, 0o100_000 | mode, |builder| builder, content)
    }

    fn entry(
        &mut self,
        path: &str,
        mode: u32,
        more: impl FnOnce(Builder) -> Builder,
        content: &[u8],
    ) -> Result<()> {
        let size = u32::try_from(content.len())
            .with_context(|| format!("{path} is too large for an initramfs"))?;
        self.entries += 1;
        let builder = more(Builder::new(path).ino(self.entries).mode(mode).nlink(1));
        let mut writer = builder.write(&mut self.bytes, size);
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
        let mut archive = Archive::new();
        archive.folder("dev").unwrap();
        archive.console().unwrap();
        archive.bytes("init", 0o755, b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        assert!(bytes.starts_with(b"070701"));

        let mut seen = Vec::new();
        let mut rest: &[u8] = &bytes;
        loop {
            let mut reader = Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let mut content = String::new();
            reader.read_to_string(&mut content).unwrap();
            seen.push((
                reader.entry().name().to_owned(),
                reader.entry().mode(),
                content,
            ));
            rest = reader.finish().unwrap();
        }
        let expected = [
            ("dev", 0o040_755, ""),
            ("dev/console", 0o020_600, ""),
            ("init", 0o100_755, "hello"),
        ];
        assert_eq!(
            seen,
            expected.map(|(name, mode, content)| (name.to_owned(), mode, content.to_owned()))
        );
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
