// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where things are: the repository, what is made (`target/lab`) and what was fetched (the cache).

use std::env;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::trouble::{trouble, Trouble};

/// The root of the repository: the nearest folder above that has `kernel/UPSTREAM`.
///
/// Starts at the manifest cargo ran, so that it works from any folder, else at the current folder.
pub fn repository() -> Result<PathBuf> {
    let start = match env::var_os("CARGO_MANIFEST_DIR") {
        Some(manifest) => PathBuf::from(manifest),
        None => env::current_dir()?,
    };
    let Some(root) = start
        .ancestors()
        .find(|dir| dir.join("kernel/UPSTREAM").is_file())
    else {
        return trouble(
            format!("no hitless repository at or above {}", start.display()),
            "run `cargo lab` inside the checkout",
        );
    };
    // Kbuild refuses such paths deep inside a build, with a message that helps nobody.
    if root.as_os_str().to_string_lossy().contains([' ', ':']) {
        return trouble(
            format!("the checkout is at {}: the kernel cannot be built below a path with a space or a colon", root.display()),
            "move the checkout",
        );
    }
    Ok(root.to_path_buf())
}

/// The folder of everything the lab makes: `target/lab` of the checkout, wherever cargo itself builds. Builds of
/// kernels are too costly to have twice.
pub fn output() -> Result<PathBuf> {
    Ok(repository()?.join("target/lab"))
}

/// The folder of everything that was fetched: `$HITLESS_CACHE`, `$XDG_CACHE_HOME/hitless` or `~/.cache/hitless`.
pub fn cache() -> Result<PathBuf> {
    Ok(cache_from(|name| env::var_os(name).map(PathBuf::from))?)
}

fn cache_from(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, Trouble> {
    let set = |name: &str| variable(name).filter(|path| !path.as_os_str().is_empty());
    let found = set("HITLESS_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("hitless")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/hitless")))
        .ok_or_else(|| {
            Trouble::new(
                "neither HITLESS_CACHE nor HOME is set",
                "set HITLESS_CACHE to a folder for downloads",
            )
        })?;
    if !found.is_absolute() {
        return Err(Trouble::new(
            format!(
                "the cache folder {} is not an absolute path",
                found.display()
            ),
            "set HITLESS_CACHE to an absolute path",
        ));
    }
    Ok(found)
}

/// Bytes free for this user on the file system that holds `path`, or its nearest folder that exists.
pub fn free_bytes(path: &Path) -> Result<u64> {
    let existing = path
        .ancestors()
        .find(|dir| dir.exists())
        .unwrap_or(Path::new("/"));
    let figures = rustix::fs::statvfs(existing)?;
    Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
}

/// Refuses when fewer than `needed` bytes are free at `path`; `purpose` says for what.
pub fn need_space(path: &Path, needed: u64, purpose: &str) -> Result<()> {
    let free = free_bytes(path)?;
    if free >= needed {
        return Ok(());
    }
    const MIB: u64 = 1 << 20;
    trouble(
        format!(
            "{purpose} needs {} MiB at {}, but only {} MiB are free there",
            needed / MIB,
            path.display(),
            free / MIB
        ),
        "free some space; HITLESS_CACHE moves downloads to another file system, and target/lab in the checkout may be a link to one",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<PathBuf> {
        move |name| {
            pairs
                .iter()
                .find(|pair| pair.0 == name)
                .map(|pair| PathBuf::from(pair.1))
        }
    }

    #[test]
    fn cache_follows_the_variables_in_order() {
        let all = &[
            ("HITLESS_CACHE", "/a"),
            ("XDG_CACHE_HOME", "/b"),
            ("HOME", "/c"),
        ];
        assert_eq!(cache_from(with(all)).unwrap(), PathBuf::from("/a"));
        assert_eq!(
            cache_from(with(&[("XDG_CACHE_HOME", "/b"), ("HOME", "/c")])).unwrap(),
            PathBuf::from("/b/hitless")
        );
        assert_eq!(
            cache_from(with(&[("HITLESS_CACHE", ""), ("HOME", "/c")])).unwrap(),
            PathBuf::from("/c/.cache/hitless")
        );
    }

    #[test]
    fn cache_refuses_nothing_and_relative() {
        assert!(cache_from(with(&[])).is_err());
        assert!(cache_from(with(&[("HITLESS_CACHE", "x")]))
            .unwrap_err()
            .cause
            .contains("absolute"));
    }

    #[test]
    fn space_refusal_names_figures() {
        let error = need_space(Path::new("/"), u64::MAX, "this")
            .unwrap_err()
            .to_string();
        assert!(error.contains("MiB are free"), "{error}");
        need_space(Path::new("/no/such/folder"), 0, "this").unwrap();
    }
}
