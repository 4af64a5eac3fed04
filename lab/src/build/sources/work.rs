// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The folder in the cache in which things are made before they are renamed into it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

/// The folder of the cache in which things are made. The cache itself may be a folder that holds other things too, so
/// nothing is ever removed there by the look of its name.
pub const WORK: &str = "hitless-work";

/// A temporary folder for something that is being made for the cache, and then renamed into it.
pub fn work_folder(cache: &Path, what: &str) -> Result<TempDir> {
    let folder = cache.join(WORK);
    fs::create_dir_all(&folder)
        .and_then(|()| {
            tempfile::Builder::new()
                .prefix(&format!("{what}-"))
                .tempdir_in(&folder)
        })
        .with_context(|| format!("no folder can be made in {}", folder.display()))
}

/// Removes what interrupted runs left behind. The caller holds the lock of the cache, so nobody is at work.
pub fn sweep_work(cache: &Path) {
    sweep(&cache.join(WORK), "");
}

/// Removes everything in a folder of the lab's own whose name begins so. The caller sees to it that nobody uses it.
pub fn sweep(folder: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) {
            // What cannot be removed only takes space.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leavings_are_swept_and_everything_else_stays() {
        let cache = tempfile::tempdir().unwrap();
        let left = work_folder(cache.path(), "unpack").unwrap().keep();
        fs::create_dir(left.join("root")).unwrap();
        // Names of the user's own, such as the lab once used.
        let others = ["bindgen-notes", "download-x", "linux-7.3.4", "unpack-a"];
        for name in others {
            fs::create_dir(cache.path().join(name)).unwrap();
        }
        sweep_work(cache.path());
        assert!(!left.exists());
        for name in others {
            assert!(cache.path().join(name).is_dir(), "{name}");
        }
    }
}
