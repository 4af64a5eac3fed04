// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Which pages cross the jump with a page table, and which come back from it.
//!
//! There is no list of them: they are what a walk finds. The table does not change from preserve to
//! unpreserve and to the jump, so the same walk finds the same pages in the same order each time. After
//! the jump the walk finds what the previous kernel left; it reads and gives out only pages that were
//! handed over, and no more of them than the record says.

use super::table::Table;
use super::walk::{Order, TableWalk};
use crate::error::Error;
use crate::iommu::address::{HostAddressWidth, TableAddress};
use crate::iommu::flaw::Flaw;
use crate::iommu::memory::Memory;

/// Which addresses a table may have. The width of the platform is not asked: what lies beyond it is
/// no memory, and refused when it is read.
const WIDTH: HostAddressWidth = HostAddressWidth::MAX;

fn walk(table: &Table, order: Order, limit: u64) -> TableWalk {
    TableWalk::new(table.top, table.format, WIDTH, order, limit)
}

/// Hands over the pages of `table`, at most `limit`, with `hand_over`, and says how many they are: that
/// is what [`take_back`] and the record of the domain are told. All or nothing: if it fails,
/// `take_back` has been called for each page that was handed over.
///
/// # Errors
///
/// What [`TableWalk::next`] refuses, and the first error of `hand_over`.
pub fn hand_over<M: Memory, E>(
    memory: &M,
    table: &Table,
    limit: u64,
    mut hand_over: impl FnMut(TableAddress) -> Result<(), E>,
    undo: impl FnMut(TableAddress),
) -> Result<u64, Error<E>> {
    let mut walk = walk(table, Order::ParentsFirst, limit);
    let mut count: u64 = 0;
    let error = loop {
        match walk.next(memory) {
            Ok(None) => return Ok(count),
            Ok(Some(page)) => match hand_over(page.address) {
                Ok(()) => count = count.saturating_add(1),
                Err(error) => break Error::Lender(error),
            },
            Err(flaw) => break flaw.into(),
        }
    };
    take_back(memory, table, count, undo);
    Err(error)
}

/// Undo of [`hand_over`], which has said that there are `count` pages.
pub fn take_back<M: Memory>(
    memory: &M,
    table: &Table,
    count: u64,
    mut undo: impl FnMut(TableAddress),
) {
    let mut walk = walk(table, Order::ParentsFirst, u64::MAX);
    let mut left = count;
    while let Some(rest) = left.checked_sub(1) {
        let Ok(Some(page)) = walk.next(memory) else {
            return;
        };
        undo(page.address);
        left = rest;
    }
}

/// What came of [`release`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// Pages given to `free`.
    pub freed: u64,
    /// Pages of which the record speaks and which the walk did not find: they are lost, or never were.
    pub missing: u64,
    /// Pages that the tables point to and that were not handed over: nothing was done to them.
    pub foreign: u64,
    /// Why the walk ended early.
    pub flaw: Option<Flaw>,
}

/// Gives each page of the previous kernel's `table` to `free`, a table after those below it. Nothing in
/// hardware may refer to them any more.
///
/// `tables` is the number of them that the domain's record has: no more are freed. `is_ours` says
/// whether a page was handed over and has not been taken since; it is asked before a page is read.
pub fn release<M: Memory>(
    memory: &M,
    table: &Table,
    tables: u64,
    mut is_ours: impl FnMut(TableAddress) -> bool,
    mut free: impl FnMut(TableAddress),
) -> Released {
    let mut walk = walk(table, Order::ChildrenFirst, tables);
    let mut freed: u64 = 0;
    let flaw = loop {
        match walk.next_of(memory, &mut is_ours) {
            Ok(Some(page)) => {
                free(page.address);
                freed = freed.saturating_add(1);
            }
            Ok(None) => break None,
            Err(flaw) => break Some(flaw),
        }
    };
    Released {
        freed,
        missing: tables.saturating_sub(freed),
        foreign: walk.foreign(),
        flaw,
    }
}
