// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU: found, or installed where it is absent or too old.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::apt::{backports, codename};
use super::packages;
use crate::command::{find, output};
use crate::trouble::{trouble, Trouble};

/// QEMU's name on PATH.
pub const PROGRAM: &str = "qemu-system-x86_64";
/// Debian's package.
pub const PACKAGE: &str = "qemu-system-x86";
/// Names another one.
const VARIABLE: &str = "HITLESS_QEMU";
/// The first release whose emulated VT-d and igb do what the machines need: it has first-stage tables.
pub const OLDEST: u32 = 10;

/// The QEMU that was named, or the one on PATH, when it is recent enough; else, in words, why there is none.
pub(super) fn found() -> Result<Result<PathBuf, String>> {
    let named = env::var_os(VARIABLE).filter(|name| !name.is_empty());
    let Some(path) = named.map(PathBuf::from).or_else(|| find(PROGRAM)) else {
        return Ok(Err(format!("there is no {PROGRAM} on PATH")));
    };
    let text = ask(&path, &["--version"])?;
    let version = version(&text);
    if version.is_some_and(|(_, major)| major >= OLDEST) {
        return Ok(Ok(path));
    }
    let version = version.map_or("of an unknown version", |(version, _)| version);
    Ok(Err(format!("{} is QEMU {version}", path.display())))
}

/// What QEMU answers to these arguments.
pub fn ask(path: &Path, what: &[&str]) -> Result<String> {
    let answer = output(Command::new(path).args(what));
    answer.map_err(|error| {
        Trouble::new(
            format!("{} does not run: {error:#}", path.display()),
            format!("mend it (`apt-get install --reinstall {PACKAGE}`), or take its folder out of PATH if it is not Debian's"),
        )
        .into()
    })
}

/// Installs QEMU, from backports where the release's own is too old.
pub(super) fn install(cache: &Path) -> Result<PathBuf> {
    // Another process may have done it while this one waited.
    let lack = match found()? {
        Ok(path) => return Ok(path),
        Err(lack) => format!("{lack}, and the machines need {OLDEST} or newer"),
    };
    let codename = codename(&lack)?;
    let suite = (codename == "bookworm").then(|| backports(&codename));
    packages::install(cache, &lack, &[PACKAGE], suite.as_deref())?;
    found()?.or_else(|lack| {
        trouble(
            format!("{PACKAGE} was installed, but {lack}, and the machines need {OLDEST} or newer"),
            format!("remove that one, put /usr/bin before its folder in PATH, or unset {VARIABLE}"),
        )
    })
}

/// The version that QEMU says it is, and its first number.
fn version(text: &str) -> Option<(&str, u32)> {
    let rest = text.strip_prefix("QEMU emulator version ")?;
    let version = rest.split_whitespace().next()?;
    Some((version, version.split('.').next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let debian =
            "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\nCopyright";
        assert_eq!(version(debian), Some(("10.0.2", 10)));
        assert_eq!(
            version("QEMU emulator version 7.2.17\n"),
            Some(("7.2.17", 7))
        );
        assert_eq!(version("something"), None);
    }
}
