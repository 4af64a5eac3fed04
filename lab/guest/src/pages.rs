// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where memory is physically, by /proc/self/pagemap (Documentation/admin-guide/mm/pagemap.rst).

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{ensure, Context, Result};
use hitless_proto::layout::PAGE;
use hitless_uapi::Mapping;

const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;

/// The physical address of every page of a mapping.
pub(crate) fn physical(memory: &Mapping) -> Result<Vec<u64>> {
    // A page that this mapping has not been used for is not in this process's page table yet.
    for offset in (0..memory.length()).step_by(PAGE as usize) {
        memory.read_u64(offset);
    }
    let pages = memory.length() / PAGE;
    let mut bytes = vec![0; usize::try_from(pages * 8)?];
    let map = File::open("/proc/self/pagemap")
        .context("opening /proc/self/pagemap (CONFIG_PROC_PAGE_MONITOR)")?;
    map.read_exact_at(&mut bytes, memory.address() / PAGE * 8)
        .context("reading /proc/self/pagemap")?;
    bytes
        .chunks_exact(8)
        .enumerate()
        .map(|(page, entry)| address(page, entry))
        .collect()
}

fn address(page: usize, entry: &[u8]) -> Result<u64> {
    let word = u64::from_le_bytes(entry.try_into()?);
    ensure!(
        word & PRESENT != 0,
        "page {page} is not present, though it was read just before"
    );
    let frame = word & FRAME;
    ensure!(
        frame != 0,
        "/proc/self/pagemap hides page {page}'s frame: it is shown to CAP_SYS_ADMIN only"
    );
    Ok(frame * PAGE)
}

#[test]
fn entries_are_read_by_their_bits() {
    let entry = |word: u64| address(0, &word.to_le_bytes());
    let present = entry(PRESENT | 1 << 55 | 0x1234).expect("present");
    assert_eq!(present, 0x123_4000);
    assert!(entry(0x1234).is_err() && entry(PRESENT).is_err());
}
