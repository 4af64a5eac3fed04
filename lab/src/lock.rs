// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One writer at a time: a lock file that the kernel releases when its holder ends, however it ends.

use std::fs::{create_dir_all, File};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{flock, FlockOperation};
use rustix::io::Errno;

use crate::trouble::Trouble;

/// Held while something is being made.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Waits until nobody else holds the lock of this folder; says so when it has to wait.
pub fn lock(folder: &Path) -> Result<Lock> {
    let path = folder.join(".lock");
    let file = create_dir_all(folder)
        .and_then(|()| File::create(&path))
        .map_err(|error| {
            Trouble::new(
                format!("cannot write {}: {error}", path.display()),
                "see that there is room, and whose folder it is (what root made is root's); HITLESS_CACHE names another for what is fetched",
            )
        })?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => return Ok(Lock { _file: file }),
        Err(Errno::WOULDBLOCK) => eprintln!(
            "another `cargo lab` is at work in {}: waiting for it",
            folder.display()
        ),
        Err(error) => return Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
    flock(&file, FlockOperation::LockExclusive)
        .with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(Lock { _file: file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_waits_for_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path()).unwrap();
        let path = dir.path().to_path_buf();
        let second = std::thread::spawn(move || lock(&path).map(drop));
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!second.is_finished());
        drop(first);
        second.join().unwrap().unwrap();
    }
}
