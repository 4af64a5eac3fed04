// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What the IOMMU records hold of VT-d: the payloads of units and attachments.

use super::context::{ContextEntry, ContextTarget, ScalableContextEntry};
use super::pasid::{DirectorySize, PasidEntry};
use zerocopy::{transmute, transmute_ref};

use super::mode::{Mode, UnitTables};
use crate::abi::iommu::{ATTACHMENT_PAYLOAD, UNIT_PAYLOAD};
use crate::abi::vtd::{
    VtdAttachmentSer, VtdUnitSer, ATTACHMENT_DEVICE_TLB, ATTACHMENT_PAGE_SNOOP,
    ATTACHMENT_WALK_SNOOP, HARDWARE, MODE_LEGACY, MODE_SCALABLE,
};
use crate::iommu::address::{DomainId, HostAddressWidth, TableAddress};
use crate::iommu::bdf::Bdf;
use crate::iommu::flaw::{Entry, Flaw};
use crate::iommu::memory::{read_entry, Memory};
use crate::iommu::pt::format::Format;
use crate::iommu::pt::table::Table;
use crate::record::attachment::{Translation, Unit};
use crate::record::hardware::{Hardware, Pages};
use crate::record::pci::DeviceAddress;
use crate::refusal::{Family, Refusal};

const MALFORMED: Refusal = Refusal::Malformed(Family::Iommu);
const CONTRADICTORY: Refusal = Refusal::Contradictory(Family::Iommu);

/// Which addresses a table may have. The width of the platform is not asked: what lies beyond it is
/// no memory, and refused when it is read.
pub(super) const WIDTH: HostAddressWidth = HostAddressWidth::MAX;

/// The lowest domain id that Linux gives to a domain: hardware reserves 0, and Linux 1.
const FIRST_DOMAIN_ID: u32 = 2;

fn page(address: u64) -> Result<TableAddress, Refusal> {
    match TableAddress::new(address, WIDTH) {
        Ok(page) if address != 0 => Ok(page),
        _ => Err(MALFORMED),
    }
}

/// What a unit's registers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// Physical address of the root table.
    pub root_table: u64,
    /// Root Table Address Register (VT-d 11.4.5).
    pub live_root: u64,
    /// Capability Register (VT-d 11.4.2).
    pub capability: u64,
    /// Extended Capability Register (VT-d 11.4.3).
    pub extended_capability: u64,
    /// Mode.
    pub mode: Mode,
}

impl Registers {
    /// As a payload.
    pub fn encode(&self) -> [u8; UNIT_PAYLOAD] {
        transmute!(VtdUnitSer {
            root_table: self.root_table.into(),
            live_root: self.live_root.into(),
            capability: self.capability.into(),
            extended_capability: self.extended_capability.into(),
            mode: match self.mode {
                Mode::Legacy => MODE_LEGACY,
                Mode::Scalable => MODE_SCALABLE,
            }
            .into(),
            reserved: [0; 12],
        })
    }

    /// From a payload.
    ///
    /// # Errors
    ///
    /// [`Refusal::Malformed`].
    pub fn decode(payload: &[u8; UNIT_PAYLOAD]) -> Result<Self, Refusal> {
        let ser: &VtdUnitSer = transmute_ref!(payload);
        let mode = match ser.mode.get() {
            MODE_LEGACY => Mode::Legacy,
            MODE_SCALABLE => Mode::Scalable,
            _ => return Err(MALFORMED),
        };
        page(ser.root_table.get())?;
        if ser.reserved != [0; 12] {
            return Err(MALFORMED);
        }
        Ok(Self {
            root_table: ser.root_table.get(),
            live_root: ser.live_root.get(),
            capability: ser.capability.get(),
            extended_capability: ser.extended_capability.get(),
            mode,
        })
    }

    /// A unit as records have it.
    pub fn unit(&self, base: u64, segment: u32) -> Unit {
        Unit {
            base,
            segment,
            hardware: HARDWARE,
            payload: self.encode(),
        }
    }

    /// The tables that start at the root table.
    ///
    /// # Errors
    ///
    /// [`Flaw::Misaligned`], [`Flaw::BeyondHost`].
    pub fn tables(&self) -> Result<UnitTables, Flaw> {
        Ok(UnitTables {
            mode: self.mode,
            root: TableAddress::new(self.root_table, WIDTH)?,
            width: WIDTH,
        })
    }

