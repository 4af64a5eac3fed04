// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The folder in the cache in which things are made before they are renamed into it. The cache itself may be a folder that
//! holds other things too, so nothing is ever removed there by the look of its name.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

/// What it is called.
pub const WORK: &str = "hitless-work";

/// A temporary folder for something that is being made for the cache, and then renamed into it.
pub fn work_folder(cache: &Path) -> Result<TempDir> {
    let folder = cache.join(WORK);
    fs::create_dir_all(&folder)
        .and_then(|()| tempfile::tempdir_in(&folder))
        .with_context(|| format!("no folder can be made in {}", folder.display()))
}

/// Removes what interrupted runs left behind. The caller holds the lock of the cache, so nobody is at work.
pub fn sweep(cache: &Path) {
    // What cannot be removed only takes space.
    let _ = fs::remove_dir_all(cache.join(WORK));
}
