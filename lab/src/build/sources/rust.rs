// SPDX-License-Identifier: Apache-2.0 OR MIT
//! rustc, and the library source of exactly its version, which the kernel build compiles `core` from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::linux::unpack_package;
use super::platform::debian;
use crate::command::{find, output};
use crate::paths;
use crate::progress::Step;
use crate::trouble::{trouble, Trouble};
use crate::upstream::Release;

/// What Linux 7.3 asks for at least (scripts/min-tool-version.sh).
const OLDEST: Release = Release {
    version: 1,
    patchlevel: 85,
    sublevel: 0,
};
/// Where Debian has newer compilers than Debian 12; searched in this order.
const SUITES: [&str; 4] = ["trixie-backports", "trixie", "sid", "experimental"];

/// Package and unpacked package, measured (480 MiB), with some air.
const SPACE: u64 = 600 << 20;

/// The compiler on PATH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiler {
    /// `1.95.0`.
    pub release: Release,
    /// `1.95.0 (hash date)`.
    pub full: String,
}

/// Finds rustc and refuses one that is too old for the kernel.
pub fn compiler() -> Result<Compiler> {
    let text = output(Command::new("rustc").arg("--version"))
        .context("rustc does not run: install Rust (rustup) first")?;
    Ok(recognize(&text)?)
}

fn recognize(text: &str) -> Result<Compiler, Trouble> {
    let full = text
        .trim()
        .strip_prefix("rustc ")
        .unwrap_or(text.trim())
        .to_owned();
    let number = full.split([' ', '-']).next().unwrap_or_default();
    let upgrade = "run `rustup update stable` (or install a newer rustc)";
    let Some(release) = Release::parse(number) else {
        return Err(Trouble::new(
            format!("rustc says its version is `{}`", text.trim()),
            upgrade,
        ));
    };
    if release < OLDEST {
        return Err(Trouble::new(
            format!("rustc is {release}, but Linux 7.3 needs {OLDEST} or newer"),
            upgrade,
        ));
    }
    Ok(Compiler { release, full })
}

/// Gets or finds `library` of the compiler's source: from the toolchain, else by rustup, else from a Debian package.
pub fn library(cache: &Path, compiler: &Compiler) -> Result<PathBuf> {
    let kept = cache.join(format!("rust-src-{}", compiler.release));
    let in_cache = kept.join("library");
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let in_toolchain = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
    for found in [&in_toolchain, &in_cache] {
        if is_library(found) {
            return Ok(found.clone());
        }
    }
    let mut refused = None;
    if find("rustup").is_some() {
        let step = Step::begin(format!(
            "Fetching the Rust {} library source (rustup)",
            compiler.release
        ));
        let mut rustup = Command::new("rustup");
        rustup
            .args(["component", "add", "rust-src"])
            .env("RUSTUP_MAX_RETRIES", "1");
        match output(&mut rustup) {
            Ok(_) if is_library(&in_toolchain) => {
                step.done();
                return Ok(in_toolchain);
            }
            Ok(_) => refused = Some("rustup says that rust-src is there, but it is not".to_owned()),
            Err(error) => refused = Some(format!("rustup has no rust-src: {error:#}")),
        }
    }
    // Why rustup did not do is of interest only when nothing else does.
    from_package(cache, compiler, &kept).map_err(|error| match refused {
        Some(words) => error.context(words),
        None => error,
    })?;
    if !is_library(&in_cache) {
        return trouble(
            format!("{} has no library/core", kept.display()),
            "remove that folder and run again",
        );
    }
    Ok(in_cache)
}

fn is_library(folder: &Path) -> bool {
    folder.join("core/src/lib.rs").is_file()
}

fn from_package(cache: &Path, compiler: &Compiler, kept: &Path) -> Result<()> {
    let wanted = format!("rust-src {}", compiler.release);
    let debian = debian(&wanted)?;
    paths::need_space(cache, SPACE, "fetching the Rust library source")?;
    let package =
        super::linux::find_package(cache, &debian, "rust-src", &compiler.release, &SUITES)?;
    let work = unpack_package(cache, &package, "rust-src")?;
    let unpacked = work
        .path()
        .join("root/usr/src")
        .join(format!("rustc-{}", compiler.release));
    // The compiler's own source is in the package too, and takes six times the room.
    let only = work.path().join("only");
    fs::create_dir(&only)?;
    fs::rename(unpacked.join("library"), only.join("library"))
        .with_context(|| format!("the package has no {}/library", unpacked.display()))?;
    if kept.exists() {
        fs::remove_dir_all(kept)?;
    }
    fs::rename(&only, kept).with_context(|| format!("cannot make {}", kept.display()))?;
    // The package has served; it comes back with the next fetch.
    let _ = fs::remove_file(package);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compilers_are_recognized_and_old_ones_refused() {
        let good = recognize("rustc 1.95.0 (59807616e 2026-04-14)\n").unwrap();
        assert_eq!(good.release.to_string(), "1.95.0");
        assert_eq!(
            recognize("rustc 1.97.0-nightly (x)\n")
                .unwrap()
                .release
                .to_string(),
            "1.97.0"
        );
        let error = recognize("rustc 1.63.0 (x)\n").unwrap_err().to_string();
        assert!(
            error.contains("1.63.0") && error.contains("1.85.0") && error.contains("rustup"),
            "{error}"
        );
        assert!(recognize("something else").is_err());
    }
}
