// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builds the guest program and packs the initramfs of the lab's machines, and those of the kernel tree's own tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::build::archive::{place, Archive};
use crate::build::kernel::build::{images, Images};
use crate::build::kernel::config::Config;
use crate::build::kernel::harness;
use crate::build::kernel::selftests::{self, SELFTESTS};
use crate::fingerprint::{made, Fingerprint};
use crate::lock::lock;
use crate::progress::Step;
use crate::trouble::trouble;
use crate::{command, paths};

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The program that is the first process of every machine.
const GUEST: [&str; 2] = ["hitless_guest"; 2];
/// Those of machines with a virtual machine inside: its counter, and the agent.
const INSIDE: [&str; 2] = ["hitless_counter"; 2];
const AGENT: [&str; 2] = ["hitless_agent", "hitlessd"];
/// Debian's package busybox-static puts it here; used for the shell of `cargo lab boot` where it is there.
const BUSYBOX: &str = "/bin/busybox";

/// Builds or finds the initramfs of a configuration's machines.
pub fn build(config: Config) -> Result<PathBuf> {
    let images = images(config)?;
    let selftests = selftests::programs(&images)?;
    let guest = program(GUEST)?;
    let output = paths::output()?;
    let _lock = lock(&output)?;
    let folder = output.join("guest-image");
    let path = folder.join(format!("{config}.cpio"));
    let mut sum = Fingerprint::new();
    sum.add("layout", "1").add("kernel", &images.fingerprint);
    sum.add_file("guest", &guest)?;
    if Path::new(BUSYBOX).is_file() {
        sum.add_file("busybox", Path::new(BUSYBOX))?;
    }
    let stamp = folder.join(format!("{config}.stamp"));
    made(&stamp, &sum.finish(), &[&path], || {
        place(&path, &archive(&images, &selftests, &guest)?)
    })?;
    Ok(path)
}

/// The initramfs's content.
fn archive(images: &Images, selftests: &Path, guest: &Path) -> Result<Vec<u8>> {
    let mut archive = with_guest(guest)?;
    archive.program("boot/gen1", &images.gen1)?;
    archive.program("boot/gen2", &images.gen2)?;
    for name in SELFTESTS {
        archive.program(&format!("selftests/{name}"), &selftests.join(name))?;
    }
    if is_static(Path::new(BUSYBOX)) {
        archive.program("bin/busybox", Path::new(BUSYBOX))?;
    }
    archive.finish()
}

/// The initramfs of a virtual machine inside a machine, in that one's.
pub const COUNTER: &str = "boot/counter.cpio";

/// Builds or finds the initramfs of a configuration's machines with a virtual machine inside. Its kernel is one of those
/// to jump to.
pub fn with_counter(config: Config) -> Result<PathBuf> {
    let images = images(config)?;
    let mut inner = Archive::with_folders(&["dev", "proc", "sys"])?;
    inner.program("init", &program(INSIDE)?)?;
    let mut archive = with_guest(&program(GUEST)?)?;
    archive.program("boot/gen1", &images.gen1)?;
    archive.program("boot/gen2", &images.gen2)?;
    archive.bytes(COUNTER, 0o644, &inner.finish()?)?;
    archive.program("bin/hitlessd", &program(AGENT)?)?;
    if is_static(Path::new(BUSYBOX)) {
        archive.program("bin/busybox", Path::new(BUSYBOX))?;
    }
    let path = paths::output()?.join(format!("guest-image/{config}-vm.cpio"));
    place(&path, &archive.finish()?)?;
    Ok(path)
}

/// What every machine of the lab has.
fn with_guest(guest: &Path) -> Result<Archive> {
    let folders = ["dev", "proc", "sys", "tmp", "boot", "selftests", "bin"];
    let mut archive = Archive::with_folders(&folders)?;
    archive.program("init", guest)?;
    Ok(archive)
}

/// Builds an initramfs with the guest program and [`harness::PROGRAMS`] in `/selftests`, and with no kernel to jump to.
pub fn with_harness(config: Config) -> Result<PathBuf> {
    let programs = harness::programs(&images(config)?)?;
    let mut archive = with_guest(&program(GUEST)?)?;
    for (_, name) in harness::PROGRAMS {
        archive.program(&format!("selftests/{name}"), &programs.join(name))?;
    }
    let path = programs.with_extension("cpio");
    place(&path, &archive.finish()?)?;
    Ok(path)
}

/// Builds a package's program for the inside of a machine as one static file, in a target folder of its own: its flags
/// differ.
fn program([package, name]: [&str; 2]) -> Result<PathBuf> {
    let target = paths::output()?.join("guest");
    let path = target.join(TARGET).join("release").join(name);
    let step = (!path.exists()).then(|| Step::begin(format!("Building {name}")));
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(paths::repository()?)
        .args(["build", "--quiet", "--release"])
        .args(["--package", package, "--target", TARGET])
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command::output(&mut cargo).with_context(|| format!("{package} does not build"))?;
    if let Some(step) = step {
        step.done();
    }
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
    let mut readelf = Command::new("readelf");
    readelf.args(["--program-headers", "--wide"]).arg(path);
    path.is_file() && command::output(&mut readelf).is_ok_and(|text| !text.contains("INTERP"))
}

/// An initramfs for one of [`SELFTESTS`], laid out as the kernel tree's own `vmtest.sh` does it, with the tree's own
/// unmodified `init.c`: boot it with `liveupdate=on kho=on panic=-1` and look for `TEST PASSED` on the console.
/// The machine jumps once by itself and then reboots (use `-no-reboot`).
pub fn selftest(config: Config, test: &str) -> Result<PathBuf> {
    let images = images(config)?;
    let programs = selftests::programs(&images)?;
    let base = || -> Result<Archive> {
        let mut archive = Archive::with_folders(&["dev", "proc", "debugfs"])?;
        archive.program("init", &programs.join("init"))?;
        archive.program("test_binary", &programs.join(test))?;
        Ok(archive)
    };
    let mut outer = base()?;
    outer.program("kernel", &images.gen2)?;
    outer.bytes("initrd.img", 0o644, &base()?.finish()?)?;
    let path = programs.join(format!("{test}.cpio"));
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
