// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! All tables of a page table, found by reading the upper levels only: the tables of level 1 hold
//! nearly all the words, and their parents list them.

use core::fmt;

use super::{Format, PageEntry};
use crate::vtd::{HostAddressWidth, Memory, Refusal, TableAddress, WORDS_PER_TABLE};

/// One table of a page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table {
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
    table: Table,
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
        }
    }

    /// The next table, or `None` at the end. After a refusal the walk is over.
    ///
    /// # Errors
    ///
    /// [`Refusal::Cycle`], [`Refusal::TooManyTables`], and what [`Format::decode`] and
    /// [`Memory::read`] refuse.
    pub fn next<M: Memory>(&mut self, memory: &M) -> Result<Option<Table>, Refusal> {
        let result = self.step(memory);
        if result.is_err() {
            self.start = None;
            self.depth = 0;
        }
        result
    }

    fn step<M: Memory>(&mut self, memory: &M) -> Result<Option<Table>, Refusal> {
        if let Some(address) = self.start.take() {
            let level = self.format.levels();
            if let Some(table) = self.enter(Table { address, level })? {
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
                let found = Table {
                    address: below,
                    level: table.level.saturating_sub(1),
                };
                if let Some(table) = self.enter(found)? {
                    return Ok(Some(table));
                }
            }
        }
        Ok(None)
    }

    /// Counts `table` and puts it on the path if it has to be read; gives it back if it is its turn
    /// to come out.
    fn enter(&mut self, table: Table) -> Result<Option<Table>, Refusal> {
        self.left = self.left.checked_sub(1).ok_or(Refusal::TooManyTables)?;
        let above = self.path.iter().take(self.depth).flatten();
        if above
            .into_iter()
            .any(|position| position.table.address == table.address)
        {
            return Err(Refusal::Cycle);
        }
        if table.level <= 1 {
            return Ok(Some(table));
        }
        let slot = self
            .path
            .get_mut(self.depth)
            .ok_or(Refusal::UnknownLevels)?;
        *slot = Some(Position { table, next: 0 });
        self.depth = self.depth.saturating_add(1);
        Ok((self.order == Order::ParentsFirst).then_some(table))
    }

    fn top(&mut self) -> Option<&mut Position> {
        self.path.get_mut(self.depth.checked_sub(1)?)?.as_mut()
    }
}

/// Why [`for_each_table`] ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped<E> {
    /// The tables are not accepted.
    Refused(Refusal),
    /// The visitor gave this error.
    Visitor(E),
}

impl<E: fmt::Display> fmt::Display for Stopped<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Visitor(error) => error.fmt(f),
        }
    }
}

/// Calls `visit` for every table, parents first, and says how many there were.
///
/// # Errors
///
/// What [`TableWalk::next`] refuses, and the first error of `visit`.
pub fn for_each_table<M: Memory, E>(
    memory: &M,
    root: TableAddress,
    format: Format,
    width: HostAddressWidth,
    limit: u64,
    mut visit: impl FnMut(Table) -> Result<(), E>,
) -> Result<u64, Stopped<E>> {
    let mut walk = TableWalk::new(root, format, width, Order::ParentsFirst, limit);
    let mut count: u64 = 0;
    while let Some(table) = walk.next(memory).map_err(Stopped::Refused)? {
        visit(table).map_err(Stopped::Visitor)?;
        count = count.saturating_add(1);
    }
    Ok(count)
}
