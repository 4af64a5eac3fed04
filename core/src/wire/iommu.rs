// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Units, domains and attachments.

mod references;

use core::ops::{Deref, DerefMut};

use zerocopy::{transmute_mut, transmute_ref, FromZeros};

use super::{check_free, is_zero, Header};
use crate::abi::iommu::{
    AttachmentSer, DomainSer, IommuSer, UnitSer, ATTACHMENT_DEVICE_TLB, ATTACHMENT_PAGE_SNOOP,
    ATTACHMENT_WALK_SNOOP, DOMAIN_INCOHERENT, DOMAIN_SNOOP, FORMAT_FIRST_STAGE, FORMAT_FREE,
    FORMAT_SECOND_STAGE, KNOWN_REQUIRED, MAGIC, MODE_FREE, MODE_LEGACY, MODE_SCALABLE, VERSION,
};
use crate::abi::Page;
use crate::model::{
    Attachment, DeviceAddress, Domain, DomainKey, EntryFacts, Format, Mode, Table, Unit,
};
use crate::refusal::{Family, Refusal};

const FAMILY: Family = Family::Iommu;
const MALFORMED: Refusal = Refusal::Malformed(FAMILY);

const HEADER: Header = Header {
    family: FAMILY,
    magic: MAGIC,
    version: VERSION,
    known_required: KNOWN_REQUIRED,
};

fn is_page(address: u64) -> bool {
    address != 0 && address & 0xfff == 0
}

impl UnitSer {
    pub(super) fn encode(unit: &Unit) -> Self {
        Self {
            register_base: unit.register_base.into(),
            root_table: unit.root_table.into(),
            live_root: unit.live_root.into(),
            capability: unit.capability.into(),
            extended_capability: unit.extended_capability.into(),
            mode: match unit.mode {
                Mode::Legacy => MODE_LEGACY,
                Mode::Scalable => MODE_SCALABLE,
            }
            .into(),
            segment: unit.segment.into(),
        }
    }

    pub(super) fn decode(&self) -> Result<Option<Unit>, Refusal> {
        let mode = match self.mode.get() {
            MODE_FREE => return check_free(self, FAMILY).map(|()| None),
            MODE_LEGACY => Mode::Legacy,
            MODE_SCALABLE => Mode::Scalable,
            _ => return Err(MALFORMED),
        };
        if !is_page(self.root_table.get()) {
            return Err(MALFORMED);
        }
        Ok(Some(Unit {
            register_base: self.register_base.get(),
            root_table: self.root_table.get(),
            live_root: self.live_root.get(),
            capability: self.capability.get(),
            extended_capability: self.extended_capability.get(),
            mode,
            segment: self.segment.get(),
        }))
    }
}

impl DomainSer {
    pub(super) fn encode(domain: &Domain) -> Self {
        let table = &domain.table;
        let incoherent = if table.incoherent {
            DOMAIN_INCOHERENT
        } else {
            0
        };
        let snoop = if table.snoop { DOMAIN_SNOOP } else { 0 };
        Self {
            format: match table.format {
                Format::SecondStage => FORMAT_SECOND_STAGE,
                Format::FirstStage => FORMAT_FIRST_STAGE,
            }
            .into(),
            levels: table.levels.into(),
            flags: (incoherent | snoop).into(),
            reserved: 0.into(),
            top: table.top.into(),
            list: domain.list.into(),
            tables: domain.tables.into(),
            iommufd: domain.iommufd.into(),
            token: domain.token.into(),
        }
    }

    pub(super) fn decode(&self) -> Result<Option<Domain>, Refusal> {
        let format = match self.format.get() {
            FORMAT_FREE => return check_free(self, FAMILY).map(|()| None),
            FORMAT_SECOND_STAGE => Format::SecondStage,
            FORMAT_FIRST_STAGE => Format::FirstStage,
            _ => return Err(MALFORMED),
        };
        let (levels, flags) = (self.levels.get(), self.flags.get());
        let fewest = match format {
            Format::SecondStage => 3,
            Format::FirstStage => 4,
        };
        let sound = (fewest..=5).contains(&levels)
            && flags & !(DOMAIN_INCOHERENT | DOMAIN_SNOOP) == 0
            && self.reserved.get() == 0
            && is_page(self.top.get())
            && is_page(self.list.get())
            && is_page(self.iommufd.get())
            && self.tables.get() != 0;
        if !sound {
            return Err(MALFORMED);
        }
        Ok(Some(Domain {
            table: Table {
                top: self.top.get(),
                format,
                levels,
                incoherent: flags & DOMAIN_INCOHERENT != 0,
                snoop: flags & DOMAIN_SNOOP != 0,
            },
            list: self.list.get(),
            tables: self.tables.get(),
            iommufd: self.iommufd.get(),
            token: self.token.get(),
        }))
    }
}

