// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What is common to entries of page tables of all formats.

use crate::iommu::address::{HostAddressWidth, TableAddress};
use crate::iommu::bits::{self, POINTER};
use crate::iommu::flaw::{Entry, Flaw};

/// PS in both formats, at levels 2 and 3; reserved above.
const PAGE_SIZE: u64 = 1 << 7;
/// Bits 51:12 in both formats.
const ADDRESS: u64 = POINTER & ((1 << 52) - 1);

/// What an entry, or all entries on the way to a page together, allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
}

impl Rights {
    /// What both allow.
    pub const fn and(self, other: Self) -> Self {
        Self {
            read: self.read && other.read,
            write: self.write && other.write,
        }
    }
}

/// What an entry of a page table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageEntry {
    /// Nothing is mapped here.
    Absent,
    /// The next table down.
    Table {
        /// Its address.
        table: TableAddress,
        /// Rights of everything below it, at most.
        rights: Rights,
    },
    /// A page.
    Leaf {
        /// Physical address of the page.
        physical: u64,
        /// Its size is 2 to the power of this: 12, 21 or 30.
        page_bits: u32,
        /// Rights of the page, at most.
        rights: Rights,
    },
}

/// The lowest address bit that an entry of a table of `level` translates.
pub(super) const fn level_shift(level: u32) -> u32 {
    level.saturating_mul(9).saturating_add(3)
}

/// Reads a present entry `word` of a table of `level`. In a large page the bits of `attributes` belong
/// to something else than the address; the rest up to the page size is reserved.
pub(super) const fn decode_present(
    word: u64,
    level: u32,
    rights: Rights,
    attributes: u64,
    width: HostAddressWidth,
) -> Result<PageEntry, Flaw> {
    if level > 3 && word & PAGE_SIZE != 0 {
        return Err(Flaw::Reserved(Entry::Page));
    }
    let address = word & ADDRESS;
    if !width.holds(address) {
        return Err(Flaw::PointerBeyondHost(Entry::Page));
    }
    if level > 1 && word & PAGE_SIZE == 0 {
        return match TableAddress::new(address, width) {
            Ok(table) => Ok(PageEntry::Table { table, rights }),
            Err(flaw) => Err(flaw),
        };
    }
    let page_bits = level_shift(level);
    let attributes = if level > 1 { attributes } else { 0 };
    let below_page = bits::bit(page_bits).wrapping_sub(1) & ADDRESS & !attributes;
    if address & below_page != 0 {
        return Err(Flaw::Reserved(Entry::Page));
    }
    Ok(PageEntry::Leaf {
        physical: address & !attributes,
        page_bits,
        rights,
    })
}
