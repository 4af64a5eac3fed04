// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A folder with room for a machine's memory, in memory where possible.
//!
//! It is there only until QEMU has everything open. What a lab leaves that is killed in that time, the next one removes:
//! folders that have the name, the owner and the marker of one of ours, and nobody who holds the marker's lock.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{flock, FlockOperation};
use tempfile::{NamedTempFile, TempDir};

use crate::trouble::trouble;

/// Names of the folders begin like this.
pub const PREFIX: &str = "hitless-machine-";
/// The file that tells such a folder from what merely has a name like it. Its lock is held as long as the folder is used.
const MARKER: &str = ".hitless-machine-marker";

/// The folder, locked as long as this lives.
#[derive(Debug)]
pub struct Room {
    folder: TempDir,
    _lock: File,
}

impl Room {
    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Removes the folder; who has its files open keeps them.
    ///
    /// # Errors
    ///
    /// It can not be removed.
    pub fn close(self) -> Result<()> {
        self.folder
            .close()
            .context("the machine's sockets can not be removed")
    }
}

/// Where such folders may be, the best first.
pub fn places() -> [PathBuf; 2] {
    [PathBuf::from("/dev/shm"), std::env::temp_dir()]
}

/// Makes a folder with room for so much memory.
pub fn memory_directory(memory_mib: u64) -> Result<Room> {
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
        return make(&place);
    }
    trouble(
        format!(
            "no room for the machine's {memory_mib} MiB of memory ({})",
            full.join(", ")
        ),
        "free some, or set TMPDIR to a place that has it",
    )
}

/// Makes a folder. Its marker is locked before it has its name, so nobody ever sees it unlocked while the lab lives.
fn make(place: &Path) -> Result<Room> {
    let folder = tempfile::Builder::new()
        .prefix(PREFIX)
        .tempdir_in(place)
        .with_context(|| format!("no directory can be made in {}", place.display()))?;
    let marker = NamedTempFile::new_in(folder.path())
        .context("the machine's directory can not be written to")?;
    flock(marker.as_file(), FlockOperation::NonBlockingLockExclusive)
        .context("the machine's directory can not be locked")?;
    let lock = marker
        .persist(folder.path().join(MARKER))
        .context("the machine's directory can not be marked")?;
    Ok(Room {
        folder,
        _lock: lock,
    })
}

/// Removes folders whose lab is gone.
fn sweep(place: &Path) {
    let Ok(entries) = std::fs::read_dir(place) else {
        return;
    };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        if let Some(_lock) = abandoned(&entry.path()) {
            // What cannot be removed only takes space.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// The marker's lock, where a folder is this user's, has a marker, and no lab that lives.
fn abandoned(folder: &Path) -> Option<File> {
    let ours = |path: &Path, kind: fn(&Metadata) -> bool| {
        std::fs::symlink_metadata(path)
            .is_ok_and(|meta| kind(&meta) && meta.uid() == rustix::process::geteuid().as_raw())
    };
    let marker = folder.join(MARKER);
    if !ours(folder, Metadata::is_dir) || !ours(&marker, Metadata::is_file) {
        return None;
    }
    let lock = File::open(marker).ok()?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(lock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::time::{Duration, SystemTime};

    /// A folder as a lab that is killed leaves it.
    fn left_in(place: &Path) -> PathBuf {
        let Room { folder, _lock } = make(place).unwrap();
        std::fs::write(folder.path().join("ram"), "").unwrap();
        folder.keep()
    }

    /// A folder that somebody else has made, long ago.
    fn foreign(place: &Path, name: &str) -> PathBuf {
        let folder = place.join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("file"), "").unwrap();
        let age = Duration::from_secs(3600);
        let handle = File::open(&folder).unwrap();
        handle.set_modified(SystemTime::now() - age).unwrap();
        folder
    }

    #[test]
    fn what_a_killed_lab_left_goes_and_what_a_living_one_uses_stays() {
        let place = tempfile::tempdir().unwrap();
        let left = left_in(place.path());
        let used = make(place.path()).unwrap();
        sweep(place.path());
        assert!(!left.exists());
        assert!(used.path().join(MARKER).is_file());
        let path = used.path().to_owned();
        used.close().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn what_the_lab_did_not_make_stays() {
        let place = tempfile::tempdir().unwrap();
        let series = foreign(place.path(), "hitless-series");
        let alike = foreign(place.path(), "hitless-machine-room");
        // A marker elsewhere makes nothing ours.
        let pointing = foreign(place.path(), "hitless-machine-x");
        let left = left_in(series.as_path());
        symlink(left.join(MARKER), pointing.join(MARKER)).unwrap();
        let link = place.path().join("hitless-machine-link");
        symlink(&left, &link).unwrap();
        sweep(place.path());
        for folder in [&series, &alike, &pointing] {
            assert!(folder.join("file").is_file(), "{folder:?}");
        }
        assert!(left.join("ram").is_file() && link.join("ram").is_file());
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
