// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Units, domains and attachments.
//!
//! What they say of each other has to hold together: names are unique; what an attachment names is
//! recorded, and the attachment agrees with it; on a unit one domain has one domain id and nobody else
//! has that; and each page has one use. Who restores, rewrites or frees a page later does so for that
//! use, and would do it to another's tables otherwise.
//!
//! The outgoing kernel records nothing that does not hold together. In the incoming kernel whoever is
//! concerned is refused: the devices that say it, and no others.
//!
//! | module | what |
//! |---|---|
//! | `nodes` | what the index knows of each entry |
//! | `take` | a record of another kernel is taken over |
//! | `write` | a record is written |

use super::attachment::{Attachment, Domain, DomainKey, Unit};
use super::hardware::{Hardware, Kinds};
use super::index::Key;
use super::lender::Lender;
use super::list::{Family, List};
use super::pci::DeviceAddress;
use crate::abi::iommu::{
    AttachmentSer, DomainSer, UnitSer, KIND_ATTACHMENT, KIND_DOMAIN, KIND_UNIT, KNOWN_REQUIRED,
    MAGIC, VERSION,
};
use crate::error::Error;
use crate::image::{format_feature, kind_feature};
use crate::iommu::pt::table::Table;
use crate::refusal::{self, Refusal};

mod nodes;
mod take;
mod write;

use nodes::{
    owned_by_domain, pair, Joined, Owned, ADOPTED, BEHIND, DEVICE, FOUND, HWPT, ID, IOMMUFD, ON,
    OUTSTANDING, RESTORED, RUNNING, UNIT,
};

const NAME: refusal::Family = refusal::Family::Iommu;
const MALFORMED: Refusal = Refusal::Malformed(NAME);
const CONTRADICTORY: Refusal = Refusal::Contradictory(NAME);
const NOT_RECORDED: Refusal = Refusal::NotRecorded(NAME);
const ALIASED: Refusal = Refusal::Aliased(NAME);
const DUPLICATE: Refusal = Refusal::Duplicate(NAME);

const FAMILY: Family = Family {
    name: NAME,
    magic: MAGIC,
    version: VERSION,
    known_required: KNOWN_REQUIRED,
    last_kind: KIND_ATTACHMENT,
};

/// The record of units, domains and attachments.
#[derive(Debug)]
pub struct Iommu<L> {
    list: List<L>,
    kinds: Kinds,
}

fn hardware(kinds: Kinds, kind: u8) -> Result<&'static dyn Hardware, Refusal> {
    let mut kinds = kinds.iter().copied();
    let found = kinds.find(|hardware| hardware.kind() == kind);
    found.ok_or(Refusal::OtherIommu)
}

impl<L: Lender> Iommu<L> {
    /// Physical address of the first page: what LUO carries.
    pub fn phys(&self) -> u64 {
        self.list.phys()
    }

    /// The memory that was lent.
    pub const fn lender(&self) -> &L {
        self.list.lender()
    }

    /// Gives the memory back.
    pub fn into_lender(self) -> L {
        self.list.into_lender()
    }

