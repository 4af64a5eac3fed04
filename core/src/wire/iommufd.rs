// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! An iommufd: its preserved HWPTs and the memory behind them.

use core::ops::{Deref, DerefMut};

use zerocopy::{transmute_mut, transmute_ref};

use super::{check_free, has_duplicates, is_zero, Header};
use crate::abi::iommufd::{HwptSer, IommufdSer, MemorySer, KNOWN_REQUIRED, MAGIC, VERSION};
use crate::abi::Page;
use crate::model::DomainKey;
use crate::refusal::{Family, Refusal};

const FAMILY: Family = Family::Iommufd;
const HEADER: Header = Header {
    family: FAMILY,
    magic: MAGIC,
    version: VERSION,
    known_required: KNOWN_REQUIRED,
};

impl HwptSer {
    pub(super) fn encode(token: u64, domain: DomainKey) -> Self {
        Self {
            token: token.into(),
            domain: domain.get().into(),
            reserved: [0; 6],
        }
    }

    /// Token and domain; `None`: the entry is free.
    pub(super) fn decode(&self) -> Result<Option<(u64, DomainKey)>, Refusal> {
        let Some(domain) = DomainKey::new(self.domain.get()) else {
            return check_free(self, FAMILY).map(|()| None);
        };
        match is_zero(&self.reserved) {
            true => Ok(Some((self.token.get(), domain))),
            false => Err(Refusal::Malformed(FAMILY)),
        }
    }
}

impl MemorySer {
    pub(super) fn encode(domain: DomainKey, data: u64) -> Self {
        Self {
            data: data.into(),
            domain: domain.get().into(),
            reserved: [0; 6],
        }
    }

    /// Domain and LUO's data; `None`: the entry is free.
    pub(super) fn decode(&self) -> Result<Option<(DomainKey, u64)>, Refusal> {
        let Some(domain) = DomainKey::new(self.domain.get()) else {
            return check_free(self, FAMILY).map(|()| None);
        };
        match is_zero(&self.reserved) {
            true => Ok(Some((domain, self.data.get()))),
            false => Err(Refusal::Malformed(FAMILY)),
        }
    }
}

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
        HEADER.check(&record.header)?;
        if !is_zero(&record.reserved) || !is_zero(&record.reserved_end) {
            return Err(Refusal::Malformed(FAMILY));
        }
        for hwpt in &record.hwpts {
            hwpt.decode()?;
        }
        for memory in &record.memories {
            memory.decode()?;
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
        hwpts.filter_map(|hwpt| hwpt.decode().ok().flatten())
    }

    /// The domain of the HWPT with a token.
    pub fn domain(&self, token: u64) -> Option<DomainKey> {
        let mut hwpts = self.hwpts();
        hwpts.find_map(|(other, domain)| (other == token).then_some(domain))
    }

    /// All memory files: the domain that maps it, and LUO's data of it.
    pub fn memories(&self) -> impl Iterator<Item = (DomainKey, u64)> + '_ {
        let memories = self.record().memories.iter();
        memories.filter_map(|memory| memory.decode().ok().flatten())
    }
}

impl<P: DerefMut<Target = Page>> Iommufd<P> {
    /// Makes an empty record.
    pub fn create(mut page: P) -> Self {
        page.fill(0);
        let record: &mut IommufdSer = transmute_mut!(&mut *page);
        record.header = HEADER.encode();
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
        *free.ok_or(Refusal::Full(FAMILY))? = HwptSer::encode(token, domain);
        Ok(())
    }

    /// Records a memory file behind a recorded HWPT.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotRecorded`] if the HWPT is not, [`Refusal::Full`].
    pub fn add_memory(&mut self, domain: DomainKey, data: u64) -> Result<(), Refusal> {
        if self.hwpts().all(|(_, other)| other != domain) {
            return Err(Refusal::NotRecorded(FAMILY));
        }
        let mut entries = self.record_mut().memories.iter_mut();
        let free = entries.find(|entry| entry.domain.get() == 0);
        *free.ok_or(Refusal::Full(FAMILY))? = MemorySer::encode(domain, data);
        Ok(())
    }
}
