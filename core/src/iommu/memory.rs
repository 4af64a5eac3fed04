// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The seam through which tables are read.

use super::address::TableAddress;
use super::flaw::Flaw;

/// 64-bit words in a 4 KiB table.
pub const WORDS_PER_TABLE: usize = 512;

/// Physical memory with tables in it, lent by the caller.
///
/// Each call is one single-copy atomic 64-bit read (in the kernel a volatile one): hardware may be
/// reading, and in the case of accessed bits writing, the same words.
pub trait Memory {
    /// The word with number `index` of the 4 KiB page at `table`.
    ///
    /// # Errors
    ///
    /// [`Flaw::Unreadable`] if there is no memory at that address, [`Flaw::Index`] if `index`
    /// is not below [`WORDS_PER_TABLE`].
    fn read(&self, table: TableAddress, index: usize) -> Result<u64, Flaw>;
}

impl<M: Memory + ?Sized> Memory for &M {
    fn read(&self, table: TableAddress, index: usize) -> Result<u64, Flaw> {
        (**self).read(table, index)
    }
}

/// The words of the entry with number `entry` of a table of entries of `N` words: `N` reads, in
/// rising order.
///
/// # Errors
///
/// What [`Memory::read`] refuses.
pub(crate) fn read_entry<M: Memory, const N: usize>(
    memory: &M,
    table: TableAddress,
    entry: usize,
) -> Result<[u64; N], Flaw> {
    let mut words = [0; N];
    let first = entry.saturating_mul(N);
    for (offset, word) in words.iter_mut().enumerate() {
        *word = memory.read(table, first.saturating_add(offset))?;
    }
    Ok(words)
}
