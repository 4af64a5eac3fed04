// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs and headers that come from the distribution. What counts is that they are there, not who put them there.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::apt::Apt;
use super::platform::{debian, need_root};
use crate::command::{find, output};
use crate::trouble::{trouble, Trouble};

/// The variable by which bindgen is told where libclang is.
const LIBCLANG: &str = "LIBCLANG_PATH";

/// How one sees that a package is there.
#[derive(Clone, Copy, Debug)]
pub enum Sign {
    /// A program on PATH.
    Program(&'static str),
    /// One of these files.
    File(&'static [&'static str]),
    /// A libclang that bindgen and rustc 1.95 can use.
    Libclang,
}

/// A package of Debian 12 and the sign of its presence.
pub type Need = (&'static str, Sign);

/// What building kernel and guest needs.
pub const BUILD: &[Need] = &[
    ("gcc", Sign::Program("gcc")),
    ("binutils", Sign::Program("readelf")),
    (
        "libc6-dev",
        Sign::File(&[
            "/usr/lib/x86_64-linux-gnu/libc.a",
            "/usr/lib64/libc.a",
            "/usr/lib/libc.a",
        ]),
    ),
    ("make", Sign::Program("make")),
    ("flex", Sign::Program("flex")),
    ("bison", Sign::Program("bison")),
    ("bc", Sign::Program("bc")),
    ("patch", Sign::Program("patch")),
    ("perl", Sign::Program("perl")),
    ("python3", Sign::Program("python3")),
    ("cpio", Sign::Program("cpio")),
    ("kmod", Sign::Program("depmod")),
    ("tar", Sign::Program("tar")),
    ("xz-utils", Sign::Program("xz")),
    ("libelf-dev", Sign::File(&["/usr/include/libelf.h"])),
    ("libssl-dev", Sign::File(&["/usr/include/openssl/ssl.h"])),
    ("libclang-19-dev", Sign::Libclang),
];

/// For the kernel tree's own selftests of iommufd and VFIO.
pub const SELFTESTS: &[Need] = &[
    ("libcap-dev", Sign::File(&["/usr/include/sys/capability.h"])),
    ("uuid-dev", Sign::File(&["/usr/include/uuid/uuid.h"])),
];

/// For looking around in a machine; nothing else needs it.
pub const SHELL: &[Need] = &[("busybox-static", Sign::Program("busybox"))];

/// Installs what is missing; does nothing, and needs no rights, when nothing is.
pub fn ensure(cache: &Path, needs: &[Need]) -> Result<()> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    let wanted = missing.join(" ");
    let debian = debian(&wanted)?;
    need_root(
        &format!("these packages are missing and only root may install them: {wanted}"),
        &wanted,
    )?;
    let apt = Apt::of_release(cache, &debian)?;
    // What QEMU brought from backports (libelf1) may need its other half from there.
    if apt.install(&missing, None).is_err() {
        apt.install(&missing, Some(&debian.backports()))?;
    }
    let still = self::missing(needs);
    if still.is_empty() {
        return Ok(());
    }
    trouble(
        format!("installed, and yet not found: {}", still.join(" ")),
        "see that /usr/sbin, /usr/bin and /bin are in PATH",
    )
}

fn missing(needs: &[Need]) -> Vec<&'static str> {
    needs
        .iter()
        .filter(|(_, sign)| !is_there(*sign))
        .map(|(package, _)| *package)
        .collect()
}

fn is_there(sign: Sign) -> bool {
    match sign {
        // depmod is where only root's PATH looks.
        Sign::Program(name) => {
            find(name).is_some()
                || Path::new("/usr/sbin").join(name).is_file()
                || Path::new("/sbin").join(name).is_file()
        }
        Sign::File(paths) => paths.iter().any(|path| Path::new(path).is_file()),
        // Who says where it is gets no other.
        Sign::Libclang => std::env::var_os(LIBCLANG).is_some() || libclang().is_ok(),
    }
}

/// The folder of a libclang for bindgen: `$LIBCLANG_PATH`, else LLVM 19 or the newest other that is 17 or newer.
pub fn libclang() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(LIBCLANG).map(PathBuf::from) {
        if path.is_file() || has_libclang(&path) {
            return Ok(path);
        }
        return trouble(
            format!("{LIBCLANG} is {}, where no libclang.so is", path.display()),
            format!(
                "unset {LIBCLANG}, or set it to the folder of a libclang.so of version 17 or newer"
            ),
        );
    }
    let candidates = [19, 22, 21, 20, 18, 17]
        .map(|version| PathBuf::from(format!("/usr/lib/llvm-{version}/lib")));
    let found = candidates.into_iter().find(|folder| has_libclang(folder));
    found.ok_or_else(|| {
        Trouble::new(
            "there is no libclang of version 17 or newer below /usr/lib/llvm-*",
            "install libclang-19-dev, or set LIBCLANG_PATH to the folder of libclang.so",
        )
        .into()
    })
}

fn has_libclang(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return false;
    };
    entries.flatten().any(|entry| {
        entry.file_name().to_string_lossy().starts_with("libclang")
            && entry.file_name().to_string_lossy().contains(".so")
    })
}

/// gcc's version.
pub fn gcc_version() -> Result<String> {
    Ok(output(Command::new("gcc").arg("-dumpfullversion"))?
        .trim()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_by_its_package() {
        let needs: &[Need] = &[
            ("shell", Sign::Program("sh")),
            ("nothing", Sign::Program("no-such-program-at-all")),
            ("header", Sign::File(&["/no/such/header.h"])),
            ("passwd", Sign::File(&["/no/such", "/etc/passwd"])),
        ];
        assert_eq!(missing(needs), ["nothing", "header"]);
    }
}
