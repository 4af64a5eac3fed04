// SPDX-License-Identifier: GPL-2.0-only

//! What is handed over for all units as soon as anything is preserved: a root table in which there is nothing, for those
//! behind which nobody goes on, and the tables by which interrupts are remapped.

use kernel::kho::{
    self,
    PreservedPage, //
};
use kernel::prelude::*;
use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

use crate::kinds::KINDS;
use crate::part::{
    leaves_out,
    Part, //
};

/// Physical address of the empty table: the outgoing one, and the one that came. 0 is none.
///
/// They are asked for when no lock can be taken, and each is set and cleared while nobody asks.
static OUTGOING: Atomic<u64> = Atomic::new(0);
static INCOMING: Atomic<u64> = Atomic::new(0);

kernel::sync::global_lock! {
    // SAFETY: `hitless_init()` initializes it before anything else here runs.
    pub(crate) unsafe(uninit) static UNITS: Mutex<Option<Units>> = None;
}

/// What is handed over. Dropping it undoes that.
pub(crate) struct Units {
    empty: PreservedPage,
    irq_tables: KVec<u64>,
}

/// Pages of a table by which interrupts are remapped.
const IRQ_TABLE_PAGES: usize = 256;

impl Units {
    fn new() -> Result<Self> {
        let mut this = Self {
            empty: PreservedPage::new()?,
            irq_tables: KVec::new(),
        };
        if leaves_out(Part::IrqTable) {
            return Ok(this);
        }
        for kind in KINDS {
            for index in 0.. {
                match kind.irq_table(index) {
                    None => break,
                    Some(None) => {}
                    Some(Some(table)) => this.hand_over(table)?,
                }
            }
        }
        Ok(this)
    }

    fn hand_over(&mut self, table: u64) -> Result {
        self.irq_tables.reserve(1, GFP_KERNEL)?;
        kho::preserve_pages(table, IRQ_TABLE_PAGES)?;
        let pushed = self.irq_tables.push_within_capacity(table);
        pushed.map_err(|_| ENOMEM)
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        for table in &self.irq_tables {
            kho::unpreserve_pages(*table, IRQ_TABLE_PAGES);
        }
    }
}

/// Hands everything over; gives the physical address of the empty table, which the next kernel has to know.
pub(crate) fn preserve() -> Result<u64> {
    let units = Units::new()?;
    let empty = units.empty.phys();
    *UNITS.lock() = Some(units);
    OUTGOING.store(empty, Relaxed);
    Ok(empty)
}

/// Undo of [`preserve`].
pub(crate) fn unpreserve() {
    OUTGOING.store(0, Relaxed);
    let units = UNITS.lock().take();
    drop(units);
}

fn table(address: &Atomic<u64>) -> Option<u64> {
    Some(address.load(Relaxed)).filter(|address| *address != 0)
}

/// The empty table, if anything is preserved. Any context.
pub(crate) fn outgoing_empty() -> Option<u64> {
    table(&OUTGOING)
}

/// The empty table of the previous kernel arrives.
pub(crate) fn arrived(empty: u64) {
    INCOMING.store(empty, Relaxed);
}

/// The empty table that came, until no unit has it any more. Any context.
pub(crate) fn incoming_empty() -> Option<u64> {
    table(&INCOMING)
}

/// Every unit has a root table of this kernel.
pub(crate) fn ready() {
    if let Some(empty) = incoming_empty() {
        INCOMING.store(0, Relaxed);
        if !kho::restore_and_free_page(empty) {
            pr_warn!("the empty table of the previous kernel was not handed over\n");
        }
    }
}