impl AttachmentSer {
    pub(super) fn encode(attachment: &Attachment) -> Self {
        Self {
            register_base: attachment.register_base.into(),
            context_table: attachment.context_table.into(),
            pasid_directory: attachment.pasid_directory.into(),
            pasid_table: attachment.pasid_table.into(),
            segment: attachment.address.segment.into(),
            max_pasid: attachment.max_pasid.into(),
            bdf: attachment.address.bdf.into(),
            domain_id: attachment.domain_id.into(),
            domain: attachment.domain.get().into(),
            flags: [
                (attachment.entry.device_tlb, ATTACHMENT_DEVICE_TLB),
                (attachment.entry.walk_snoop, ATTACHMENT_WALK_SNOOP),
                (attachment.entry.page_snoop, ATTACHMENT_PAGE_SNOOP),
            ]
            .into_iter()
            .filter(|(set, _)| *set)
            .fold(0, |flags, (_, flag)| flags | flag)
            .into(),
        }
    }

    pub(super) fn decode(&self) -> Result<Option<Attachment>, Refusal> {
        let Some(domain) = DomainKey::new(self.domain.get()) else {
            return check_free(self, FAMILY).map(|()| None);
        };
        let directory = self.pasid_directory.get();
        let table = self.pasid_table.get();
        let max_pasid = self.max_pasid.get();
        let legacy = directory == 0 && table == 0 && max_pasid == 0;
        let scalable = is_page(directory) && is_page(table) && Attachment::is_room(max_pasid);
        let flags = self.flags.get();
        let known = match legacy {
            true => ATTACHMENT_DEVICE_TLB,
            false => ATTACHMENT_DEVICE_TLB | ATTACHMENT_WALK_SNOOP | ATTACHMENT_PAGE_SNOOP,
        };
        if !is_page(self.context_table.get()) || !(legacy || scalable) || flags & !known != 0 {
            return Err(MALFORMED);
        }
        Ok(Some(Attachment {
            address: DeviceAddress {
                segment: self.segment.get(),
                bdf: self.bdf.get(),
            },
            register_base: self.register_base.get(),
            context_table: self.context_table.get(),
            pasid_directory: directory,
            pasid_table: table,
            max_pasid,
            domain_id: self.domain_id.get(),
            domain,
            entry: EntryFacts {
                device_tlb: flags & ATTACHMENT_DEVICE_TLB != 0,
                walk_snoop: flags & ATTACHMENT_WALK_SNOOP != 0,
                page_snoop: flags & ATTACHMENT_PAGE_SNOOP != 0,
            },
        }))
    }
}

/// The record of units, domains and attachments.
///
/// # Invariants
///
/// Every entry decodes, and what the entries say of each other holds together: `references.rs` says how.
#[derive(Debug)]
pub struct Iommu<P> {
    page: P,
}

impl<P: Deref<Target = Page>> Iommu<P> {
    /// Takes over a page that another kernel wrote.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn decode(page: P) -> Result<Self, Refusal> {
        let record: &IommuSer = transmute_ref!(&*page);
        HEADER.check(&record.header)?;
        if !is_zero(&record.reserved) {
            return Err(MALFORMED);
        }
        for unit in &record.units {
            unit.decode()?;
        }
        for domain in &record.domains {
            domain.decode()?;
        }
        for attachment in &record.attachments {
            attachment.decode()?;
        }
        let this = Self { page };
        this.check_references()?;
        Ok(this)
    }

    fn record(&self) -> &IommuSer {
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

    /// All units.
    pub fn units(&self) -> impl Iterator<Item = Unit> + Clone + '_ {
        let units = self.record().units.iter();
        units.filter_map(|unit| unit.decode().ok().flatten())
    }

    /// The unit with a register base.
    pub fn unit(&self, register_base: u64) -> Option<Unit> {
        self.units()
            .find(|unit| unit.register_base == register_base)
    }

    /// All domains with their keys.
    pub fn domains(&self) -> impl Iterator<Item = (DomainKey, Domain)> + Clone + '_ {
        let domains = (1..).zip(self.record().domains.iter());
        domains.filter_map(|(key, domain)| DomainKey::new(key).zip(domain.decode().ok().flatten()))
    }

    /// The domain with a key.
    pub fn domain(&self, key: DomainKey) -> Option<Domain> {
        let mut domains = self.domains();
        domains.find_map(|(other, domain)| (other == key).then_some(domain))
    }

    /// The domain of the HWPT with a token of an iommufd.
    pub fn domain_of(&self, iommufd: u64, token: u64) -> Option<(DomainKey, Domain)> {
        self.domains()
            .find(|(_, domain)| domain.iommufd == iommufd && domain.token == token)
    }

    /// All attachments.
    pub fn attachments(&self) -> impl Iterator<Item = Attachment> + Clone + '_ {
        let attachments = self.record().attachments.iter();
        attachments.filter_map(|attachment| attachment.decode().ok().flatten())
    }

    /// The attachment of a device.
    pub fn attachment(&self, address: DeviceAddress) -> Option<Attachment> {
        self.attachments()
            .find(|attachment| attachment.address == address)
    }

    /// The attachments to a unit.
    pub fn attachments_of(&self, register_base: u64) -> impl Iterator<Item = Attachment> + '_ {
        self.attachments()
            .filter(move |attachment| attachment.register_base == register_base)
    }

    /// The domain id with number `index` among those in use on a unit, each counted once.
    pub fn domain_id(&self, register_base: u64, index: usize) -> Option<u16> {
        let earlier = |position: usize, id: u16| {
            let mut before = self.attachments_of(register_base).take(position);
            before.any(|attachment| attachment.domain_id == id)
        };
        self.attachments_of(register_base)
            .enumerate()
            .filter(|(position, attachment)| !earlier(*position, attachment.domain_id))
            .map(|(_, attachment)| attachment.domain_id)
            .nth(index)
    }

    /// Whether a page is one that translates for some recorded device, page tables apart.
    pub fn uses_page(&self, page: u64) -> bool {
        self.attachments().any(|attachment| {
            let unit = self.unit(attachment.register_base);
            let root = unit.map_or(0, |unit| unit.root_table);
            attachment.pages(root).any(|other| other == page)
        })
    }
}

