// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! IOMMU units, domains and attachments.

use super::DeviceAddress;

/// In which mode a unit is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Context entries name a page table.
    Legacy,
    /// Context entries name a PASID directory.
    Scalable,
}

/// A unit, as recorded or as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Physical address of the register set; names the unit.
    pub register_base: u64,
    /// Physical address of the root table.
    pub root_table: u64,
    /// Root Table Address Register.
    pub live_root: u64,
    /// Capability Register.
    pub capability: u64,
    /// Extended Capability Register.
    pub extended_capability: u64,
    /// Mode.
    pub mode: Mode,
    /// PCI segment of the devices behind it.
    pub segment: u32,
}

/// The lowest domain id that Linux gives to a domain: hardware reserves 0, and Linux 1.
const FIRST_DOMAIN_ID: u16 = 2;

impl Unit {
    /// Whether Linux may have given a domain this id on the unit: CAP_REG.ND says how many there are.
    pub fn has_domain_id(&self, id: u16) -> bool {
        let [capability, ..] = self.capability.to_le_bytes();
        let bits = u32::from(capability & 7)
            .saturating_mul(2)
            .saturating_add(4);
        let count = 1_u32.checked_shl(bits).unwrap_or(u32::MAX);
        id >= FIRST_DOMAIN_ID && u32::from(id) < count
    }
}

/// Format of a page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// VT-d second stage.
    SecondStage,
    /// VT-d first stage, which is that of the CPU.
    FirstStage,
}

/// The page table of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Physical address of the top table.
    pub top: u64,
    /// Format.
    pub format: Format,
    /// Number of levels: 3 to 5 in second stage, 4 or 5 in first stage.
    pub levels: u32,
    /// Hardware does not snoop the tables.
    pub incoherent: bool,
    /// Snooping of the domain's accesses is forced.
    pub snoop: bool,
}

/// Names a domain among the records: at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainKey(u16);

impl DomainKey {
    /// `None` for 0.
    pub const fn new(key: u16) -> Option<Self> {
        match key {
            0 => None,
            key => Some(Self(key)),
        }
    }

    /// From the form that C carries.
    pub fn from_u64(key: u64) -> Option<Self> {
        u16::try_from(key).ok().and_then(Self::new)
    }

    /// The key.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// A domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Its page table.
    pub table: Table,
    /// Physical address of the first page of the list of its tables.
    pub list: u64,
    /// Number of its tables.
    pub tables: u64,
    /// The iommufd that has its HWPT.
    pub iommufd: u64,
    /// The HWPT's token.
    pub token: u64,
}

/// A device's attachment to a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The device.
    pub address: DeviceAddress,
    /// The unit that translates for it.
    pub register_base: u64,
    /// Physical address of the context table that has its entry.
    pub context_table: u64,
    /// Physical address of the PASID directory; 0 in legacy mode.
    pub pasid_directory: u64,
    /// Physical address of the PASID table that has entry 0; 0 in legacy mode.
    pub pasid_table: u64,
    /// PASIDs that the directory has room for; 0 in legacy mode.
    pub max_pasid: u32,
    /// Domain id in its entry.
    pub domain_id: u16,
    /// The domain.
    pub domain: DomainKey,
    /// What else its entries say.
    pub entry: EntryFacts,
}

/// What a device's live entries say that follows from nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryFacts {
    /// The device may use a device TLB.
    pub device_tlb: bool,
    /// Page-walk snoop; false in legacy mode.
    pub walk_snoop: bool,
    /// Page snoop; false in legacy mode.
    pub page_snoop: bool,
}

/// PASIDs whose entries are behind one page of a PASID directory: 512 tables of 64.
const PASIDS_PER_DIRECTORY_PAGE: u32 = 32_768;
/// All PASIDs that there are.
const PASIDS: u32 = 1 << 20;

impl Attachment {
    /// Whether Linux makes directories with room for `max_pasid` PASIDs: it rounds up to a power of two
    /// of pages. Of any other number hardware's view of the directory's size would not follow.
    pub fn is_room(max_pasid: u32) -> bool {
        max_pasid.is_power_of_two() && (PASIDS_PER_DIRECTORY_PAGE..=PASIDS).contains(&max_pasid)
    }

    /// Pages of the PASID directory.
    pub fn directory_pages(&self) -> u32 {
        self.max_pasid.div_ceil(PASIDS_PER_DIRECTORY_PAGE)
    }

    /// Physical addresses of the pages that translate for the device, down to its page table: root
    /// table, context table, PASID directory and PASID table.
    pub fn pages(&self, root_table: u64) -> impl Iterator<Item = u64> {
        let directory = (0..self.directory_pages()).zip(0_u64..);
        let first = self.pasid_directory;
        let pasid_table = Some(self.pasid_table).filter(|page| *page != 0);
        [root_table, self.context_table]
            .into_iter()
            .chain(directory.filter_map(move |(_, page)| first.checked_add(page << 12)))
            .chain(pasid_table)
    }
}
