// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs and headers that come from the distribution. What counts is that they are there, not who put them there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::apt::{backports, codename, Apt};
use crate::command::find;
use crate::trouble::trouble;

/// The variable by which bindgen is told where libclang is.
const LIBCLANG: &str = "LIBCLANG_PATH";
/// Package of the libclang that is installed where there is none.
const LIBCLANG_PACKAGE: &str = "libclang-19-dev";

/// A package of Debian 12, and one sign of its presence: a program on PATH, or any of these files.
pub type Need = (&'static str, &'static [&'static str]);

/// What building kernel and guest needs, beyond libclang.
const BUILD: &[Need] = &[
    ("gcc", &["gcc"]),
    ("binutils", &["readelf"]),
    (
        "libc6-dev",
        &[
            "/usr/lib/x86_64-linux-gnu/libc.a",
            "/usr/lib64/libc.a",
            "/usr/lib/libc.a",
        ],
    ),
    ("make", &["make"]),
    ("flex", &["flex"]),
    ("bison", &["bison"]),
    ("bc", &["bc"]),
    ("patch", &["patch"]),
    ("perl", &["perl"]),
    ("python3", &["python3"]),
    ("cpio", &["cpio"]),
    // It is where only root's PATH looks.
    ("kmod", &["depmod", "/usr/sbin/depmod", "/sbin/depmod"]),
    ("tar", &["tar"]),
    ("xz-utils", &["xz"]),
    ("libelf-dev", &["/usr/include/libelf.h"]),
    ("libssl-dev", &["/usr/include/openssl/ssl.h"]),
];

/// For the kernel tree's own selftests of iommufd and VFIO.
const SELFTESTS: &[Need] = &[
    ("libcap-dev", &["/usr/include/sys/capability.h"]),
    ("uuid-dev", &["/usr/include/uuid/uuid.h"]),
];

/// For looking around in a machine; nothing else needs it.
const SHELL: &[Need] = &[("busybox-static", &["busybox"])];

/// Finds or installs what a build needs; returns the folder of libclang, for bindgen.
pub fn for_build(cache: &Path) -> Result<PathBuf> {
    let missing = || {
        let mut missing = missing(BUILD);
        missing.extend(libclang().is_none().then_some(LIBCLANG_PACKAGE));
        missing
    };
    ensure(cache, missing)?;
    libclang().context("libclang is gone")
}

/// Finds or installs a shell for the machine's initramfs.
pub fn for_shell(cache: &Path) -> Result<()> {
    ensure(cache, || missing(SHELL))
}

/// Finds or installs what the kernel tree's own selftests of iommufd and VFIO need.
pub fn for_selftests(cache: &Path) -> Result<()> {
    ensure(cache, || missing(SELFTESTS))
}

/// Installs what is missing; does nothing, and needs no rights, when nothing is.
fn ensure(cache: &Path, missing: impl Fn() -> Vec<&'static str>) -> Result<()> {
    let before = missing();
    if before.is_empty() {
        return Ok(());
    }
    let lack = format!("these packages are missing: {}", before.join(" "));
    install(cache, &lack, &before, None)?;
    let after = missing();
    if after.is_empty() {
        return Ok(());
    }
    trouble(
        format!("installed, and yet not found: {}", after.join(" ")),
        "see that /usr/sbin, /usr/bin and /bin are in PATH",
    )
}

/// Installs packages, since there is this `lack`; `from` prefers a suite. Only root may do it.
pub fn install(cache: &Path, lack: &str, packages: &[&str], from: Option<&str>) -> Result<()> {
    let codename = codename(lack)?;
    if !rustix::process::geteuid().is_root() {
        let source = from.map_or(String::new(), |suite| format!("-t {suite} "));
        return trouble(
            format!("{lack}; only root may install packages"),
            format!(
                "run `cargo lab setup` as root once, or `apt-get install {source}{}` as root",
                packages.join(" ")
            ),
        );
    }
    let apt = Apt::of_release(cache, &codename)?;
    // What QEMU brought from backports (libelf1) may need its other half from there.
    apt.install(packages, from)
        .or_else(|_| apt.install(packages, Some(&backports(&codename))))
}

fn missing(needs: &[Need]) -> Vec<&'static str> {
    let is_there = |sign: &str| Path::new(sign).is_file() || find(sign).is_some();
    needs
        .iter()
        .filter(|(_, signs)| !signs.iter().any(|sign| is_there(sign)))
        .map(|(package, _)| *package)
        .collect()
}

/// The folder of a libclang for bindgen: `$LIBCLANG_PATH`, since who says where it is gets no other, else LLVM 19 or the
/// newest other that bindgen and rustc can use.
fn libclang() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(LIBCLANG) {
        return Some(named.into());
    }
    [19, 22, 21, 20, 18, 17]
        .map(|version| PathBuf::from(format!("/usr/lib/llvm-{version}/lib")))
        .into_iter()
        .find(|folder| has_libclang(folder))
}

fn has_libclang(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libclang") && name.contains(".so")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_by_its_package() {
        let needs: &[Need] = &[
            ("shell", &["sh"]),
            ("nothing", &["no-such-program-at-all"]),
            ("header", &["/no/such/header.h"]),
            ("passwd", &["/no/such", "/etc/passwd"]),
        ];
        assert_eq!(missing(needs), ["nothing", "header"]);
    }
}