impl<P: DerefMut<Target = Page>> Iommu<P> {
    /// Makes an empty record.
    pub fn create(mut page: P) -> Self {
        page.fill(0);
        let record: &mut IommuSer = transmute_mut!(&mut *page);
        record.header = HEADER.encode();
        Self { page }
    }

    fn record_mut(&mut self) -> &mut IommuSer {
        transmute_mut!(&mut *self.page)
    }

    /// Records a domain.
    ///
    /// # Errors
    ///
    /// [`Refusal::Full`], and whatever a reader would refuse; nothing has changed then.
    pub fn add_domain(&mut self, domain: &Domain) -> Result<DomainKey, Refusal> {
        let encoded = DomainSer::encode(domain);
        encoded.decode()?;
        let mut entries = (1..).zip(self.record_mut().domains.iter_mut());
        let free = entries.find(|(_, entry)| entry.format.get() == FORMAT_FREE);
        let (key, entry) = free.ok_or(Refusal::Full(FAMILY))?;
        *entry = encoded;
        let key = DomainKey::new(key).ok_or(MALFORMED)?;
        if let Err(refusal) = self.check_references() {
            self.remove_domain(key);
            return Err(refusal);
        }
        Ok(key)
    }

    /// Undo of [`Self::add_domain`].
    pub fn remove_domain(&mut self, key: DomainKey) {
        let mut entries = (1..).zip(self.record_mut().domains.iter_mut());
        if let Some((_, entry)) = entries.find(|(other, _)| *other == key.get()) {
            *entry = DomainSer::new_zeroed();
        }
    }

    /// Records an attachment, and its unit if that is not recorded yet.
    ///
    /// # Errors
    ///
    /// [`Refusal::AlreadyRecorded`], [`Refusal::OtherRoot`] if the unit is not as recorded,
    /// [`Refusal::Full`], and whatever a reader would refuse; nothing has changed then.
    pub fn add_attachment(&mut self, unit: &Unit, attachment: &Attachment) -> Result<(), Refusal> {
        if self.attachment(attachment.address).is_some() {
            return Err(Refusal::AlreadyRecorded);
        }
        if unit.register_base != attachment.register_base {
            return Err(MALFORMED);
        }
        let known = self.unit(unit.register_base);
        if known.is_some_and(|known| known != *unit) {
            return Err(Refusal::OtherRoot);
        }
        self.insert_attachment(unit, attachment, known.is_none())?;
        if let Err(refusal) = self.check_references() {
            self.remove_attachment(attachment.address);
            return Err(refusal);
        }
        Ok(())
    }

    fn insert_attachment(
        &mut self,
        unit: &Unit,
        attachment: &Attachment,
        with_unit: bool,
    ) -> Result<(), Refusal> {
        let (unit_ser, attachment_ser) = (UnitSer::encode(unit), AttachmentSer::encode(attachment));
        unit_ser.decode()?;
        attachment_ser.decode()?;
        let record = self.record_mut();
        let mut free = record.attachments.iter_mut();
        let free = free.find(|entry| entry.domain.get() == 0);
        let free = free.ok_or(Refusal::Full(FAMILY))?;
        if with_unit {
            let mut units = record.units.iter_mut();
            let unit = units.find(|entry| entry.mode.get() == MODE_FREE);
            *unit.ok_or(Refusal::Full(FAMILY))? = unit_ser;
        }
        *free = attachment_ser;
        Ok(())
    }

    /// Undo of [`Self::add_attachment`]: the unit goes with its last attachment.
    pub fn remove_attachment(&mut self, address: DeviceAddress) {
        let Some(attachment) = self.attachment(address) else {
            return;
        };
        let mut entries = self.record_mut().attachments.iter_mut();
        let entry = entries.find(|entry| {
            entry.domain.get() != 0
                && entry.segment.get() == address.segment
                && entry.bdf.get() == address.bdf
        });
        if let Some(entry) = entry {
            *entry = AttachmentSer::new_zeroed();
        }
        let base = attachment.register_base;
        if self.attachments_of(base).next().is_none() {
            let mut units = self.record_mut().units.iter_mut();
            let unit =
                units.find(|unit| unit.mode.get() != MODE_FREE && unit.register_base.get() == base);
            if let Some(unit) = unit {
                *unit = UnitSer::new_zeroed();
            }
        }
    }
}
