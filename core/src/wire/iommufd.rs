// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! An iommufd: its preserved HWPTs and the memory behind them.

use core::ops::{Deref, DerefMut};

use zerocopy::{transmute_mut, transmute_ref};

use super::{check_header, has_duplicates, header, is_zero};
use crate::abi::iommufd::{HwptSer, IommufdSer, MemorySer, MAGIC, VERSION};
use crate::abi::Page;
use crate::model::DomainKey;
use crate::refusal::{Family, Refusal};

const FAMILY: Family = Family::Iommufd;

/// The record of an iommufd.
///
/// # Invariants
///
/// No two HWPTs have one token, and every memory belongs to a recorded HWPT.
#[derive(Debug)]
pub struct Iommufd<P> {
    page: P,
}

impl<P: Deref<Target = Page>> Iommufd<P> {
    /// Takes over a page that another kernel wrote.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn decode(page: P) -> Result<Self, Refusal> {
        let record: &IommufdSer = transmute_ref!(&*page);
        check_header(&record.header, MAGIC, VERSION, FAMILY)?;
        let reserved = is_zero(&record.reserved)
            && is_zero(&record.reserved_end)
            && record.hwpts.iter().all(|hwpt| is_zero(&hwpt.reserved))
            && record
                .memories
                .iter()
                .all(|memory| is_zero(&memory.reserved));
        if !reserved {
            return Err(Refusal::Malformed(FAMILY));
        }
        let used = record.hwpts.iter().filter(|hwpt| hwpt.domain.get() != 0);
        if has_duplicates(used.map(|hwpt| hwpt.token.get())) {
            return Err(Refusal::Duplicate(FAMILY));
        }
        let this = Self { page };
        let orphan = this
            .memories()
            .any(|(domain, _)| this.hwpts().all(|(_, other)| other != domain));
        if orphan {
            return Err(Refusal::NotRecorded(FAMILY));
        }
        Ok(this)
    }

    fn record(&self) -> &IommufdSer {
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

    /// All HWPTs: token and domain.
    pub fn hwpts(&self) -> impl Iterator<Item = (u64, DomainKey)> + '_ {
        let hwpts = self.record().hwpts.iter();
        hwpts.filter_map(|hwpt| Some((hwpt.token.get(), DomainKey::new(hwpt.domain.get())?)))
    }

    /// The domain of the HWPT with a token.
    pub fn domain(&self, token: u64) -> Option<DomainKey> {
        let mut hwpts = self.hwpts();
        hwpts.find_map(|(other, domain)| (other == token).then_some(domain))
    }

    /// All memory files: the domain that maps it, and LUO's data of it.
    pub fn memories(&self) -> impl Iterator<Item = (DomainKey, u64)> + '_ {
        let memories = self.record().memories.iter();
        memories
            .filter_map(|memory| Some((DomainKey::new(memory.domain.get())?, memory.data.get())))
    }
}

impl<P: DerefMut<Target = Page>> Iommufd<P> {
    /// Makes an empty record.
    pub fn create(mut page: P) -> Self {
        page.fill(0);
        let record: &mut IommufdSer = transmute_mut!(&mut *page);
        record.header = header(MAGIC, VERSION);
        Self { page }
    }

    fn record_mut(&mut self) -> &mut IommufdSer {
        transmute_mut!(&mut *self.page)
    }

    /// Records a HWPT.
    ///
    /// # Errors
    ///
    /// [`Refusal::Duplicate`], [`Refusal::Full`].
    pub fn add_hwpt(&mut self, token: u64, domain: DomainKey) -> Result<(), Refusal> {
        if self.domain(token).is_some() {
            return Err(Refusal::Duplicate(FAMILY));
        }
        let mut entries = self.record_mut().hwpts.iter_mut();
        let free = entries.find(|entry| entry.domain.get() == 0);
        *free.ok_or(Refusal::Full(FAMILY))? = HwptSer {
            token: token.into(),
            domain: domain.get().into(),
            reserved: [0; 6],
        };
        Ok(())
    }

    /// Records a memory file behind a recorded HWPT.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotRecorded`] if the HWPT is not, [`Refusal::Full`].
    pub fn add_memory(&mut self, domain: DomainKey, data: u64, token: u64) -> Result<(), Refusal> {
        if self.hwpts().all(|(_, other)| other != domain) {
            return Err(Refusal::NotRecorded(FAMILY));
        }
        let mut entries = self.record_mut().memories.iter_mut();
        let free = entries.find(|entry| entry.domain.get() == 0);
        *free.ok_or(Refusal::Full(FAMILY))? = MemorySer {
            data: data.into(),
            token: token.into(),
            domain: domain.get().into(),
            reserved: [0; 6],
        };
        Ok(())
    }
}
