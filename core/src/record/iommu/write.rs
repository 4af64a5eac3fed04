// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Writing the record: nothing that a reader would refuse.

use super::nodes::{
    end, overlap, owned_by_domain, Joined, Owned, ATTACHMENT_NODES, DEVICE, DOMAIN_NODES, FOUND,
    HWPT, OWNER, PAGE, UNIT,
};
use super::{check_attachment, Iommu, ALIASED, CONTRADICTORY, DUPLICATE, FAMILY, MALFORMED};
use crate::error::Error;
use crate::iommu::pt::table::Table;
use crate::record::attachment::{Attachment, Domain, DomainKey, Translation, Unit};
use crate::record::hardware::Kinds;
use crate::record::index::Key;
use crate::record::lender::Grow;
use crate::record::list::List;
use crate::record::pci::DeviceAddress;
use crate::refusal::Refusal;

impl<L: Grow> Iommu<L> {
    /// Makes an empty record of units of these kinds.
    ///
    /// # Errors
    ///
    /// The lender's.
    pub fn create(lender: L, kinds: Kinds) -> Result<Self, Error<L::Error>> {
        let list = List::create(lender, FAMILY)?;
        Ok(Self { list, kinds })
    }

    /// Records a domain.
    ///
    /// # Errors
    ///
    /// Whatever a reader would refuse, and the lender's; nothing has changed then.
    pub fn add_domain(&mut self, domain: &Domain) -> Result<DomainKey, Error<L::Error>> {
        let ser = domain.encode();
        Domain::decode(&ser)?;
        if self
            .list
            .about(HWPT, domain.iommufd, domain.token)
            .is_some()
        {
            return Err(DUPLICATE.into());
        }
        self.list.reserve(1, DOMAIN_NODES)?;
        let key = self.list.free_key().and_then(DomainKey::new);
        let key = key.ok_or(MALFORMED)?;
        let owned = owned_by_domain(key, domain);
        self.check_pages(owned.iter().copied())?;
        self.list.insert(&ser);
        self.join_domain(key, domain)?;
        Ok(key)
    }

    /// Records that a device is attached to a recorded domain, and its unit if that is not recorded yet.
    ///
    /// # Errors
    ///
    /// [`Refusal::AlreadyRecorded`], [`Refusal::OtherRoot`] if the unit is not as recorded, whatever a
    /// reader would refuse, and the lender's; nothing has changed then.
    pub fn add_attachment(
        &mut self,
        unit: &Unit,
        address: DeviceAddress,
        domain: DomainKey,
        translation: &Translation,
    ) -> Result<(), Error<L::Error>> {
        if self.attachment_key(address).is_some() {
            return Err(Refusal::AlreadyRecorded.into());
        }
        let hardware = self.hardware(unit.hardware)?;
        hardware.check_unit(unit)?;
        let Domain { table, iommufd, .. } = self.domain(domain)?;
        let known = self.unit_key(unit.base);
        if known.is_some_and(|key| self.decode_unit(key) != Ok(*unit)) {
            return Err(Refusal::OtherRoot.into());
        }
        self.list.reserve(2, ATTACHMENT_NODES)?;
        // A unit that is not known is put where nothing is yet, and taken out again if it has to be.
        let unit_key = match known {
            Some(key) => Some(key),
            None => self.list.insert(&unit.encode()),
        };
        let unit_key = unit_key.ok_or(MALFORMED)?;
        let joined = Joined {
            key: self.list.free_key().ok_or(MALFORMED)?,
            attachment: Attachment {
                address,
                unit: unit_key,
                domain,
                translation: *translation,
            },
            unit: *unit,
            hardware,
            iommufd: Some(iommufd),
        };
        if let Err(refusal) = self.check_new(&joined, &table) {
            if known.is_none() {
                self.list.remove(unit_key);
            }
            return Err(refusal.into());
        }
        if known.is_none() {
            self.list
                .join(Key::new(UNIT, unit.base, 0, unit_key), FOUND)?;
        }
        self.list.insert(&joined.attachment.encode());
        self.list
            .join(Key::new(DEVICE, address.number(), 0, joined.key), 0)?;
        self.join(&joined)
    }

    /// What a reader would refuse is not written.
    fn check_new(&self, joined: &Joined, table: &Table) -> Result<(), Refusal> {
        check_attachment(joined, table)?;
        for key in [joined.id(), joined.id_of()] {
            let known = self.list.about(key.kind, key.a, key.b);
            if known.is_some_and(|known| known.key != key) {
                return Err(CONTRADICTORY);
            }
        }
        let shares = self.list.users(&joined.id_of()) != 0;
        if shares && !joined.hardware.may_share(&joined.unit, table) {
            return Err(Refusal::SharedHwpt);
        }
        self.check_pages(joined.owned())
    }

    /// Has each of these pages this one use?
    fn check_pages(&self, owned: impl Iterator<Item = Owned> + Clone) -> Result<(), Refusal> {
        for (number, one) in owned.clone().enumerate() {
            let owner = self.list.about_any(OWNER, one.owner.number());
            if owner.is_some_and(|node| node.key.b != one.pages.first) {
                return Err(CONTRADICTORY);
            }
            let (key, last) = (one.page(), Key::new(PAGE, one.pages.end(), 0, 0));
            let before = self.list.before(&Key { b: 0, ..key });
            let before = before.filter(|node| node.key.kind == PAGE);
            let mut within = self.list.from(Key { b: 0, ..key });
            let within = within
                .by_ref()
                .take_while(|node| node.key < last)
                .find(|node| node.key != key);
            let mut earlier = owned.clone().take(number);
            if before.is_some_and(|node| end(node) > one.pages.first)
                || within.is_some()
                || earlier.any(|other| overlap(&one, &other))
            {
                return Err(ALIASED);
            }
        }
        Ok(())
    }
}
