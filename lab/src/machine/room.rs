// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A folder for a machine's sockets, which is there only until QEMU has everything open. The machine's memory is nowhere but
//! in QEMU's own file without a name, and goes with it.

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::trouble::trouble;

/// Names of the folders begin like this.
pub const PREFIX: &str = "hitless-machine-";
/// What the host says of its memory.
const MEMORY: &str = "/proc/meminfo";

/// Makes the folder, for a machine with so much memory.
pub fn sockets(memory_mib: u64) -> Result<TempDir> {
    let free_mib = available_mib(&std::fs::read_to_string(MEMORY).unwrap_or_default());
    if let Some(free_mib) = free_mib.filter(|free| *free < memory_mib + memory_mib / 8) {
        return trouble(
            format!("no room for the machine's {memory_mib} MiB of memory: the host has {free_mib} MiB to spare"),
            "end something, or use a profile with less memory_mib",
        );
    }
    let place = std::env::temp_dir();
    tempfile::Builder::new()
        .prefix(PREFIX)
        .tempdir_in(&place)
        .with_context(|| format!("no directory can be made in {}", place.display()))
}

fn available_mib(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let line = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_room_is_told_with_figures_and_what_to_do() {
        assert_eq!(
            available_mib("MemFree: 1 kB\nMemAvailable:   2048000 kB\n"),
            Some(2000)
        );
        let error = sockets(1 << 40).unwrap_err().to_string();
        assert!(
            error.contains("MiB to spare") && error.contains("memory_mib"),
            "{error}"
        );
        assert!(sockets(1).unwrap().path().is_dir());
    }
}