    /// Whether Linux may have given a domain this id on the unit: CAP_REG.ND says how many there are.
    pub fn has_domain_id(&self, id: u32) -> bool {
        let [capability, ..] = self.capability.to_le_bytes();
        let bits = u32::from(capability & 7)
            .saturating_mul(2)
            .saturating_add(4);
        let count = 1_u32.checked_shl(bits).unwrap_or(u32::MAX);
        id >= FIRST_DOMAIN_ID && id < count.min(1 << 16)
    }
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

/// The tables that translate for a device above its page table, and what its entries in them say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceTables {
    /// Physical address of the context table that has the device's entry.
    pub context_table: u64,
    /// What only scalable mode has; `None` in legacy mode.
    pub pasid: Option<PasidTables>,
    /// What else its entries say.
    pub entry: EntryFacts,
}

/// What scalable mode has between the context table and the page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasidTables {
    /// Physical address of the PASID directory.
    pub directory: u64,
    /// Physical address of the PASID table that has entry 0.
    pub table: u64,
    /// PASIDs that the directory has room for.
    pub max_pasid: u32,
}

impl PasidTables {
    /// Pages of the directory: 512 tables of 64 PASIDs each.
    pub const fn directory_pages(&self) -> u32 {
        self.max_pasid.div_ceil(512 * 64)
    }
}

impl DeviceTables {
    /// As a payload.
    pub fn encode(&self) -> [u8; ATTACHMENT_PAYLOAD] {
        let flags = [
            (self.entry.device_tlb, ATTACHMENT_DEVICE_TLB),
            (self.entry.walk_snoop, ATTACHMENT_WALK_SNOOP),
            (self.entry.page_snoop, ATTACHMENT_PAGE_SNOOP),
        ];
        let flags = flags.into_iter().filter(|(set, _)| *set);
        let flags = flags.fold(0, |flags, (_, flag)| flags | flag);
        let (directory, table, max_pasid) = match self.pasid {
            Some(pasid) => (pasid.directory, pasid.table, pasid.max_pasid),
            None => (0, 0, 0),
        };
        transmute!(VtdAttachmentSer {
            context_table: self.context_table.into(),
            pasid_directory: directory.into(),
            pasid_table: table.into(),
            max_pasid: max_pasid.into(),
            flags: flags.into(),
            reserved: [0; 8],
        })
    }

    /// From a payload.
    ///
    /// # Errors
    ///
    /// [`Refusal::Malformed`].
    pub fn decode(payload: &[u8; ATTACHMENT_PAYLOAD]) -> Result<Self, Refusal> {
        let ser: &VtdAttachmentSer = transmute_ref!(payload);
        let (directory, table) = (ser.pasid_directory.get(), ser.pasid_table.get());
        let max_pasid = ser.max_pasid.get();
        let (pasid, known) = if directory == 0 && table == 0 && max_pasid == 0 {
            (None, ATTACHMENT_DEVICE_TLB)
        } else {
            page(directory)?;
            page(table)?;
            DirectorySize::for_max_pasid(max_pasid).ok_or(MALFORMED)?;
            let pasid = PasidTables {
                directory,
                table,
                max_pasid,
            };
            let known = ATTACHMENT_DEVICE_TLB | ATTACHMENT_WALK_SNOOP | ATTACHMENT_PAGE_SNOOP;
            (Some(pasid), known)
        };
        page(ser.context_table.get())?;
        let flags = ser.flags.get();
        if flags & !known != 0 || ser.reserved != [0; 8] {
            return Err(MALFORMED);
        }
        Ok(Self {
            context_table: ser.context_table.get(),
            pasid,
            entry: EntryFacts {
                device_tlb: flags & ATTACHMENT_DEVICE_TLB != 0,
                walk_snoop: flags & ATTACHMENT_WALK_SNOOP != 0,
                page_snoop: flags & ATTACHMENT_PAGE_SNOOP != 0,
            },
        })
    }

    /// How a unit translates for the device, as records have it.
    pub fn translation(&self, domain_id: DomainId) -> Translation {
        Translation {
            domain_id: domain_id.0.into(),
            payload: self.encode(),
        }
    }

