// SPDX-License-Identifier: GPL-2.0-only

//! Words of tables that hardware walks, named by physical address.

use crate::{
    bindings,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    }, //
};
use core::mem::size_of;

/// Words of 64 bits in a page.
const WORDS: usize = PAGE_SIZE / size_of::<u64>();

/// Leave to read and write words of tables that hardware walks.
///
/// Such tables are found by following pointers in them, so there is no object to borrow: the leave is
/// for all of them, and whoever mints it answers for what it is used on.
///
/// # Invariants
///
/// All pages that the value is used on are tables that no Rust reference points into, and for which
/// single 64-bit reads and writes at any moment are as good as those of the hardware and of the C
/// code that shares them.
pub struct TableMemory(());

impl TableMemory {
    /// Mints a leave.
    ///
    /// # Safety
    ///
    /// The caller makes sure of the type invariant for every address it uses, or lets be used, with
    /// this value.
    pub const unsafe fn new() -> Self {
        // INVARIANT: By the safety requirement.
        Self(())
    }

    fn word(&self, table: u64, index: usize) -> Option<*mut u64> {
        if table & (PAGE_SIZE as u64 - 1) != 0 || index >= WORDS {
            return None;
        }
        // CAST: A physical address fits an `unsigned long` on 64-bit machines.
        let pfn = (table >> PAGE_SHIFT) as usize;
        // SAFETY: The function accepts every page frame number.
        let page = unsafe { bindings::pfn_to_online_page(pfn) };
        if page.is_null() {
            return None;
        }
        // SAFETY: The page exists; 64-bit machines have no high memory, so it is mapped.
        let address: *mut u64 = unsafe { bindings::page_address(page) }.cast();

        Some(address.wrapping_add(index))
    }

    /// Reads the word with number `index` of the page at `table`, in one access.
    ///
    /// `None` if there is no memory, or no such word.
    pub fn read(&self, table: u64, index: usize) -> Option<u64> {
        let word = self.word(table, index)?;

        // SAFETY: The word is mapped and aligned; racing with others is allowed by the type invariant.
        Some(unsafe { word.read_volatile() })
    }

    /// Writes the word with number `index` of the page at `table`, in one access.
    ///
    /// `None` if there is no memory, or no such word. Caches are not written back.
    pub fn write(&self, table: u64, index: usize, value: u64) -> Option<()> {
        let word = self.word(table, index)?;

        // SAFETY: The word is mapped and aligned; racing with others is allowed by the type invariant.
        unsafe { word.write_volatile(value) };
        Some(())
    }
}
