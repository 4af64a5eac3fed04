// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! All tables of a page table, found by reading the upper levels only: the tables of level 1 hold
//! nearly all the words, and their parents list them.

use super::entry::PageEntry;
use super::format::Format;
use crate::iommu::address::{HostAddressWidth, TableAddress};
use crate::iommu::flaw::Flaw;
use crate::iommu::memory::{Memory, WORDS_PER_TABLE};

/// One 4 KiB table of a page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TablePage {
    /// Where it is.
    pub address: TableAddress,
    /// Its level: 1 holds only leaves, the top table has the number of levels.
    pub level: u32,
}

/// In which order tables come out of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// A table before those below it.
    ParentsFirst,
    /// A table after those below it, and never read again: the order for freeing.
    ChildrenFirst,
}

/// A table on the path from the top, and the next of its entries to look at.
#[derive(Clone, Copy, Debug)]
struct Position {
    table: TablePage,
    next: usize,
}

/// Levels that are read: 5 down to 2.
const DEPTH: usize = 4;

/// A walk over all tables, one per call of [`TableWalk::next`]. Needs no memory but its own.
#[derive(Clone, Debug)]
pub struct TableWalk {
    format: Format,
    width: HostAddressWidth,
    order: Order,
    /// The tables between the top and where the walk is; `path[..depth]` counts.
    path: [Option<Position>; DEPTH],
    depth: usize,
    start: Option<TableAddress>,
    /// How many more tables may come out.
    left: u64,
    foreign: u64,
}

impl TableWalk {
    /// Starts at `root`. More than `limit` tables, root included, are refused: the bound that makes
    /// a walk over memory that is no page table end soon.
    pub const fn new(
        root: TableAddress,
        format: Format,
        width: HostAddressWidth,
        order: Order,
        limit: u64,
    ) -> Self {
        Self {
            format,
            width,
            order,
            path: [None; DEPTH],
            depth: 0,
            start: Some(root),
            left: limit,
            foreign: 0,
        }
    }

    /// The next table, or `None` at the end. After a refusal the walk is over.
    ///
    /// # Errors
    ///
    /// [`Flaw::Cycle`], [`Flaw::TooManyTables`], and what [`Format::decode`] and
    /// [`Memory::read`] refuse.
    pub fn next<M: Memory>(&mut self, memory: &M) -> Result<Option<TablePage>, Flaw> {
        self.next_of(memory, |_| true)
    }

    /// As [`Self::next`], over those tables alone that `is_ours` says yes to. Another table is neither
    /// read nor does it come out, and nothing below it; [`Self::foreign`] counts them.
    ///
    /// # Errors
    ///
    /// As [`Self::next`].
    pub fn next_of<M: Memory>(
        &mut self,
        memory: &M,
        mut is_ours: impl FnMut(TableAddress) -> bool,
    ) -> Result<Option<TablePage>, Flaw> {
        let result = self.step(memory, &mut is_ours);
        if result.is_err() {
            self.start = None;
            self.depth = 0;
        }
        result
    }

    /// How many tables have been passed over because they are not ours.
    pub const fn foreign(&self) -> u64 {
        self.foreign
    }

    fn step<M: Memory>(
        &mut self,
        memory: &M,
        is_ours: &mut impl FnMut(TableAddress) -> bool,
    ) -> Result<Option<TablePage>, Flaw> {
        if let Some(address) = self.start.take() {
            let level = self.format.levels();
            if let Some(table) = self.enter(TablePage { address, level }, is_ours)? {
                return Ok(Some(table));
            }
        }
        while let Some(position) = self.top() {
            let table = position.table;
            if position.next >= WORDS_PER_TABLE {
                self.depth = self.depth.saturating_sub(1);
                if self.order == Order::ChildrenFirst {
                    return Ok(Some(table));
                }
                continue;
            }
            let word = memory.read(table.address, position.next)?;
            position.next = position.next.saturating_add(1);
            if let PageEntry::Table { table: below, .. } =
                self.format.decode(word, table.level, self.width)?
            {
                let found = TablePage {
                    address: below,
                    level: table.level.saturating_sub(1),
                };
                if let Some(table) = self.enter(found, is_ours)? {
                    return Ok(Some(table));
                }
            }
        }
        Ok(None)
    }

    /// Counts `table` and puts it on the path if it has to be read; gives it back if it is its turn
    /// to come out.
    fn enter(
        &mut self,
        table: TablePage,
        is_ours: &mut impl FnMut(TableAddress) -> bool,
    ) -> Result<Option<TablePage>, Flaw> {
        let above = self.path.iter().take(self.depth).flatten();
        if above
            .into_iter()
            .any(|position| position.table.address == table.address)
        {
            return Err(Flaw::Cycle);
        }
        if !is_ours(table.address) {
            self.foreign = self.foreign.saturating_add(1);
            return Ok(None);
        }
        self.left = self.left.checked_sub(1).ok_or(Flaw::TooManyTables)?;
        if table.level <= 1 {
            return Ok(Some(table));
        }
        let slot = self.path.get_mut(self.depth).ok_or(Flaw::UnknownLevels)?;
        *slot = Some(Position { table, next: 0 });
        self.depth = self.depth.saturating_add(1);
        Ok((self.order == Order::ParentsFirst).then_some(table))
    }

    fn top(&mut self) -> Option<&mut Position> {
        self.path.get_mut(self.depth.checked_sub(1)?)?.as_mut()
    }
}
