// SPDX-License-Identifier: GPL-2.0-only

//! Table pages: handing them over, listing them, and freeing them in the next kernel.

use hitless_core::model::{
    Domain,
    Table, //
};
use hitless_core::refusal::Family;
use hitless_core::rules;
use hitless_core::vtd::page_table::for_each_table;
use hitless_core::vtd::{
    HostAddressWidth,
    Memory,
    Refusal,
    TableAddress, //
};
use hitless_core::wire::tables::TableList;
use kernel::kho::{
    self,
    PreservedPage, //
};
use kernel::prelude::*;
use kernel::table_memory;

use crate::failure::{
    Failure,
    Outcome, //
};
use crate::part::{
    leaves_out,
    Part, //
};
use crate::record_page;

/// Most tables of a domain: they map 32 TiB in pages of 4 KiB.
const MAX_TABLES: u64 = 1 << 24;

/// The machine's memory, as core reads tables in it.
pub(crate) struct Tables;

impl Memory for Tables {
    fn read(&self, table: TableAddress, index: usize) -> core::result::Result<u64, Refusal> {
        table_memory::read(table.get(), index).ok_or(Refusal::Unreadable)
    }
}

/// Hands over a table page.
pub(crate) fn hand_over(page: u64) -> Result {
    if leaves_out(Part::Tables) {
        return Ok(());
    }
    kho::preserve_page(page)
}

/// Undo of [`hand_over`].
pub(crate) fn take_back(page: u64) {
    if !leaves_out(Part::Tables) {
        kho::unpreserve_page(page);
    }
}

/// All tables of a domain, handed over, and the list of them. Dropping it undoes both.
pub(crate) struct HandedOver {
    list: KVec<TableList<PreservedPage>>,
    count: u64,
}

impl HandedOver {
    /// Walks a page table, whose mappings do not change meanwhile.
    pub(crate) fn new(table: &Table) -> Outcome<Self> {
        let mut this = Self {
            list: KVec::new(),
            count: 0,
        };
        this.grow()?;
        let walked = for_each_table(
            &Tables,
            rules::tables::address(table.top)?,
            rules::tables::format(table)?,
            HostAddressWidth::MAX,
            MAX_TABLES,
            |table| this.add(table.address.get()),
        );
        walked?;
        Ok(this)
    }

    fn grow(&mut self) -> Result {
        let page = PreservedPage::new()?;
        let phys = page.phys();
        self.list.push(TableList::create(page), GFP_KERNEL)?;
        // The list changes only once nothing can fail any more.
        if let [.., previous, _] = self.list.as_mut_slice() {
            previous.set_next(phys);
        }
        Ok(())
    }

    fn add(&mut self, table: u64) -> Result {
        hand_over(table)?;
        if self.push(table).is_ok() {
            return Ok(());
        }
        if let Err(error) = self.grow() {
            take_back(table);
            return Err(error);
        }
        self.push(table)
    }

    fn push(&mut self, table: u64) -> Result {
        let last = self.list.as_mut_slice().last_mut().ok_or(EINVAL)?;
        last.push(table).map_err(|_| ENOSPC)?;
        self.count += 1;
        Ok(())
    }

    /// Physical address of the first page of the list.
    pub(crate) fn list(&self) -> u64 {
        self.list.first().map_or(0, |list| list.page().phys())
    }

    /// Number of tables.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

impl Drop for HandedOver {
    fn drop(&mut self) {
        let tables = self.list.iter().flat_map(|list| list.tables());
        tables.for_each(take_back);
    }
}

/// Frees the tables of a domain of the previous kernel, and the list of them.
///
/// Nothing in hardware refers to them any more.
pub(crate) fn release(domain: &Domain) {
    // A list that runs in a circle ends at the first page that has been taken already; one that is
    // longer than it says is cut off.
    let mut left = domain.tables;
    let mut next = Some(domain.list);
    while let Some(phys) = next.filter(|_| left > 0) {
        let list = match record_page::take(phys, Family::TableList, TableList::decode) {
            Ok(list) => list,
            Err(refusal) => {
                Failure::from(refusal).report();
                break;
            }
        };
        for table in list.tables() {
            if left == 0 {
                break;
            }
            left -= 1;
            if !leaves_out(Part::Tables) && !kho::restore_and_free_page(table) {
                pr_warn!("table at {:#x} was not handed over\n", table);
            }
        }
        next = list.next();
        list.into_page().free();
    }
    if left > 0 {
        pr_warn!("{} tables of a domain are lost\n", left);
    }
}
