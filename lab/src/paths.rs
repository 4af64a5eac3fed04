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

/// Refuses when fewer than `needed` bytes are free for this user on the file system that holds `path`, or its nearest
/// folder that exists; `purpose` says for what.
pub fn need_space(path: &Path, needed: u64, purpose: &str) -> Result<()> {
    let existing = path.ancestors().find(|folder| folder.exists());
    let figures = rustix::fs::statvfs(existing.unwrap_or(path))?;
    let free = figures.f_bavail.saturating_mul(figures.f_frsize);
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

    #[test]
    fn the_cache_follows_the_variables_in_order_and_is_absolute() {
        let of = |set: &[(&str, &str)]| {
            cache_from(|name| {
                let (_, value) = set.iter().find(|(set, _)| *set == name)?;
                Some(PathBuf::from(value))
            })
        };
        let all = [
            ("HITLESS_CACHE", "/a"),
            ("XDG_CACHE_HOME", "/b"),
            ("HOME", "/c"),
        ];
        assert_eq!(of(&all).unwrap(), Path::new("/a"));
        assert_eq!(of(&all[1..]).unwrap(), Path::new("/b/hitless"));
        let empty = [("HITLESS_CACHE", ""), ("HOME", "/c")];
        assert_eq!(of(&empty).unwrap(), Path::new("/c/.cache/hitless"));
        assert!(of(&[]).unwrap_err().cause.contains("is set"));
        let relative = of(&[("HITLESS_CACHE", "x")]).unwrap_err();
        assert!(relative.cause.contains("absolute"));
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
