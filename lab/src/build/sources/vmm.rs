// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The VMM that runs inside a machine: Debian's QEMU 11 with the libraries of its own release, as a disk image. Nothing of it
//! runs on this system but its program loader, which tells what belongs to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::apt::{codename, Apt};
use super::work::work_folder;
use crate::command::{find, output};
use crate::paths;
use crate::progress::Step;
use crate::trouble::Trouble;

/// Change this when something else is chosen, so that the image is made anew.
const RECIPE: &str = "1";
/// The first release that hands passed-through devices over, and the suites that it and its libraries come from.
const RELEASE: &str = "11";
const SUITES: [&str; 2] = ["trixie", "trixie-backports"];
/// What has to be of the second suite.
const PACKAGES: [&str; 4] = [
    "qemu-system-x86",
    "qemu-system-common",
    "qemu-system-data",
    "seabios",
];
const PROGRAM: &str = "usr/bin/qemu-system-x86_64";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// The program loader, below the folder of the libraries.
const LOADER: &str = "ld-linux-x86-64.so.2";
/// What QEMU loads into the virtual machine.
const FIRMWARE: [&str; 3] = [
    "usr/share/seabios/bios-256k.bin",
    "usr/share/qemu/kvmvapic.bin",
    "usr/share/qemu/linuxboot_dma.bin",
];
/// Packages, unpacked packages, chosen files and image together, measured (370 MiB), with some air.
const SPACE: u64 = 600 << 20;
/// Blocks of the image beyond its files, KiB.
const AIR: u64 = 8 << 10;

/// Below where the image is mounted: the folder of QEMU's libraries and its loader.
pub const LIBRARY_FOLDER: &str = "lib";
/// QEMU.
pub const PROGRAM_FILE: &str = "qemu";
/// The folder of its firmware.
pub const FIRMWARE_FOLDER: &str = "firmware";
/// The loader: it runs what is not where its libraries are looked for by themselves.
pub const LOADER_FILE: &str = "lib/ld-linux-x86-64.so.2";

/// Gets or finds the image, which is an ext2 file system.
pub(super) fn image(cache: &Path) -> Result<PathBuf> {
    let kept = cache.join(format!("vmm-{RELEASE}-{RECIPE}"));
    let path = kept.join("disk.ext2");
    if path.is_file() {
        return Ok(path);
    }
    let codename = codename("QEMU for the inside of a machine is missing")?;
    paths::need_space(cache, SPACE, "the disk with QEMU")?;
    let work = work_folder(cache)?;
    let apt = Apt::of_no_release(cache, &codename, &SUITES)?;
    let [root, files, made] = ["root", "files", "made"].map(|name| work.path().join(name));
    for archive in apt.download_all(&PACKAGES.map(|package| format!("{package}/{}", SUITES[1])))? {
        let mut dpkg = Command::new("dpkg-deb");
        output(dpkg.arg("--extract").arg(archive).arg(&root))?;
    }
    apt.clean()?;
    let step = Step::begin(format!("Making the disk with QEMU {RELEASE}"));
    choose(&root, &files)?;
    fs::create_dir_all(&made)?;
    file_system(&files, &made.join("disk.ext2"))?;
    if kept.exists() {
        fs::remove_dir_all(&kept)?;
    }
    fs::rename(&made, &kept).with_context(|| format!("cannot make {}", kept.display()))?;
    step.done();
    Ok(path)
}

/// Copies what QEMU needs out of the unpacked packages.
fn choose(root: &Path, files: &Path) -> Result<()> {
    let folder = root.join(LIBRARIES);
    let program = root.join(PROGRAM);
    let mut loader = Command::new(folder.join(LOADER));
    loader.arg("--library-path").arg(&folder).arg("--list");
    let listed = output(loader.arg(&program)).context("QEMU's libraries")?;
    let said = output(
        Command::new(folder.join(LOADER))
            .arg("--library-path")
            .arg(&folder)
            .arg(&program)
            .arg("--version"),
    )?;
    anyhow::ensure!(
        said.contains(&format!("version {RELEASE}.")),
        "the package has another QEMU than {RELEASE}: {said}"
    );
    let copy = |from: &Path, to: &str| {
        let to = files.join(to);
        fs::create_dir_all(to.parent().unwrap_or(files))?;
        fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))
    };
    copy(&program, PROGRAM_FILE)?;
    copy(&folder.join(LOADER), LOADER_FILE)?;
    for library in libraries(&listed, &folder)? {
        let name = library.file_name().unwrap_or_default().to_string_lossy();
        copy(&library, &format!("{LIBRARY_FOLDER}/{name}"))?;
    }
    for file in FIRMWARE.map(|file| root.join(file)) {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        copy(&file, &format!("{FIRMWARE_FOLDER}/{name}"))?;
    }
    Ok(())
}

/// The libraries in what the loader lists; each has to be in the folder.
fn libraries(listed: &str, folder: &Path) -> Result<Vec<PathBuf>> {
    let found = listed.lines().filter_map(|line| line.split_once(" => "));
    let found = found.map(|(name, place)| {
        let path = place.split(" (0x").next().unwrap_or_default();
        let path = PathBuf::from(path.trim());
        anyhow::ensure!(
            path.starts_with(folder),
            "{} is not in the packages: it is `{}`",
            name.trim(),
            path.display()
        );
        Ok(path)
    });
    found.collect()
}

/// A file system with these files, made without any rights.
fn file_system(files: &Path, image: &Path) -> Result<()> {
    let mut kib = AIR;
    for name in crate::fingerprint::files(files)? {
        kib += fs::metadata(files.join(name))?.len() / 1024 + 4;
    }
    // It is where only root's PATH looks.
    let program = find("mke2fs").unwrap_or_else(|| "/usr/sbin/mke2fs".into());
    let mut mke2fs = Command::new(program);
    mke2fs.args([
        "-q",
        "-t",
        "ext2",
        "-m",
        "0",
        "-b",
        "4096",
        "-E",
        "root_owner=0:0",
        "-d",
    ]);
    mke2fs.arg(files).arg(image).arg(format!("{kib}k"));
    output(&mut mke2fs).map_err(|error| {
        Trouble::new(
            format!("the disk with QEMU can not be made: {error:#}"),
            "install Debian's package e2fsprogs, and see that there is room in the cache",
        )
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_library_has_to_be_among_the_packages() {
        let listed = "\tlinux-vdso.so.1 (0x00007f32)\n\tlibz.so.1 => /r/lib/libz.so.1 (0x00007f)\n\
                      \t/r/lib/ld-linux-x86-64.so.2 (0x00007f)\n";
        let found = libraries(listed, Path::new("/r/lib")).unwrap();
        assert_eq!(found, [Path::new("/r/lib/libz.so.1")]);
        for strange in ["libx.so => not found", "libx.so => /usr/lib/libx.so (0x1)"] {
            let error = libraries(strange, Path::new("/r/lib")).unwrap_err();
            assert!(error.to_string().starts_with("libx.so is not"), "{error}");
        }
    }

    #[test]
    fn a_file_system_is_made_without_rights() {
        let dir = tempfile::tempdir().unwrap();
        let (files, image) = (dir.path().join("files"), dir.path().join("image"));
        fs::create_dir_all(files.join("a")).unwrap();
        fs::write(files.join("a/b"), "content of a file").unwrap();
        file_system(&files, &image).unwrap();
        let image = fs::read(image).unwrap();
        // The magic number of ext2.
        assert_eq!(image[1080..1082], [0x53, 0xef]);
        assert!(image.windows(17).any(|bytes| bytes == b"content of a file"));
    }
}
