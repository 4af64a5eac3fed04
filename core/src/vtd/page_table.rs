// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Page tables: second stage (VT-d 3.7, 9.8) and first stage (VT-d 3.6, 9.7).
//!
//! Both are radix trees of 4 KiB tables with 512 entries of 64 bits. Level 1 tables hold leaves
//! only; levels 2 and 3 may hold leaves of 2 MiB and 1 GiB; the others hold tables only.

mod translate;
mod walk;

pub use translate::{translate, Mapping};
pub use walk::{for_each_table, Order, Stopped, Table, TableWalk};

use super::bits::{self, POINTER};
use super::{Entry, HostAddressWidth, Levels, Refusal, TableAddress};

/// Number of levels of a first-stage page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FirstStageLevels {
    /// 48-bit addresses, sign-extended.
    Four,
    /// 57-bit addresses, sign-extended.
    Five,
}

/// Format of a page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Second stage: no present bit, an entry counts if it allows reading or writing.
    SecondStage(Levels),
    /// First stage: the layout of the processor's own tables.
    FirstStage(FirstStageLevels),
}

impl Format {
    /// A second-stage table of `levels` levels.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownLevels`] unless 3 to 5.
    pub const fn second_stage(levels: u32) -> Result<Self, Refusal> {
        match Levels::new(levels) {
            Ok(levels) => Ok(Self::SecondStage(levels)),
            Err(refusal) => Err(refusal),
        }
    }

    /// A first-stage table of `levels` levels.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownLevels`] unless 4 or 5.
    pub const fn first_stage(levels: u32) -> Result<Self, Refusal> {
        match levels {
            4 => Ok(Self::FirstStage(FirstStageLevels::Four)),
            5 => Ok(Self::FirstStage(FirstStageLevels::Five)),
            _ => Err(Refusal::UnknownLevels),
        }
    }

    /// Number of levels, which is also the level of the top table.
    pub const fn levels(self) -> u32 {
        match self {
            Self::SecondStage(levels) => levels.get(),
            Self::FirstStage(FirstStageLevels::Four) => 4,
            Self::FirstStage(FirstStageLevels::Five) => 5,
        }
    }

    /// Number of address bits the tables translate.
    pub const fn address_bits(self) -> u32 {
        match self.levels() {
            3 => 39,
            4 => 48,
            _ => 57,
        }
    }

    /// Reads `word`, an entry of a table of `level`.
    ///
    /// # Errors
    ///
    /// [`Refusal::Reserved`], [`Refusal::PointerBeyondHost`].
    pub const fn decode(
        self,
        word: u64,
        level: u32,
        width: HostAddressWidth,
    ) -> Result<PageEntry, Refusal> {
        let (present, rights) = match self {
            Self::SecondStage(_) => (
                word & (SECOND_READ | SECOND_WRITE) != 0,
                Rights {
                    read: word & SECOND_READ != 0,
                    write: word & SECOND_WRITE != 0,
                },
            ),
            Self::FirstStage(_) => (
                word & FIRST_PRESENT != 0,
                // Requests without PASID come with user privilege, so pages without U/S count as
                // not accessible.
                Rights {
                    read: word & FIRST_USER != 0,
                    write: word & FIRST_USER != 0 && word & FIRST_WRITE != 0,
                },
            ),
        };
        if !present {
            return Ok(PageEntry::Absent);
        }
        if level > 3 && word & PAGE_SIZE != 0 {
            return Err(Refusal::Reserved(Entry::Page));
        }
        let address = word & ADDRESS;
        if !width.holds(address) {
            return Err(Refusal::PointerBeyondHost(Entry::Page));
        }
        if level > 1 && word & PAGE_SIZE == 0 {
            return match TableAddress::new(address, width) {
                Ok(table) => Ok(PageEntry::Table { table, rights }),
                Err(refusal) => Err(refusal),
            };
        }
        let page_bits = level_shift(level);
        // In a large first-stage page bit 12 selects a memory type; the rest up to the page size is
        // reserved in both formats.
        let large_first_stage = matches!(self, Self::FirstStage(_)) && level > 1;
        let attribute = bits::flag(12, large_first_stage);
        let below_page = bits::bit(page_bits).wrapping_sub(1) & ADDRESS & !attribute;
        if address & below_page != 0 {
            return Err(Refusal::Reserved(Entry::Page));
        }
        Ok(PageEntry::Leaf {
            physical: address & !attribute,
            page_bits,
            rights,
        })
    }
}

/// R and W of a second-stage entry.
const SECOND_READ: u64 = 1;
const SECOND_WRITE: u64 = 2;
/// P, R/W and U/S of a first-stage entry.
const FIRST_PRESENT: u64 = 1;
const FIRST_WRITE: u64 = 2;
const FIRST_USER: u64 = 4;
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
const fn level_shift(level: u32) -> u32 {
    level.saturating_mul(9).saturating_add(3)
}
