// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What units, domains and attachments say of each other.
//!
//! Names are unique; what an attachment names is recorded, and the attachment agrees with it; on a unit
//! one domain has one domain id and nobody else has that; and each page has one use. Who restores,
//! rewrites or frees a page later does so for that use, and would do it to another's tables otherwise.

use core::ops::Deref;

use super::{Iommu, FAMILY, MALFORMED};
use crate::abi::Page;
use crate::model::{Attachment, DeviceAddress, Domain, DomainKey, Format, Mode, Unit};
use crate::refusal::Refusal;
use crate::wire::has_duplicates;

const CONTRADICTORY: Refusal = Refusal::Contradictory(FAMILY);

impl<P: Deref<Target = Page>> Iommu<P> {
    /// Does the whole of it hold together?
    pub(super) fn check_references(&self) -> Result<(), Refusal> {
        self.check_names()?;
        for attachment in self.attachments() {
            let unit = self.unit(attachment.register_base);
            let domain = self.domain(attachment.domain);
            let (unit, domain) = unit.zip(domain).ok_or(Refusal::NotRecorded(FAMILY))?;
            check_attachment(&attachment, &unit, &domain)?;
        }
        self.check_domain_ids()?;
        self.check_pages()
    }

    fn check_names(&self) -> Result<(), Refusal> {
        let units = self.units().map(|unit| unit.register_base);
        let devices = self.attachments().map(|attachment| attachment.address);
        let tokens = self
            .domains()
            .map(|(_, domain)| (domain.iommufd, domain.token));
        if has_duplicates(units) || has_duplicates(devices) || has_duplicates(tokens) {
            return Err(Refusal::Duplicate(FAMILY));
        }
        Ok(())
    }

    /// Caches are tagged with the domain id, and a swap in scalable mode needs it handed over, which two
    /// users of a domain prevent.
    fn check_domain_ids(&self) -> Result<(), Refusal> {
        for (number, one) in self.attachments().enumerate() {
            for other in self.attachments().take(number) {
                let same_domain = one.domain == other.domain;
                if same_domain && (is_scalable(&one) || is_scalable(&other)) {
                    return Err(Refusal::SharedHwpt);
                }
                if one.register_base == other.register_base
                    && same_domain != (one.domain_id == other.domain_id)
                {
                    return Err(CONTRADICTORY);
                }
            }
        }
        Ok(())
    }

    fn check_pages(&self) -> Result<(), Refusal> {
        for (number, one) in self.pages().enumerate() {
            for other in self.pages().take(number) {
                one.check(&other)?;
            }
        }
        Ok(())
    }

    /// All pages that the record speaks of, each with its use.
    fn pages(&self) -> impl Iterator<Item = Pages> + '_ {
        let units = self
            .units()
            .map(|unit| Pages::one(Use::Root(unit.register_base), unit.root_table));
        let domains = self.domains().flat_map(|(key, domain)| {
            [
                Pages::one(Use::Top(key), domain.table.top),
                Pages::one(Use::List(key), domain.list),
                Pages::one(Use::Iommufd(domain.iommufd), domain.iommufd),
            ]
        });
        let attachments = self
            .attachments()
            .flat_map(|attachment| pages_of(&attachment));
        units.chain(domains).chain(attachments)
    }
}

fn is_scalable(attachment: &Attachment) -> bool {
    attachment.pasid_directory != 0
}

/// Does an attachment agree with its unit and its domain?
fn check_attachment(attachment: &Attachment, unit: &Unit, domain: &Domain) -> Result<(), Refusal> {
    if (unit.mode == Mode::Scalable) != is_scalable(attachment)
        || !unit.has_domain_id(attachment.domain_id)
    {
        return Err(MALFORMED);
    }
    if unit.segment != attachment.address.segment {
        return Err(CONTRADICTORY);
    }
    match unit.mode {
        Mode::Legacy => Ok(()),
        Mode::Scalable => check_snooping(attachment, domain),
    }
}

/// A PASID entry says of snooping what its domain says: tables that hardware does not snoop are walked
/// without, and only first-stage translation forces snooping through the entry.
fn check_snooping(attachment: &Attachment, domain: &Domain) -> Result<(), Refusal> {
    let table = &domain.table;
    let page_snoop = table.snoop && table.format == Format::FirstStage;
    let agree = attachment.entry.walk_snoop != table.incoherent
        && attachment.entry.page_snoop == page_snoop;
    agree.then_some(()).ok_or(CONTRADICTORY)
}

/// What pages are used for, and by whom.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Of the unit with this register base.
    Root(u64),
    /// Of a bus; in scalable mode of its devices 0 to 15 or 16 to 31.
    Context {
        register_base: u64,
        bus: u8,
        upper: bool,
    },
    PasidDirectory(DeviceAddress),
    PasidTable(DeviceAddress),
    Top(DomainKey),
    List(DomainKey),
    /// Several domains may have their HWPTs in one.
    Iommufd(u64),
}

/// Pages in a row with one use.
#[derive(Clone, Copy)]
struct Pages {
    used: Use,
    first: u64,
    count: u32,
}

impl Pages {
    fn one(used: Use, first: u64) -> Self {
        Self {
            used,
            first,
            count: 1,
        }
    }

    fn end(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count) << 12)
    }

    /// The same use has the same pages, and another use has others.
    fn check(&self, other: &Self) -> Result<(), Refusal> {
        let overlap = self.first < other.end() && other.first < self.end();
        match self.used == other.used {
            true if self.first != other.first => Err(CONTRADICTORY),
            false if overlap => Err(Refusal::Aliased(FAMILY)),
            _ => Ok(()),
        }
    }
}

/// The pages that translate for a device, root table and page table apart.
fn pages_of(attachment: &Attachment) -> impl Iterator<Item = Pages> {
    let address = attachment.address;
    let [bus, devfn] = address.bdf.to_be_bytes();
    let context = Use::Context {
        register_base: attachment.register_base,
        bus,
        upper: is_scalable(attachment) && devfn >= 0x80,
    };
    let directory = Pages {
        used: Use::PasidDirectory(address),
        first: attachment.pasid_directory,
        count: attachment.directory_pages(),
    };
    let table = Pages::one(Use::PasidTable(address), attachment.pasid_table);
    let scalable = is_scalable(attachment).then_some([directory, table]);
    core::iter::once(Pages::one(context, attachment.context_table))
        .chain(scalable.into_iter().flatten())
}
