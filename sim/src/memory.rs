// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sparse physical memory made of 4 KiB pages of words.

use std::cell::RefCell;
use std::collections::BTreeMap;

use hitless_core::iommu::address::{HostAddressWidth, TableAddress};
use hitless_core::iommu::flaw::Flaw;
use hitless_core::iommu::memory::{Memory, WORDS_PER_TABLE};

/// Host address width of the pretend machine.
pub const WIDTH_BITS: u32 = 46;

/// The same as a checked value.
///
/// # Panics
///
/// Never: 46 is in range.
#[must_use]
pub fn width() -> HostAddressWidth {
    HostAddressWidth::new(WIDTH_BITS).expect("46 is in range")
}

/// A checked table address.
///
/// # Panics
///
/// If `address` is not one: tests only ask for addresses of pages they own.
#[must_use]
pub fn table(address: u64) -> TableAddress {
    TableAddress::new(address, width()).expect("a page of the pretend machine")
}

/// Which of a table's 512 entries of `level` translates `iova`.
pub(crate) fn index(iova: u64, level: u32) -> usize {
    (iova >> (3 + 9 * level)) as usize & 0x1ff
}

type Page = [u64; WORDS_PER_TABLE];

/// Physical memory. Pages exist from [`PhysicalMemory::allocate`] or the first write on until
/// [`PhysicalMemory::free`]; what does not exist cannot be read.
#[derive(Clone, Debug, Default)]
pub struct PhysicalMemory {
    pages: RefCell<BTreeMap<u64, Box<Page>>>,
    next: RefCell<u64>,
    /// Reads so far, for tests of what a walk costs.
    reads: RefCell<u64>,
}

impl PhysicalMemory {
    /// Empty memory; allocation starts above 4 GiB.
    #[must_use]
    pub fn new() -> Self {
        let memory = Self::default();
        *memory.next.borrow_mut() = 0x1_0000_0000;
        memory
    }

    /// `count` fresh pages in a row, all zero. Rows are not adjacent to each other.
    pub fn allocate(&self, count: u64) -> u64 {
        let mut next = self.next.borrow_mut();
        let first = *next;
        *next += (count + 1) << 12;
        let mut pages = self.pages.borrow_mut();
        for page in 0..count {
            pages.insert(first + (page << 12), Box::new([0; WORDS_PER_TABLE]));
        }
        first
    }

    /// Gives the page at `address` to somebody else, who fills it with what is nobody's table: every
    /// word then is a present entry with reserved bits, in every format.
    pub fn free(&self, address: u64) {
        for index in 0..WORDS_PER_TABLE {
            self.write(address, index, u64::MAX);
        }
    }

    /// Reads word `index` of the page at `page`; `None` if there is no memory.
    #[must_use]
    pub fn get(&self, page: u64, index: usize) -> Option<u64> {
        *self.reads.borrow_mut() += 1;
        self.pages.borrow().get(&page)?.get(index).copied()
    }

    /// Writes word `index` of the page at `page`, which is made if it does not exist.
    ///
    /// # Panics
    ///
    /// If `index` is not below 512.
    pub fn write(&self, page: u64, index: usize, value: u64) {
        let mut pages = self.pages.borrow_mut();
        let page = pages
            .entry(page)
            .or_insert_with(|| Box::new([0; WORDS_PER_TABLE]));
        page[index] = value;
    }

    /// Flips bit `bit` of word `index` of the page at `page`.
    ///
    /// # Panics
    ///
    /// If the page does not exist.
    pub fn flip(&self, page: u64, index: usize, bit: u32) {
        let word = self.get(page, index).expect("page exists");
        self.write(page, index, word ^ 1 << bit);
    }

    /// Reads so far.
    #[must_use]
    pub fn reads(&self) -> u64 {
        *self.reads.borrow()
    }

    /// All words that are not zero, as (page, index, value).
    #[must_use]
    pub fn words(&self) -> Vec<(u64, usize, u64)> {
        let pages = self.pages.borrow();
        pages
            .iter()
            .flat_map(|(address, page)| {
                page.iter()
                    .enumerate()
                    .filter(|(_, value)| **value != 0)
                    .map(|(index, value)| (*address, index, *value))
            })
            .collect()
    }
}

impl Memory for PhysicalMemory {
    fn read(&self, table: TableAddress, index: usize) -> Result<u64, Flaw> {
        self.get(table.get(), index).ok_or(Flaw::Unreadable)
    }
}
