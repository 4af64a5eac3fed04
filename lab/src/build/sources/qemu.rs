// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU: found, or installed where it is absent or too old.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::apt::Apt;
use super::platform::{debian, need_root};
use crate::command::{find, output};
use crate::trouble::{trouble, Trouble};
use crate::upstream::Release;

/// QEMU's name on PATH.
pub const PROGRAM: &str = "qemu-system-x86_64";
/// Debian's package.
pub const PACKAGE: &str = "qemu-system-x86";
/// Names another one.
const VARIABLE: &str = "HITLESS_QEMU";
/// The first release whose emulated VT-d and igb do what the machines need: it has first-stage tables.
pub const OLDEST: Release = Release {
    version: 10,
    patchlevel: 0,
    sublevel: 0,
};

/// The QEMU that was named, or the one on PATH, when it is recent enough; none when it is absent or too old.
pub(super) fn found() -> Result<Option<PathBuf>> {
    let Some(path) = program() else {
        return Ok(None);
    };
    let version = version(&ask(&path, &["--version"])?);
    Ok(version
        .is_some_and(|version| version >= OLDEST)
        .then_some(path))
}

fn program() -> Option<PathBuf> {
    let named = env::var_os(VARIABLE).filter(|name| !name.is_empty());
    named.map(PathBuf::from).or_else(|| find(PROGRAM))
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

/// Why none was found, in words.
fn lack() -> String {
    let Some(path) = program() else {
        return format!("there is no {PROGRAM} on PATH");
    };
    let text = ask(&path, &["--version"]).unwrap_or_default();
    let name = match version(&text) {
        Some(version) => format!("QEMU {version}"),
        None => "of an unknown version".to_owned(),
    };
    format!("{} is {name}", path.display())
}

/// Installs QEMU, from backports where the release's own is too old.
pub(super) fn install(cache: &Path) -> Result<PathBuf> {
    // Another process may have done it while this one waited.
    if let Some(path) = found()? {
        return Ok(path);
    }
    let lack = lack();
    let debian = debian(&format!("{PACKAGE} {OLDEST} or newer ({lack})"))?;
    let backports = debian.backports();
    let from = (debian.codename == "bookworm").then_some(backports.as_str());
    let source = from.map_or(String::new(), |suite| format!("-t {suite} "));
    need_root(
        &format!("{lack}, the machines need {OLDEST} or newer, and only root may install it"),
        &format!("{source}{PACKAGE}"),
    )?;
    Apt::of_release(cache, &debian)?.install(&[PACKAGE], from)?;
    match found()? {
        Some(path) => Ok(path),
        None => trouble(
            format!(
                "{PACKAGE} was installed, but {}, and the machines need {OLDEST} or newer",
                self::lack()
            ),
            format!("remove that one, put /usr/bin before its folder in PATH, or unset {VARIABLE}"),
        ),
    }
}

fn version(text: &str) -> Option<Release> {
    let rest = text.strip_prefix("QEMU emulator version ")?;
    Release::parse(rest.split([' ', '\n', '(', '-']).next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let new = version(
            "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\nCopyright",
        )
        .unwrap();
        assert!(new >= OLDEST);
        assert!(version("QEMU emulator version 7.2.17 (Debian)\n").unwrap() < OLDEST);
        assert_eq!(version("something"), None);
    }
}
