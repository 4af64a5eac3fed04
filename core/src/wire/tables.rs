// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The list of a domain's page-table pages.

use core::ops::{Deref, DerefMut};

use zerocopy::{transmute_mut, transmute_ref};

use crate::abi::tables::{TableListSer, MAGIC, TABLES};
use crate::abi::Page;
use crate::refusal::{Family, Refusal};

const FAMILY: Family = Family::TableList;

fn is_aligned(address: u64) -> bool {
    address & 0xfff == 0
}

/// One page of the chain.
///
/// # Invariants
///
/// The number of tables is at most [`TABLES`]; `next` and every table are multiples of 4096, and no table
/// is at 0.
#[derive(Debug)]
pub struct TableList<P> {
    page: P,
}

impl<P: Deref<Target = Page>> TableList<P> {
    /// Takes over a page that another kernel wrote.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn decode(page: P) -> Result<Self, Refusal> {
        let record: &TableListSer = transmute_ref!(&*page);
        if record.magic != MAGIC {
            return Err(Refusal::NotARecord(FAMILY));
        }
        let count = usize::try_from(record.count.get()).unwrap_or(usize::MAX);
        let mut tables = record.tables.iter().map(|table| table.get());
        let sound = count <= TABLES
            && record.reserved.get() == 0
            && is_aligned(record.next.get())
            && tables
                .by_ref()
                .take(count)
                .all(|table| table != 0 && is_aligned(table))
            && tables.all(|unused| unused == 0);
        if !sound {
            return Err(Refusal::Malformed(FAMILY));
        }
        Ok(Self { page })
    }

    fn record(&self) -> &TableListSer {
        transmute_ref!(&*self.page)
    }

    /// The page.
    pub fn page(&self) -> &P {
        &self.page
    }

    /// Gives the page back.
    pub fn into_page(self) -> P {
        self.page
    }

    /// Physical address of the next page; `None` in the last.
    pub fn next(&self) -> Option<u64> {
        Some(self.record().next.get()).filter(|next| *next != 0)
    }

    /// Physical addresses of the tables.
    pub fn tables(&self) -> impl Iterator<Item = u64> + '_ {
        let count = usize::try_from(self.record().count.get()).unwrap_or(usize::MAX);
        self.record()
            .tables
            .iter()
            .take(count)
            .map(|table| table.get())
    }
}

impl<P: DerefMut<Target = Page>> TableList<P> {
    /// Makes an empty page, which is the last of its chain.
    pub fn create(mut page: P) -> Self {
        page.fill(0);
        let record: &mut TableListSer = transmute_mut!(&mut *page);
        record.magic = MAGIC;
        Self { page }
    }

    /// Appends a table.
    ///
    /// # Errors
    ///
    /// [`Refusal::Full`]: the chain needs another page.
    pub fn push(&mut self, table: u64) -> Result<(), Refusal> {
        let record: &mut TableListSer = transmute_mut!(&mut *self.page);
        let count = record.count.get();
        let index = usize::try_from(count).map_err(|_| Refusal::Full(FAMILY))?;
        let entry = record.tables.get_mut(index).ok_or(Refusal::Full(FAMILY))?;
        *entry = table.into();
        record.count = count.saturating_add(1).into();
        Ok(())
    }

    /// Appends a page to the chain.
    pub fn set_next(&mut self, next: u64) {
        let record: &mut TableListSer = transmute_mut!(&mut *self.page);
        record.next = next.into();
    }
}
