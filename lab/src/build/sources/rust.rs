// SPDX-License-Identifier: Apache-2.0 OR MIT
//! rustc, and the library source of exactly its version, which the kernel build compiles `core` from.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{find, output};
use crate::progress::Step;
use crate::trouble::{trouble, Trouble};
use crate::upstream::Release;

/// What Linux 7.3 asks for at least (scripts/min-tool-version.sh).
const OLDEST: Release = Release {
    version: 1,
    patchlevel: 85,
    sublevel: 0,
};
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

/// Finds `library` of the compiler's source in the toolchain, or has rustup put it there.
pub fn library(compiler: &Compiler) -> Result<PathBuf> {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
    if is_library(&library) {
        return Ok(library);
    }
    let release = compiler.release;
    let mut refused = format!("{} is not there", library.display());
    if find("rustup").is_some() {
        let step = Step::begin(format!(
            "Fetching the Rust {release} library source (rustup)"
        ));
        match output(Command::new("rustup").args(["component", "add", "rust-src"])) {
            Ok(_) if is_library(&library) => {
                step.done();
                return Ok(library);
            }
            Ok(_) => {}
            Err(error) => refused = format!("rustup has no rust-src: {error:#}"),
        }
    }
    trouble(
        format!("the library source of rustc {release} is missing: {refused}"),
        format!("`rustup component add rust-src`, or install the package rust-src {release} from where rustc is from"),
    )
}

fn is_library(folder: &Path) -> bool {
    folder.join("core/src/lib.rs").is_file()
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
