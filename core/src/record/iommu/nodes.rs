// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The nodes of the index of units, domains and attachments: what each kind of node says, and which of them an entry has.

use crate::record::attachment::{Attachment, Domain, DomainKey, Unit};
use crate::record::hardware::{Hardware, Pages};
use crate::record::index::{Key, Node};

/// Index: the unit `c` is at base `a`. Value: [`FOUND`] or [`ADOPTED`].
pub(super) const UNIT: u8 = 1;
pub(super) const FOUND: u32 = 0;
pub(super) const ADOPTED: u32 = 1;
/// Index: the domain `c` is that of iommufd `a` and token `b`.
pub(super) const HWPT: u8 = 2;
/// Index: the attachment `c` is that of the device `a`. Noted: the device was stopped.
pub(super) const DEVICE: u8 = 3;
/// Index: the attachment `c` is behind unit `a` and that of device `b`.
pub(super) const BEHIND: u8 = 4;
/// Index: the attachment `c` is to domain `a` and that of device `b`.
pub(super) const ON: u8 = 5;
/// Index: on unit and with domain id `a`, domain `c`.
pub(super) const ID: u8 = 6;
/// Index: on unit and of domain `a`, domain id `c`.
pub(super) const ID_OF: u8 = 7;
/// Index: from page `a` on, so many pages belong to `b`. Value: their number, and [`RESTORED`].
pub(super) const PAGE: u8 = 8;
/// The pages have been taken back from the handover: that can be done once.
pub(super) const RESTORED: u32 = 1 << 31;
/// Index: the pages of `a` begin at `b`.
pub(super) const OWNER: u8 = 9;
/// Index: users are the domains of iommufd `a`.
pub(super) const IOMMUFD: u8 = 10;
/// Index: users are the devices that may be using domain `a`.
pub(super) const RUNNING: u8 = 11;
/// Index: users are the devices that may be using some domain of iommufd `a`.
pub(super) const OUTSTANDING: u8 = 12;

pub(super) fn pair(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// Whose a page is, as a number.
#[derive(Clone, Copy)]
pub(super) enum Owner {
    /// Several devices', behind the unit with a key.
    Unit(u32, u32),
    /// That of the attachment with a key, and which of its pages.
    Attachment(u32, u32),
    /// The top table of the domain with a key.
    Domain(u32),
    /// The record of the iommufd at an address.
    Iommufd(u64),
}

impl Owner {
    pub(super) fn number(self) -> u64 {
        let (class, number) = match self {
            Self::Unit(unit, shared) => {
                (1_u64, u64::from(unit) << 24 | u64::from(shared & 0xff_ffff))
            }
            Self::Attachment(key, number) => (2, u64::from(key) << 8 | u64::from(number & 0xff)),
            Self::Domain(key) => (3, key.into()),
            Self::Iommufd(phys) => (4, phys >> 12),
        };
        class << 60 | number
    }
}

/// Pages and whose they are.
#[derive(Clone, Copy)]
pub(super) struct Owned {
    pub(super) pages: Pages,
    pub(super) owner: Owner,
}

impl Owned {
    pub(super) fn page(&self) -> Key {
        Key::new(PAGE, self.pages.first, self.owner.number(), 0)
    }

    pub(super) fn owner(&self) -> Key {
        Key::new(OWNER, self.owner.number(), self.pages.first, 0)
    }
}

pub(super) fn one(first: u64, owner: Owner) -> Owned {
    let pages = Pages {
        first,
        count: 1,
        shared: None,
    };
    Owned { pages, owner }
}

pub(super) fn end(node: &Node) -> u64 {
    let count = node.value & !RESTORED;
    node.key.a.saturating_add(u64::from(count) << 12)
}

/// Most runs of pages that a kind of hardware may have for an attachment.
pub(super) const RUNS: u32 = 8;
/// Most nodes that an attachment and its unit need.
pub(super) const ATTACHMENT_NODES: u32 = 2 * RUNS + 9;
/// Most nodes that a domain needs.
pub(super) const DOMAIN_NODES: u32 = 6;

/// An attachment with what it names: all that is needed to find its nodes.
#[derive(Clone, Copy)]
pub(super) struct Joined {
    pub(super) key: u32,
    pub(super) attachment: Attachment,
    pub(super) unit: Unit,
    pub(super) hardware: &'static dyn Hardware,
    /// Of its domain, if that decodes.
    pub(super) iommufd: Option<u64>,
}

impl Joined {
    pub(super) fn address(&self) -> u64 {
        self.attachment.address.number()
    }

    pub(super) fn id(&self) -> Key {
        let Attachment {
            unit,
            domain,
            translation,
            ..
        } = self.attachment;
        Key::new(ID, pair(unit, translation.domain_id), 0, domain.get())
    }

    pub(super) fn id_of(&self) -> Key {
        let Attachment {
            unit,
            domain,
            translation,
            ..
        } = self.attachment;
        Key::new(ID_OF, pair(unit, domain.get()), 0, translation.domain_id)
    }

    pub(super) fn names(&self) -> [Key; 2] {
        let (unit, domain) = (self.attachment.unit, self.attachment.domain.get());
        [
            Key::new(BEHIND, unit.into(), self.address(), self.key),
            Key::new(ON, domain.into(), self.address(), self.key),
        ]
    }

    /// Nodes that count it while the device may be using the domain.
    pub(super) fn counts(&self) -> [Option<Key>; 2] {
        let domain = self.attachment.domain.get();
        [
            Some(Key::new(RUNNING, domain.into(), 0, 0)),
            self.iommufd.map(|phys| Key::new(OUTSTANDING, phys, 0, 0)),
        ]
    }

    pub(super) fn owned(&self) -> impl Iterator<Item = Owned> + Clone {
        let Self {
            key,
            attachment,
            unit,
            hardware,
            ..
        } = *self;
        (0..RUNS).map_while(move |number| {
            let translation = &attachment.translation;
            let pages = hardware.pages(&unit, attachment.address, translation, number)?;
            let owner = match pages.shared {
                Some(shared) => Owner::Unit(attachment.unit, shared),
                None => Owner::Attachment(key, number),
            };
            Some(Owned { pages, owner })
        })
    }
}

/// The pages that a domain's record names.
pub(super) fn owned_by_domain(key: DomainKey, domain: &Domain) -> [Owned; 2] {
    [
        one(domain.table.top.get(), Owner::Domain(key.get())),
        one(domain.iommufd, Owner::Iommufd(domain.iommufd)),
    ]
}

/// Do they use the same page, and are they not the very same?
pub(super) fn overlap(one: &Owned, other: &Owned) -> bool {
    one.pages.first < other.pages.end()
        && other.pages.first < one.pages.end()
        && one.page() != other.page()
}
