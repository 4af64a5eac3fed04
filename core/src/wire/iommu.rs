// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Units, domains and attachments.

use core::ops::{Deref, DerefMut};

use zerocopy::{transmute_mut, transmute_ref, FromZeros};

use super::{check_header, has_duplicates, header, is_zero};
use crate::abi::iommu::{
    AttachmentSer, DomainSer, IommuSer, UnitSer, ATTACHMENT_DEVICE_TLB, ATTACHMENT_PAGE_SNOOP,
    ATTACHMENT_WALK_SNOOP, DOMAIN_INCOHERENT, DOMAIN_SNOOP, FORMAT_FIRST_STAGE, FORMAT_FREE,
    FORMAT_SECOND_STAGE, MAGIC, MODE_FREE, MODE_LEGACY, MODE_SCALABLE, VERSION,
};
use crate::abi::Page;
use crate::model::{
    Attachment, DeviceAddress, Domain, DomainKey, EntryFacts, Format, Mode, Table, Unit,
};
use crate::refusal::{Family, Refusal};

const FAMILY: Family = Family::Iommu;
const MALFORMED: Refusal = Refusal::Malformed(FAMILY);

/// Most PASIDs that there are.
const PASIDS: u32 = 1 << 20;

fn is_page(address: u64) -> bool {
    address != 0 && address & 0xfff == 0
}

impl UnitSer {
    fn encode(unit: &Unit) -> Self {
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
            reserved: 0.into(),
        }
    }

    fn decode(&self) -> Result<Option<Unit>, Refusal> {
        let mode = match self.mode.get() {
            MODE_FREE => return Ok(None),
            MODE_LEGACY => Mode::Legacy,
            MODE_SCALABLE => Mode::Scalable,
            _ => return Err(MALFORMED),
        };
        if self.reserved.get() != 0 || !is_page(self.root_table.get()) {
            return Err(MALFORMED);
        }
        Ok(Some(Unit {
            register_base: self.register_base.get(),
            root_table: self.root_table.get(),
            live_root: self.live_root.get(),
            capability: self.capability.get(),
            extended_capability: self.extended_capability.get(),
            mode,
        }))
    }
}

