// SPDX-License-Identifier: GPL-2.0-only

//! Pages of page tables: handing them over, and freeing them in the next kernel.
//!
//! There is no list of them: they are what a walk finds. The mappings do not change from preserve to
//! unpreserve, so the same walk finds the same pages each time.

use hitless_core::iommu::address::TableAddress;
use hitless_core::iommu::flaw::Flaw;
use hitless_core::iommu::memory::Memory;
use hitless_core::iommu::pt::handover;
use hitless_core::iommu::pt::table::Table;
use hitless_core::record::attachment::Domain;
use kernel::kho;
use kernel::prelude::*;
use kernel::table_memory;

use crate::failure::{
    Outcome,
    Text, //
};
use crate::part::{
    leaves_out,
    Part, //
};

/// Most tables of a domain: they map 32 TiB in pages of 4 KiB.
const MAX_TABLES: u64 = 1 << 24;

/// The machine's memory, as core reads tables in it.
pub(crate) struct Tables;

impl Memory for Tables {
    fn read(&self, table: TableAddress, index: usize) -> core::result::Result<u64, Flaw> {
        table_memory::read(table.get(), index).ok_or(Flaw::Unreadable)
    }
}

fn hand_over(page: TableAddress) -> Result {
    if leaves_out(Part::Tables) {
        return Ok(());
    }
    kho::preserve_page(page.get())
}

fn take_back(page: TableAddress) {
    if !leaves_out(Part::Tables) {
        kho::unpreserve_page(page.get());
    }
}

/// A page table that has been handed over, whose mappings do not change. Dropping it undoes that.
pub(crate) struct HandedOver {
    table: Table,
    count: u64,
}

impl HandedOver {
    /// Walks a page table, whose mappings do not change meanwhile. May sleep.
    pub(crate) fn new(table: &Table) -> Outcome<Self> {
        let count = handover::hand_over(&Tables, table, MAX_TABLES, hand_over, take_back)?;
        Ok(Self {
            table: *table,
            count,
        })
    }

    /// Number of tables.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

impl Drop for HandedOver {
    fn drop(&mut self) {
        handover::take_back(&Tables, &self.table, self.count, take_back);
    }
}

/// Frees the tables of a domain of the previous kernel, to which nothing in hardware refers any more.
///
/// Only pages that were handed over are read, and freed.
pub(crate) fn release(domain: &Domain) {
    let released = handover::release(
        &Tables,
        &domain.table,
        domain.tables,
        |page| kho::is_restorable(page.get()),
        |page| {
            if !leaves_out(Part::Tables) {
                kho::restore_and_free_page(page.get());
            }
        },
    );
    if released.missing != 0 || released.foreign != 0 {
        pr_warn!(
            "{} tables of a domain are lost, {} were not handed over\n",
            released.missing,
            released.foreign
        );
    }
    if let Some(flaw) = released.flaw {
        pr_warn!("tables of a domain: {}\n", Text(flaw));
    }
}
