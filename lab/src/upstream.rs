// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The pinned Linux release (`kernel/UPSTREAM`) and the version a source tree says it is.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::trouble::trouble;

/// What `kernel/UPSTREAM` says.
#[derive(Clone, Debug, Deserialize)]
pub struct Upstream {
    /// The pinned release.
    #[serde(rename = "version")]
    pub release: String,
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
        toml::from_str(&text)
            .with_context(|| format!("{} is damaged: restore it with git", path.display()))
    }

    /// Refuses a tree that is not the pinned release; both versions are named.
    pub fn check_tree(&self, tree: &Path) -> Result<()> {
        let makefile = fs::read_to_string(tree.join("Makefile")).unwrap_or_default();
        let found = release(&makefile)
            .with_context(|| format!("{} is not a Linux source tree", tree.display()))?;
        if found == self.release {
            return Ok(());
        }
        let wanted = &self.release;
        trouble(
            format!("{} is Linux {found}, but hitless is made for Linux {wanted}", tree.display()),
            format!(
                "use a Linux {wanted} tree (HITLESS_LINUX=PATH takes an unpacked tree or a tarball), or unset HITLESS_LINUX to have it fetched"
            ),
        )
    }
}

/// From the three lines at the head of a kernel's top Makefile.
fn release(makefile: &str) -> Option<String> {
    let value = |name: &str| {
        makefile.lines().take(20).find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == name).then(|| value.trim())
        })
    };
    let [version, patchlevel, sublevel] = ["VERSION", "PATCHLEVEL", "SUBLEVEL"].map(value);
    Some(format!("{}.{}.{}", version?, patchlevel?, sublevel?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_release_is_refused_by_both_names() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut upstream = Upstream::read(repository).unwrap();
        upstream.release = "7.3.4".to_owned();
        let dir = tempfile::tempdir().unwrap();
        let check = |makefile: &str| {
            fs::write(dir.path().join("Makefile"), makefile).unwrap();
            let result = upstream.check_tree(dir.path());
            result.map_or_else(|error| error.to_string(), |()| String::new())
        };
        let other = "# x\nVERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 9\nEXTRAVERSION =\n";
        let error = check(other);
        assert!(error.contains("Linux 6.12.9, but") && error.contains("Linux 7.3.4"));
        assert_eq!(check("VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\n"), "");
        assert!(check("all:\n").contains("is not a Linux source tree"));
    }
}