    fn hardware(&self, kind: u8) -> Result<&'static dyn Hardware, Refusal> {
        hardware(self.kinds, kind)
    }

    fn decode_unit(&self, key: u32) -> Result<Unit, Refusal> {
        let ser: Option<UnitSer> = self.list.entry(key, KIND_UNIT);
        Unit::decode(&ser.ok_or(NOT_RECORDED)?)
    }

    fn decode_domain(&self, key: DomainKey) -> Result<Domain, Refusal> {
        let ser: Option<DomainSer> = self.list.entry(key.get(), KIND_DOMAIN);
        Domain::decode(&ser.ok_or(NOT_RECORDED)?)
    }

    fn decode_attachment(&self, key: u32) -> Result<Attachment, Refusal> {
        let ser: Option<AttachmentSer> = self.list.entry(key, KIND_ATTACHMENT);
        Attachment::decode(&ser.ok_or(NOT_RECORDED)?)
    }

    /// The attachment with a key, if it names a unit and hardware that are there: it is in the index
    /// then, whatever else is wrong with it.
    fn joined(&self, key: u32) -> Result<Joined, Refusal> {
        let attachment = self.decode_attachment(key)?;
        let unit = self.decode_unit(attachment.unit)?;
        let hardware = self.hardware(unit.hardware)?;
        hardware.check_unit(&unit)?;
        let domain = self.decode_domain(attachment.domain);
        Ok(Joined {
            key,
            attachment,
            unit,
            hardware,
            iommufd: domain.ok().map(|domain| domain.iommufd),
        })
    }

    fn unit_key(&self, base: u64) -> Option<u32> {
        let node = self.list.about(UNIT, base, 0)?;
        Some(node.key.c)
    }

    fn check_unit(&self, key: u32) -> Result<Unit, Refusal> {
        let unit = self.decode_unit(key)?;
        let base = Key::new(UNIT, unit.base, 0, key);
        let noted = self.list.blamed(key).or_else(|| self.list.noted(&base));
        noted.map_or(Ok(unit), Err)
    }

    /// The domain with a key, or what is wrong with it.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotRecorded`], and what was found when the record was decoded.
    pub fn domain(&self, key: DomainKey) -> Result<Domain, Refusal> {
        let domain = self.decode_domain(key)?;
        let hwpt = Key::new(HWPT, domain.iommufd, domain.token, key.get());
        let noted = self
            .list
            .blamed(key.get())
            .or_else(|| self.list.noted(&hwpt))
            .or_else(|| {
                let mut owned = owned_by_domain(key, &domain).into_iter();
                owned.find_map(|owned| self.noted_pages(&owned))
            });
        noted.map_or(Ok(domain), Err)
    }

    fn noted_pages(&self, owned: &Owned) -> Option<Refusal> {
        let noted = self.list.noted(&owned.page());
        noted.or_else(|| self.list.noted(&owned.owner()))
    }

    /// What is wrong with an attachment that is in the index, or with what it names.
    fn check_joined(&self, joined: &Joined) -> Result<(), Refusal> {
        let unit = self.check_unit(joined.attachment.unit)?;
        let domain = self.domain(joined.attachment.domain)?;
        let device = Key::new(DEVICE, joined.address(), 0, joined.key);
        let mut noted = [device, joined.id(), joined.id_of()]
            .iter()
            .find_map(|key| self.list.noted(key));
        noted = noted.or_else(|| self.list.blamed(joined.key));
        noted = noted.or_else(|| joined.owned().find_map(|owned| self.noted_pages(&owned)));
        if let Some(refusal) = noted {
            return Err(refusal);
        }
        self.check_sharing(joined, &unit, &domain.table)
    }

    fn check_sharing(&self, joined: &Joined, unit: &Unit, table: &Table) -> Result<(), Refusal> {
        let shared = self.list.users(&joined.id_of()) > 1;
        match shared && !joined.hardware.may_share(unit, table) {
            true => Err(Refusal::SharedHwpt),
            false => Ok(()),
        }
    }

    /// All units that nobody is to blame for.
    pub fn units(&self) -> impl Iterator<Item = Unit> + '_ {
        let nodes = self.list.from(Key::new(UNIT, 0, 0, 0));
        let nodes = nodes.take_while(|node| node.key.kind == UNIT);
        nodes.filter_map(|node| self.check_unit(node.key.c).ok())
    }

    /// The unit at a register base, or what is wrong with it. `None`: it is not recorded.
    pub fn unit(&self, base: u64) -> Option<Result<Unit, Refusal>> {
        Some(self.check_unit(self.unit_key(base)?))
    }

    /// The unit of an attachment.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn unit_of(&self, attachment: &Attachment) -> Result<Unit, Refusal> {
        self.check_unit(attachment.unit)
    }

    /// All domains that can be read, with their keys, whatever else is wrong with them: what their
    /// tables hold has to be released.
    pub fn domains(&self) -> impl Iterator<Item = (DomainKey, Domain)> + '_ {
        let keys = self.list.keys().filter_map(DomainKey::new);
        keys.filter_map(|key| Some((key, self.decode_domain(key).ok()?)))
    }

    /// The features that the next kernel needs to take the records over, as `ImageSer::takes` has them.
    pub fn uses(&self) -> u64 {
        let kinds = self.units().map(|unit| kind_feature(unit.hardware));
        let formats = self
            .domains()
            .map(|(_, domain)| format_feature(domain.table.format.number()));
        kinds.chain(formats).fold(0, |all, one| all | one)
    }

    /// Features that the attachment of one device uses, as in [`Self::uses`].
    pub fn uses_of(&self, address: DeviceAddress) -> Option<u64> {
        let attachment = self.attachment(address)?.ok()?;
        let unit = self.unit_of(&attachment).ok()?;
        let domain = self.domain(attachment.domain).ok()?;
        Some(kind_feature(unit.hardware) | format_feature(domain.table.format.number()))
    }

    /// The domain of the HWPT with a token of an iommufd.
    pub fn domain_of(&self, iommufd: u64, token: u64) -> Option<(DomainKey, Domain)> {
        let node = self.list.about(HWPT, iommufd, token)?;
        let key = DomainKey::new(node.key.c)?;
        Some((key, self.domain(key).ok()?))
    }

    /// Physical addresses of the records of iommufds that domains name, in rising order from `first` on.
    pub(super) fn iommufds_from(&self, first: u64) -> impl Iterator<Item = u64> + '_ {
        let nodes = self.list.from(Key::new(IOMMUFD, first, 0, 0));
        let nodes = nodes.take_while(|node| node.key.kind == IOMMUFD);
        nodes.map(|node| node.key.a)
    }

    fn attachment_key(&self, address: DeviceAddress) -> Option<u32> {
        let node = self.list.about(DEVICE, address.number(), 0)?;
        Some(node.key.c)
    }

    /// The attachment of a device, or what is wrong with it. `None`: it has none.
    pub fn attachment(&self, address: DeviceAddress) -> Option<Result<Attachment, Refusal>> {
        let key = self.attachment_key(address)?;
        if let Some(refusal) = self.list.blamed(key) {
            return Some(Err(refusal));
        }
        let joined = self.joined(key);
        Some(joined.and_then(|joined| {
            self.check_joined(&joined)?;
            Ok(joined.attachment)
        }))
    }

    fn keys_of(&self, kind: u8, owner: u32) -> impl Iterator<Item = u32> + Clone + '_ {
        let owner = u64::from(owner);
        let nodes = self.list.from(Key::new(kind, owner, 0, 0));
        let nodes = nodes.take_while(move |node| (node.key.kind, node.key.a) == (kind, owner));
        nodes.map(|node| node.key.c)
    }

    /// The devices behind a unit, in the order of their addresses, each with its attachment or with
    /// what is wrong with it. It allocates nothing.
    pub fn behind(
        &self,
        base: u64,
    ) -> impl Iterator<Item = (DeviceAddress, Result<Attachment, Refusal>)> + Clone + '_ {
        let keys = self.unit_key(base).into_iter();
        let keys = keys.flat_map(|unit| self.keys_of(BEHIND, unit));
        keys.filter_map(|key| {
            let joined = self.joined(key).ok()?;
            let checked = self.check_joined(&joined);
            let attachment = joined.attachment;
            Some((attachment.address, checked.map(|()| attachment)))
        })
    }

    /// The devices behind a unit that are on one bus. It allocates nothing.
    pub fn on_bus(
        &self,
        base: u64,
        segment: u32,
        bus: u8,
    ) -> impl Iterator<Item = Attachment> + '_ {
        let first = DeviceAddress {
            segment,
            bdf: u16::from_be_bytes([bus, 0]),
        };
        let first = first.number();
        let unit = self.unit_key(base).into_iter();
        let nodes = unit.flat_map(move |unit| {
            let unit = u64::from(unit);
            let nodes = self.list.from(Key::new(BEHIND, unit, first, 0));
            nodes.take_while(move |node| {
                let key = node.key;
                (key.kind, key.a, key.b >> 8) == (BEHIND, unit, first >> 8)
            })
        });
        nodes.filter_map(|node| {
            let joined = self.joined(node.key.c).ok()?;
            self.check_joined(&joined).ok()?;
            Some(joined.attachment)
        })
    }

    /// The devices that are attached to a domain.
    pub fn attached(&self, domain: DomainKey) -> impl Iterator<Item = DeviceAddress> + '_ {
        let keys = self.keys_of(ON, domain.get());
        keys.filter_map(|key| Some(self.decode_attachment(key).ok()?.address))
    }

    /// The domain ids in use on a unit, each once, in rising order: those of devices that nobody is to
    /// blame for. It allocates nothing.
    pub fn domain_ids(&self, base: u64) -> impl Iterator<Item = u32> + Clone + '_ {
        let unit = self.unit_key(base).into_iter();
        unit.flat_map(move |unit| {
            let first = pair(unit, 0);
            let nodes = self.list.from(Key::new(ID, first, 0, 0));
            let nodes = nodes
                .take_while(move |node| node.key.kind == ID && node.key.a >> 32 == u64::from(unit));
            let sound = nodes.filter(|node| node.note.is_none());
            sound.map(|node| {
                let [.., a, b, c, d] = node.key.a.to_be_bytes();
                u32::from_be_bytes([a, b, c, d])
            })
        })
    }

    /// How many devices may be using the tables of a domain.
    pub fn users(&self, domain: DomainKey) -> u32 {
        self.list
            .users(&Key::new(RUNNING, domain.get().into(), 0, 0))
    }

    /// Whether a device may be using tables of an iommufd's domains.
    pub fn is_outstanding(&self, iommufd: u64) -> bool {
        self.list.users(&Key::new(OUTSTANDING, iommufd, 0, 0)) != 0
    }

    /// Whether a device may be running on tables of the previous kernel.
    pub fn is_running(&self, address: DeviceAddress) -> bool {
        let node = self.list.about(DEVICE, address.number(), 0);
        node.is_some_and(|node| node.note.is_none())
    }

    /// Whether any device may be.
    pub fn is_any_running(&self) -> bool {
        let nodes = self.list.from(Key::new(RUNNING, 0, 0, 0));
        nodes
            .take_while(|node| node.key.kind == RUNNING)
            .next()
            .is_some()
    }

    /// The pages that translate for a device and for no other recorded one, page table apart: what has to
    /// be handed over when it has been added, and taken back before it is removed.
    pub fn pages_alone(&self, address: DeviceAddress) -> impl Iterator<Item = u64> + '_ {
        self.runs(address)
            .filter(|owned| self.list.users(&owned.page()) == 1)
            .flat_map(|owned| owned.pages.addresses())
    }

    /// All pages that translate for a device, page table apart.
    pub fn pages(&self, address: DeviceAddress) -> impl Iterator<Item = u64> + '_ {
        self.runs(address).flat_map(|owned| owned.pages.addresses())
    }

    fn runs(&self, address: DeviceAddress) -> impl Iterator<Item = Owned> + '_ {
        let joined = self.attachment_key(address);
        let joined = joined.and_then(|key| self.joined(key).ok());
        joined.into_iter().flat_map(|joined| joined.owned())
    }

    /// Takes the pages that translate for a device back from the handover, page table apart, with `restore`: those
    /// that have not been taken for another device. Of pages that cannot be taken nobody is kept.
    ///
    /// # Errors
    ///
    /// The first of `restore`.
    pub(super) fn restore_pages(
        &mut self,
        address: DeviceAddress,
        mut restore: impl FnMut(u64) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let key = self.attachment_key(address).ok_or(NOT_RECORDED)?;
        for owned in self.joined(key)?.owned() {
            let page = owned.page();
            let value = self.list.value(&page);
            if value & RESTORED != 0 {
                continue;
            }
            self.list.set_value(&page, value | RESTORED);
            let mut addresses = owned.pages.addresses();
            if let Err(refusal) = addresses.try_for_each(&mut restore) {
                self.list.note(&page, refusal);
                return Err(refusal);
            }
        }
        Ok(())
    }

    /// The device behind a unit that follows another in the order of addresses, whatever is wrong with it.
    pub(super) fn next_behind(
        &self,
        base: u64,
        after: Option<DeviceAddress>,
    ) -> Option<DeviceAddress> {
        let unit = u64::from(self.unit_key(base)?);
        let first = after.map_or(0, |after| after.number().saturating_add(1));
        let mut nodes = self.list.from(Key::new(BEHIND, unit, first, 0));
        let node = nodes.next();
        let node = node.filter(|node| (node.key.kind, node.key.a) == (BEHIND, unit))?;
        Some(DeviceAddress::from_number(node.key.b))
    }

    /// Forgets the attachment of a device; its unit goes with its last.
    pub fn remove_attachment(&mut self, address: DeviceAddress) {
        // Another kernel may have said two things of a device.
        while let Some(key) = self.attachment_key(address) {
            if let Ok(joined) = self.joined(key) {
                self.leave(&joined);
            }
            self.list.leave(&Key::new(DEVICE, address.number(), 0, key));
            self.list.remove(key);
            self.list.forgive(key);
        }
    }

    fn leave(&mut self, joined: &Joined) {
        let device = Key::new(DEVICE, joined.address(), 0, joined.key);
        if self.list.noted(&device).is_none() {
            for key in joined.counts().iter().flatten() {
                self.list.leave(key);
            }
        }
        for key in joined.names().iter().chain(&[joined.id(), joined.id_of()]) {
            self.list.leave(key);
        }
        for owned in joined.owned() {
            self.list.leave(&owned.page());
            self.list.leave(&owned.owner());
        }
        let unit = joined.attachment.unit;
        if self.keys_of(BEHIND, unit).next().is_none() {
            self.list.leave(&Key::new(UNIT, joined.unit.base, 0, unit));
            self.list.remove(unit);
            self.list.forgive(unit);
        }
    }

    /// A device was stopped: it uses no tables any more, and is refused from now on.
    pub fn stop(&mut self, address: DeviceAddress, refusal: Refusal) {
        let number = address.number();
        let mut next = self.attachment_key(address);
        while let Some(key) = next {
            let device = Key::new(DEVICE, number, 0, key);
            if self.list.noted(&device).is_none() {
                self.list.note(&device, refusal);
                if let Ok(joined) = self.joined(key) {
                    for key in joined.counts().iter().flatten() {
                        self.list.leave(key);
                    }
                }
            }
            let after = Key::new(DEVICE, number, 0, key.saturating_add(1));
            let mut nodes = self.list.from(after);
            let node = nodes.next();
            next = node
                .filter(|node| node.key.is_about(DEVICE, number, 0))
                .map(|node| node.key.c);
        }
    }

    /// The unit goes on with the tables it has.
    pub(super) fn set_adopted(&mut self, base: u64) {
        if let Some(key) = self.unit_key(base) {
            self.list.set_value(&Key::new(UNIT, base, 0, key), ADOPTED);
        }
    }

    /// Whether the unit goes on with the tables it has.
    pub fn is_adopted(&self, base: u64) -> bool {
        let node = self.list.about(UNIT, base, 0);
        node.is_some_and(|node| node.value == ADOPTED)
    }

    /// A unit's tables are refused. Its devices may be using them until they are stopped.
    pub(super) fn refuse_unit(&mut self, base: u64, refusal: Refusal) {
        if let Some(key) = self.unit_key(base) {
            let key = Key::new(UNIT, base, 0, key);
            self.list.set_value(&key, FOUND);
            self.list.note(&key, refusal);
        }
    }

    /// Every refused unit is blocked: its devices are stopped. A device of which nobody knows behind which unit it is
    /// is stopped with the last of them.
    pub(super) fn stop_refused(&mut self) {
        let mut from = Key::new(BEHIND, 0, 0, 0);
        while let Some(key) = self.next_of(BEHIND, from) {
            let unit = u32::try_from(key.a).unwrap_or(0);
            if let Err(refusal) = self.check_unit(unit) {
                self.stop(DeviceAddress::from_number(key.b), refusal);
            }
            from = Key {
                c: key.c.saturating_add(1),
                ..key
            };
        }
        if self.has_open_unit() {
            return;
        }
        let mut from = Key::new(DEVICE, 0, 0, 0);
        while let Some(key) = self.next_of(DEVICE, from) {
            if let Err(refusal) = self.joined(key.c) {
                self.stop(DeviceAddress::from_number(key.a), refusal);
            }
            from = Key {
                c: key.c.saturating_add(1),
                ..key
            };
        }
    }

    /// Whether there is a unit of which nobody has said what becomes of it.
    fn has_open_unit(&self) -> bool {
        let units = self.list.from(Key::new(UNIT, 0, 0, 0));
        let mut units = units.take_while(|node| node.key.kind == UNIT);
        units.any(|node| node.value != ADOPTED && self.check_unit(node.key.c).is_ok())
    }

    /// The first node of a kind from a key on.
    fn next_of(&self, kind: u8, from: Key) -> Option<Key> {
        let key = self.list.from(from).next()?.key;
        Some(key).filter(|key| key.kind == kind)
    }

    /// Forgets a domain that no device may be using, with the attachments to it.
    pub fn remove_domain(&mut self, key: DomainKey) -> Option<Domain> {
        if self.users(key) != 0 {
            return None;
        }
        let domain = self.decode_domain(key).ok()?;
        loop {
            let next = self.attached(key).next();
            let Some(address) = next else {
                break;
            };
            self.remove_attachment(address);
        }
        self.list
            .leave(&Key::new(HWPT, domain.iommufd, domain.token, key.get()));
        self.list.leave(&Key::new(IOMMUFD, domain.iommufd, 0, 0));
        for owned in owned_by_domain(key, &domain) {
            self.list.leave(&owned.page());
            self.list.leave(&owned.owner());
        }
        self.list.remove(key.get());
        self.list.forgive(key.get());
        Some(domain)
    }

    fn join_pages(&mut self, owned: &Owned) -> Result<(), Error<L::Error>> {
        self.list.join(owned.page(), owned.pages.count)?;
        self.list.join(owned.owner(), 0)
    }

    fn join_domain(&mut self, key: DomainKey, domain: &Domain) -> Result<(), Error<L::Error>> {
        let hwpt = Key::new(HWPT, domain.iommufd, domain.token, key.get());
        self.list.join(hwpt, 0)?;
        self.list.join(Key::new(IOMMUFD, domain.iommufd, 0, 0), 0)?;
        for owned in owned_by_domain(key, domain) {
            self.join_pages(&owned)?;
        }
        Ok(())
    }

    fn join(&mut self, joined: &Joined) -> Result<(), Error<L::Error>> {
        let counts = joined.counts().into_iter().flatten();
        let keys = counts.chain(joined.names());
        for key in keys.chain([joined.id(), joined.id_of()]) {
            self.list.join(key, 0)?;
        }
        for owned in joined.owned() {
            self.join_pages(&owned)?;
        }
        Ok(())
    }
}

/// Does an attachment agree with its unit and its domain?
fn check_attachment(joined: &Joined, table: &Table) -> Result<(), Refusal> {
    let Attachment {
        address,
        translation,
        ..
    } = &joined.attachment;
    if joined.unit.segment != address.segment {
        return Err(CONTRADICTORY);
    }
    joined
        .hardware
        .check(&joined.unit, *address, translation, table)
}
