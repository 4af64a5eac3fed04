// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A folder with room for a machine's memory, in memory where possible.
//!
//! It is there only until QEMU has everything open. What a lab leaves that is killed in that time, the next one removes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{flock, FlockOperation};
use tempfile::TempDir;

use crate::trouble::trouble;

/// Names of the folders begin like this.
pub(crate) const PREFIX: &str = "hitless-";
/// A folder that is younger may be one that its lab has not locked yet.
const YOUNG: Duration = Duration::from_secs(5);

/// The folder, locked as long as this lives.
#[derive(Debug)]
pub(crate) struct Room {
    folder: TempDir,
    _lock: File,
}

impl Room {
    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Removes the folder; who has its files open keeps them.
    ///
    /// # Errors
    ///
    /// It can not be removed.
    pub(crate) fn close(self) -> Result<()> {
        self.folder
            .close()
            .context("the machine's sockets can not be removed")
    }
}

/// Where such folders may be, the best first.
pub(crate) fn places() -> [PathBuf; 2] {
    [PathBuf::from("/dev/shm"), std::env::temp_dir()]
}

/// Makes a folder with room for so much memory.
pub(crate) fn memory_directory(memory_mib: u64) -> Result<Room> {
    let mut full = Vec::new();
    for place in places() {
        sweep(&place);
        let Ok(room) = rustix::fs::statvfs(&place) else {
            continue;
        };
        let free_mib = room.f_bavail.saturating_mul(room.f_frsize) >> 20;
        if free_mib < memory_mib + memory_mib / 8 {
            full.push(format!("{} has {free_mib} MiB", place.display()));
            continue;
        }
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(&place)
            .with_context(|| format!("no directory can be made in {}", place.display()))?;
        let lock = File::open(folder.path()).context("the machine's directory can not be read")?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .context("the machine's directory can not be locked")?;
        return Ok(Room {
            folder,
            _lock: lock,
        });
    }
    trouble(
        format!(
            "no room for the machine's {memory_mib} MiB of memory ({})",
            full.join(", ")
        ),
        "free some, or set TMPDIR to a place that has it",
    )
}

/// Removes folders whose lab is gone.
fn sweep(place: &Path) {
    let Ok(entries) = std::fs::read_dir(place) else {
        return;
    };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_ours && is_left(&entry.path()) {
            // What cannot be removed, such as another user's, only takes space.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn is_left(folder: &Path) -> bool {
    let age = std::fs::metadata(folder)
        .and_then(|meta| meta.modified())
        .ok()
        .and_then(|time| time.elapsed().ok());
    age.is_some_and(|age| age > YOUNG)
        && File::open(folder)
            .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn a_folder_without_a_lab_is_swept_and_others_stay() {
        let place = tempfile::tempdir().unwrap();
        let folder = |name: &str, age: u64| {
            let path = place.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("ram"), "").unwrap();
            let file = File::open(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age))
                .unwrap();
            (path, file)
        };
        let left = folder("hitless-left", 60).0;
        let young = folder("hitless-young", 0).0;
        let (used, lock) = folder("hitless-used", 60);
        flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        let other = folder("other", 60).0;
        sweep(place.path());
        assert!(!left.exists());
        assert!(young.exists() && used.exists() && other.exists());
    }

    #[test]
    fn no_room_is_told_with_figures_and_what_to_do() {
        let error = memory_directory(1 << 40).unwrap_err().to_string();
        assert!(
            error.contains("/dev/shm has ")
                && error.contains("what to do")
                && error.contains("TMPDIR"),
            "{error}"
        );
    }
}
