// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The pinned Linux release (`kernel/UPSTREAM`) and the version a source tree says it is.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::trouble::{trouble, Trouble};

/// A Linux release number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// VERSION in the top Makefile.
    pub version: u32,
    /// PATCHLEVEL.
    pub patchlevel: u32,
    /// SUBLEVEL.
    pub sublevel: u32,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.version, self.patchlevel, self.sublevel)
    }
}

impl Release {
    /// Reads `7.3.4`, or `7.3` as 7.3.0.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('.').map(|part| part.parse().ok());
        let release = Self {
            version: parts.next()??,
            patchlevel: parts.next()??,
            sublevel: parts.next().unwrap_or(Some(0))?,
        };
        parts.next().is_none().then_some(release)
    }

    /// Reads the three lines at the head of a kernel's top Makefile.
    pub fn of_makefile(text: &str) -> Option<Self> {
        let value = |name: &str| {
            text.lines().take(20).find_map(|line| {
                let (key, value) = line.split_once('=')?;
                (key.trim() == name).then(|| value.trim().parse().ok())?
            })
        };
        Some(Self {
            version: value("VERSION")?,
            patchlevel: value("PATCHLEVEL")?,
            sublevel: value("SUBLEVEL")?,
        })
    }
}

/// What `kernel/UPSTREAM` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The pinned release.
    pub release: Release,
    /// The Debian package that has its source.
    pub package: String,
    /// The tarball's path in that package.
    pub tarball: String,
    /// SHA-256 sums of the tarballs that are known to be the release.
    pub sha256: Vec<String>,
}

impl Upstream {
    /// Reads the file of this repository.
    pub fn read(repository: &Path) -> Result<Self> {
        let path = repository.join("kernel/UPSTREAM");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text)
            .with_context(|| format!("{} is damaged: restore it with git", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let values = |key: &str| -> Vec<String> {
            text.lines()
                .filter_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
                .map(|value| value.trim().to_owned())
                .collect()
        };
        let one = |key: &str| {
            values(key)
                .into_iter()
                .next()
                .ok_or_else(|| Trouble::new(format!("no line `{key}`"), "add it"))
        };
        Ok(Self {
            release: Release::parse(&one("version")?)
                .context("the version is not three numbers")?,
            package: one("package")?,
            tarball: one("tarball")?,
            sha256: values("sha256"),
        })
    }

    /// Refuses a tree that is not the pinned release; both versions are named.
    pub fn check_tree(&self, tree: &Path) -> Result<()> {
        let makefile = tree.join("Makefile");
        let text = fs::read_to_string(&makefile)
            .with_context(|| format!("{} is not a Linux source tree", tree.display()))?;
        let found = Release::of_makefile(&text).with_context(|| {
            format!(
                "{} is not the top Makefile of a Linux source tree",
                makefile.display()
            )
        })?;
        if found == self.release {
            return Ok(());
        }
        trouble(
            format!("{} is Linux {found}, but hitless is made for Linux {}", tree.display(), self.release),
            format!(
                "use a Linux {} tree (HITLESS_LINUX=PATH takes an unpacked tree or a tarball), or unset HITLESS_LINUX to have it fetched",
                self.release
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIN: &str = "# text\nversion 7.3.4\npackage linux-source-7.3\ntarball usr/src/x.tar.xz\nsha256 ab\nsha256 cd\n";

    #[test]
    fn pin_is_read() {
        let upstream = Upstream::parse(PIN).unwrap();
        assert_eq!(upstream.release.to_string(), "7.3.4");
        assert_eq!(upstream.sha256, ["ab", "cd"]);
        assert!(Upstream::parse("version 7.3.4\n").is_err());
        assert!(Upstream::parse(&PIN.replace("7.3.4", "seven")).is_err());
    }

    #[test]
    fn releases_parse() {
        assert_eq!(Release::parse("7.3").unwrap().to_string(), "7.3.0");
        for bad in ["", "7", "7.x", "7.3.4.5", "7.3.4-rc1"] {
            assert_eq!(Release::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn other_release_is_refused_by_both_names() {
        let dir = tempfile::tempdir().unwrap();
        let upstream = Upstream::parse(PIN).unwrap();
        fs::write(
            dir.path().join("Makefile"),
            "# x\nVERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 9\nEXTRAVERSION =\n",
        )
        .unwrap();
        let error = upstream.check_tree(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("6.12.9") && error.contains("7.3.4"),
            "{error}"
        );
        fs::write(
            dir.path().join("Makefile"),
            "VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\n",
        )
        .unwrap();
        upstream.check_tree(dir.path()).unwrap();
        fs::write(dir.path().join("Makefile"), "all:\n").unwrap();
        assert!(upstream.check_tree(dir.path()).is_err());
    }
}
