// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Room for a machine's memory, which is nowhere but in QEMU's own file without a name, and goes with it.

use anyhow::Result;
use hitless_proto::available_mib;

use crate::trouble::trouble;

/// What the host says of its memory.
const MEMORY: &str = "/proc/meminfo";

/// Refuses a machine with so much memory where the host has it not.
pub fn need(memory_mib: u64) -> Result<()> {
    let free_mib = available_mib(&std::fs::read_to_string(MEMORY).unwrap_or_default());
    match free_mib {
        Some(free_mib) if free_mib < memory_mib + memory_mib / 8 => trouble(
            format!("no room for the machine's {memory_mib} MiB of memory: the host has {free_mib} MiB to spare"),
            "end something, or use a profile with less memory_mib",
        ),
        _ => Ok(()),
    }
}

#[test]
fn no_room_is_told_with_figures_and_what_to_do() {
    let error = need(1 << 40).unwrap_err().to_string();
    assert!(
        error.contains("MiB to spare") && error.contains("memory_mib"),
        "{error}"
    );
    need(1).unwrap();
}