impl DomainSer {
    fn encode(domain: &Domain) -> Self {
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

    fn decode(&self) -> Result<Option<Domain>, Refusal> {
        let format = match self.format.get() {
            FORMAT_FREE => return Ok(None),
            FORMAT_SECOND_STAGE => Format::SecondStage,
            FORMAT_FIRST_STAGE => Format::FirstStage,
            _ => return Err(MALFORMED),
        };
        let (levels, flags) = (self.levels.get(), self.flags.get());
        let sound = (3..=5).contains(&levels)
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
    fn encode(attachment: &Attachment) -> Self {
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

    fn decode(&self) -> Result<Option<Attachment>, Refusal> {
        let Some(domain) = DomainKey::new(self.domain.get()) else {
            return Ok(None);
        };
        let directory = self.pasid_directory.get();
        let table = self.pasid_table.get();
        let max_pasid = self.max_pasid.get();
        let legacy = directory == 0 && table == 0 && max_pasid == 0;
        let scalable = is_page(directory) && is_page(table) && (1..=PASIDS).contains(&max_pasid);
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
/// Every entry decodes; no two units have one register base, no two attachments one device, no two
/// domains one token of one iommufd; the unit and the domain of every attachment are recorded, and the
/// attachment has the form of the unit's mode.
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
        check_header(&record.header, MAGIC, VERSION, FAMILY)?;
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

    fn check_references(&self) -> Result<(), Refusal> {
        let bases = self.record().units.iter().filter_map(|unit| {
            let unit = unit.decode().ok().flatten();
            unit.map(|unit| unit.register_base)
        });
        let devices = self.record().attachments.iter().filter_map(|attachment| {
            let attachment = attachment.decode().ok().flatten();
            attachment.map(|attachment| attachment.address)
        });
        let tokens = self.record().domains.iter().filter_map(|domain| {
            let domain = domain.decode().ok().flatten();
            domain.map(|domain| (domain.iommufd, domain.token))
        });
        if has_duplicates(bases) || has_duplicates(devices) || has_duplicates(tokens) {
            return Err(Refusal::Duplicate(FAMILY));
        }
        for attachment in self.attachments() {
            let unit = self.unit(attachment.register_base);
            let unit = unit.ok_or(Refusal::NotRecorded(FAMILY))?;
            if self.domain(attachment.domain).is_none() {
                return Err(Refusal::NotRecorded(FAMILY));
            }
            if (unit.mode == Mode::Scalable) != (attachment.pasid_directory != 0) {
                return Err(MALFORMED);
            }
        }
        Ok(())
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
    pub fn units(&self) -> impl Iterator<Item = Unit> + '_ {
        let units = self.record().units.iter();
        units.filter_map(|unit| unit.decode().ok().flatten())
    }

    /// The unit with a register base.
    pub fn unit(&self, register_base: u64) -> Option<Unit> {
        self.units()
            .find(|unit| unit.register_base == register_base)
    }

    /// All domains with their keys.
    pub fn domains(&self) -> impl Iterator<Item = (DomainKey, Domain)> + '_ {
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
    pub fn attachments(&self) -> impl Iterator<Item = Attachment> + '_ {
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
        record.header = header(MAGIC, VERSION);
        Self { page }
    }

    fn record_mut(&mut self) -> &mut IommuSer {
        transmute_mut!(&mut *self.page)
    }

    /// Records a domain.
    ///
    /// # Errors
    ///
    /// [`Refusal::Duplicate`], [`Refusal::Full`], or [`Refusal::Malformed`] if the domain is one that
    /// no reader would accept.
    pub fn add_domain(&mut self, domain: &Domain) -> Result<DomainKey, Refusal> {
        if self.domain_of(domain.iommufd, domain.token).is_some() {
            return Err(Refusal::Duplicate(FAMILY));
        }
        let encoded = DomainSer::encode(domain);
        encoded.decode()?;
        let mut entries = (1..).zip(self.record_mut().domains.iter_mut());
        let free = entries.find(|(_, entry)| entry.format.get() == FORMAT_FREE);
        let (key, entry) = free.ok_or(Refusal::Full(FAMILY))?;
        *entry = encoded;
        DomainKey::new(key).ok_or(MALFORMED)
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
    /// [`Refusal::AlreadyRecorded`], [`Refusal::Full`], [`Refusal::NotRecorded`] if the domain is not,
    /// [`Refusal::OtherRoot`] and the like if the unit is not as recorded, [`Refusal::Malformed`];
    /// nothing has changed then.
    pub fn add_attachment(&mut self, unit: &Unit, attachment: &Attachment) -> Result<(), Refusal> {
        if self.attachment(attachment.address).is_some() {
            return Err(Refusal::AlreadyRecorded);
        }
        if self.domain(attachment.domain).is_none() {
            return Err(Refusal::NotRecorded(FAMILY));
        }
        let (unit_ser, attachment_ser) = (UnitSer::encode(unit), AttachmentSer::encode(attachment));
        unit_ser.decode()?;
        attachment_ser.decode()?;
        if unit.register_base != attachment.register_base
            || (unit.mode == Mode::Scalable) != (attachment.pasid_directory != 0)
        {
            return Err(MALFORMED);
        }

        // A swap in scalable mode needs the domain id handed over, which two users prevent.
        let scalable = unit.mode == Mode::Scalable;
        let shared = |other: Attachment| {
            other.domain == attachment.domain && (scalable || other.pasid_directory != 0)
        };
        if self.attachments().any(shared) {
            return Err(Refusal::SharedHwpt);
        }
        let known = self.unit(unit.register_base);
        if known.is_some_and(|known| known != *unit) {
            return Err(Refusal::OtherRoot);
        }
        let record = self.record_mut();
        let mut free = record.attachments.iter_mut();
        let free = free.find(|entry| entry.domain.get() == 0);
        let free = free.ok_or(Refusal::Full(FAMILY))?;
        if known.is_none() {
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
