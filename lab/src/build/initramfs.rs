// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builds the guest program and packs the initramfs of the lab's machines, and those of the kernel tree's own tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{bail, Context, Result};

use crate::build::archive::{place, Archive};
use crate::build::kernel::build::images;
use crate::build::kernel::config::{Config, Images};
use crate::build::kernel::harness;
use crate::build::kernel::selftests::{self, Programs};
use crate::fingerprint::{Fingerprint, Stamp};
use crate::lock::lock;
use crate::progress::Step;
use crate::trouble::trouble;
use crate::{command, paths};

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Debian's package busybox-static puts it here; used for the shell of `cargo lab boot` where it is there.
const BUSYBOX: &str = "/bin/busybox";

/// Builds or finds the initramfs of a configuration's machines.
pub fn build(config: Config) -> Result<PathBuf> {
    let images = images(config)?;
    let selftests = selftests::programs(&images)?;
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
    let mut archive = with_guest(guest)?;
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

/// What every machine of the lab has.
fn with_guest(guest: &Path) -> Result<Archive> {
    let mut archive = Archive::new();
    for name in ["dev", "proc", "sys", "tmp", "boot", "selftests", "bin"] {
        archive.folder(name)?;
    }
    archive.console()?;
    archive.program("init", guest)?;
    Ok(archive)
}

/// Builds an initramfs with the guest program and [`harness::PROGRAMS`] in `/selftests`, and with no kernel to jump to.
pub fn with_harness(config: Config) -> Result<PathBuf> {
    let programs = harness::programs(&images(config)?)?;
    let mut archive = with_guest(&program()?)?;
    for (_, name) in harness::PROGRAMS {
        archive.program(&format!("selftests/{name}"), &programs.join(name))?;
    }
    let path = programs.with_extension("cpio");
    place(&path, &archive.finish()?)?;
    Ok(path)
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

/// An initramfs for one of [`selftests::SELFTESTS`], laid out as the kernel tree's own `vmtest.sh` does it, with the tree's
/// own unmodified `init.c`: boot it with `liveupdate=on kho=on panic=-1` and look for `TEST PASSED` on the console.
/// The machine jumps once by itself and then reboots (use `-no-reboot`).
pub fn selftest(config: Config, test: &str) -> Result<PathBuf> {
    let images = images(config)?;
    let programs = selftests::programs(&images)?;
    let Some((name, program)) = programs.tests.iter().find(|(name, _)| *name == test) else {
        return trouble(
            format!("there is no selftest {test}"),
            format!("use one of {}", selftests::SELFTESTS.join(", ")),
        );
    };
    let base = || -> Result<Archive> {
        let mut archive = Archive::new();
        for folder in ["dev", "proc", "debugfs"] {
            archive.folder(folder)?;
        }
        archive.console()?;
        archive.program("init", &programs.init)?;
        archive.program("test_binary", program)?;
        Ok(archive)
    };
    let inner = base()?.finish()?;
    let mut outer = base()?;
    outer.program("kernel", &images.gen2)?;
    outer.bytes("initrd.img", 0o644, &inner)?;
    let path = paths::output()?
        .join("selftests")
        .join(config.name())
        .join(format!("{name}.cpio"));
    place(&path, &outer.finish()?)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_programs_are_told_from_others() {
        assert!(!is_static(Path::new("/bin/sh")));
        assert!(!is_static(Path::new("/no/such/file")));
    }
}
