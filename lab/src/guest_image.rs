// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builds the guest program and packs the initramfs.
//!
//! The archive is not compressed: QEMU's emulated processor would spend more time unpacking it than the host saves.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{bail, Context, Result};
use cpio::newc::{trailer, Builder};

use crate::fingerprint::{Fingerprint, Stamp};
use crate::kernel::selftests::Programs;
use crate::kernel::{self, Config, Images};
use crate::lock::lock;
use crate::progress::Step;
use crate::trouble::trouble;
use crate::{command, paths};

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Debian's package busybox-static puts it here; used for the shell of `cargo lab boot` where it is there.
const BUSYBOX: &str = "/bin/busybox";

/// Builds or finds the initramfs of a configuration's machines.
pub fn build(config: Config) -> Result<PathBuf> {
    let images = kernel::images(config)?;
    let selftests = kernel::selftests::programs(&images)?;
    let guest = program()?;
    let _lock = lock(&paths::output()?)?;
    let folder = paths::output()?.join("guest-image");
    let path = folder.join(format!("{config}.cpio"));
    let stamp = Stamp::at(folder.join(format!("{config}.stamp")));
    let mut sum = Fingerprint::new();
    sum.add("layout", "1").add("kernel", &images.fingerprint);
    sum.add("guest", crate::fingerprint::of_file(&guest)?);
    let busybox = Path::new(BUSYBOX);
    if busybox.is_file() {
        sum.add("busybox", crate::fingerprint::of_file(busybox)?);
    }
    if path.is_file() && stamp.says(&sum.finish()) {
        return Ok(path);
    }
    let archive = archive(&images, &selftests, &guest)?;
    fs::create_dir_all(&folder)?;
    stamp.renew(|| {
        place(&path, &archive)?;
        Ok(sum.finish())
    })?;
    Ok(path)
}

/// The initramfs's content.
fn archive(images: &Images, selftests: &Programs, guest: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::new();
    for name in ["dev", "proc", "sys", "tmp", "boot", "selftests", "bin"] {
        archive.folder(name)?;
    }
    archive.console()?;
    archive.program("init", guest)?;
    archive.program("boot/gen1", &images.gen1)?;
    archive.program("boot/gen2", &images.gen2)?;
    for (name, program) in &selftests.tests {
        archive.program(&format!("selftests/{name}"), program)?;
    }
    if is_static(Path::new(BUSYBOX)) {
        archive.program("bin/busybox", Path::new(BUSYBOX))?;
    }
    archive.finish()
}

/// Builds the guest program as one static file, in a target folder of its own: its flags differ.
pub fn program() -> Result<PathBuf> {
    let repository = paths::repository()?;
    let target = paths::output()?.join("guest");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let step = (!target.exists()).then(|| Step::begin("Building the guest program"));
    let output = Command::new(cargo)
        .current_dir(&repository)
        .args([
            "build",
            "--quiet",
            "--release",
            "--package",
            "hitless_guest",
            "--target",
            TARGET,
        ])
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stdin(Stdio::null())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!(
            "the guest program does not build:\n{}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    if let Some(step) = step {
        step.done();
    }
    let path = target.join(TARGET).join("release/hitless_guest");
    if !is_static(&path) {
        return trouble(
            format!("{} is not a static program, so it cannot be the first process of a machine", path.display()),
            format!("install the target with `rustup target add {TARGET}` and the package libc6-dev, then try again"),
        );
    }
    Ok(path)
}

/// An ELF file without an interpreter can run where there is no C library.
fn is_static(path: &Path) -> bool {
    path.is_file()
        && command::output(
            Command::new("readelf")
                .args(["--program-headers", "--wide"])
                .arg(path),
        )
        .is_ok_and(|text| !text.contains("INTERP"))
}

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
    fn static_programs_are_told_from_others() {
        assert!(!is_static(Path::new("/bin/sh")));
        assert!(!is_static(Path::new("/no/such/file")));
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