    /// The tables of a device with what its live entries say, which the caller does not know. Only the
    /// outgoing kernel asks: the incoming one checks it.
    ///
    /// # Errors
    ///
    /// [`Flaw::Missing`] and what the decoders and [`Memory::read`] refuse.
    pub fn observe<M: Memory>(self, memory: &M, bdf: Bdf) -> Result<Self, Flaw> {
        let table = TableAddress::new(self.context_table, WIDTH)?;
        let missing = Flaw::Missing(Entry::Context, bdf);
        let Some(pasid) = self.pasid else {
            let words = read_entry(memory, table, usize::from(bdf.devfn()))?;
            let context = ContextEntry::decode(words, WIDTH)?.ok_or(missing)?;
            let device_tlb = matches!(
                context.target,
                ContextTarget::SecondStage {
                    device_tlb: true,
                    ..
                }
            );
            let entry = EntryFacts {
                device_tlb,
                ..EntryFacts::default()
            };
            return Ok(Self { entry, ..self });
        };
        let words = read_entry(memory, table, usize::from(bdf.devfn() & 0x7f))?;
        let context = ScalableContextEntry::decode(words, WIDTH)?.ok_or(missing)?;
        let words = read_entry(memory, TableAddress::new(pasid.table, WIDTH)?, 0)?;
        let pasid = PasidEntry::decode(words, WIDTH)?.ok_or(Flaw::Missing(Entry::Pasid, bdf))?;
        let entry = EntryFacts {
            device_tlb: context.device_tlb,
            walk_snoop: pasid.page_walk_snoop,
            page_snoop: pasid.page_snoop,
        };
        Ok(Self { entry, ..self })
    }
}

/// VT-d as a kind of hardware.
#[derive(Clone, Copy, Debug)]
pub struct Vtd;

/// VT-d, for the kinds that [`crate::record::set::Records`] is given.
pub static VTD: Vtd = Vtd;

/// A PASID entry says of snooping what its domain says: tables that hardware does not snoop are walked
/// without, and only first-stage translation forces snooping through the entry.
fn check_snooping(entry: &EntryFacts, table: &Table) -> Result<(), Refusal> {
    let page_snoop = table.snoop && matches!(table.format, Format::X86_64(_));
    let agree = entry.walk_snoop != table.incoherent && entry.page_snoop == page_snoop;
    agree.then_some(()).ok_or(CONTRADICTORY)
}

/// What the root table is to a unit; the context tables of its buses follow.
const ROOT: u32 = 0;

impl Hardware for Vtd {
    fn kind(&self) -> u8 {
        HARDWARE
    }

    fn switched(&self, line: &[u8]) -> Option<bool> {
        super::words::switched(line)
    }

    fn check_unit(&self, unit: &Unit) -> Result<(), Refusal> {
        Registers::decode(&unit.payload).map(drop)
    }

    fn check(
        &self,
        unit: &Unit,
        _: DeviceAddress,
        translation: &Translation,
        table: &Table,
    ) -> Result<(), Refusal> {
        let registers = Registers::decode(&unit.payload)?;
        let tables = DeviceTables::decode(&translation.payload)?;
        if (registers.mode == Mode::Scalable) != tables.pasid.is_some()
            || !registers.has_domain_id(translation.domain_id)
        {
            return Err(MALFORMED);
        }
        match registers.mode {
            Mode::Legacy if matches!(table.format, Format::X86_64(_)) => Err(CONTRADICTORY),
            Mode::Legacy => Ok(()),
            Mode::Scalable => check_snooping(&tables.entry, table),
        }
    }

    /// In legacy mode and in second stage one exchange changes table and domain id. The other formats
    /// need the domain id handed over, which a second user prevents.
    fn may_share(&self, _: &Unit, table: &Table) -> bool {
        matches!(table.format, Format::Vtdss(_))
    }

    fn pages(
        &self,
        unit: &Unit,
        address: DeviceAddress,
        translation: &Translation,
        number: u32,
    ) -> Option<Pages> {
        let registers = Registers::decode(&unit.payload).ok()?;
        let tables = DeviceTables::decode(&translation.payload).ok()?;
        let [bus, devfn] = address.bdf.to_be_bytes();
        // In scalable mode devices 0 to 15 and 16 to 31 of a bus have a table each.
        let upper = registers.mode == Mode::Scalable && devfn >= 0x80;
        let context = 1 | u32::from(bus) << 2 | u32::from(upper) << 1;
        let (first, count, shared) = match (number, tables.pasid) {
            (0, _) => (registers.root_table, 1, Some(ROOT)),
            (1, _) => (tables.context_table, 1, Some(context)),
            (2, Some(pasid)) => (pasid.directory, pasid.directory_pages(), None),
            (3, Some(pasid)) => (pasid.table, 1, None),
            _ => return None,
        };
        Some(Pages {
            first,
            count,
            shared,
        })
    }
}
