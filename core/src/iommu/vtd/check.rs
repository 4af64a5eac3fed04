// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Do a unit's tables hold what the records say?
//!
//! Asked of each device when it is preserved, when it is frozen and after the jump ([`check_device`]), and of
//! what else there is after the jump ([`check_nothing_else`]): the tables come from another kernel and are an
//! allegation until then. Page tables are not walked, so the cost grows with devices and buses, not with
//! memory.

use super::context::{
    ContextEntry, ContextTarget, ScalableContextEntry, CONTEXT_WORDS, SCALABLE_CONTEXT_WORDS,
};
use super::devfn::DevfnSet;
use super::mode::{Mode, UnitTables};
use super::pasid::{
    DirectorySize, PasidDirectoryEntry, PasidEntry, PasidTarget, PASIDS_PER_TABLE, PASID_WORDS,
};
use super::record::DeviceTables;
use super::root::{RootEntry, RootHalf};
use super::word::PRESENT;
use crate::iommu::address::{DomainId, HostAddressWidth, TableAddress};
use crate::iommu::bdf::Bdf;
use crate::iommu::bits;
use crate::iommu::flaw::{Entry, Field, Flaw};
use crate::iommu::memory::{read_entry, Memory, WORDS_PER_TABLE};
use crate::iommu::pt::format::Format;
use crate::iommu::pt::table::Table;
use crate::record::attachment::Translation;
use crate::record::pci::DeviceAddress;
use crate::refusal::{Family, Refusal};

/// What the record says about a device and its domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdoptedDevice {
    /// The device.
    pub bdf: Bdf,
    /// The context table with its entry. In scalable mode each bus has two.
    pub context_table: TableAddress,
    /// The domain id in its entry.
    pub domain_id: DomainId,
    /// Top of the page table.
    pub page_table: TableAddress,
    /// Format of the page table.
    pub format: Format,
    /// The device may use a device TLB (TT 1, DTE).
    pub device_tlb: bool,
    /// What only scalable mode has; `None` in legacy mode.
    pub scalable: Option<AdoptedPasid>,
}

/// What the record says about a device's PASID 0 entry, the one for requests without PASID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdoptedPasid {
    /// The PASID directory.
    pub directory: TableAddress,
    /// Its size.
    pub size: DirectorySize,
    /// The PASID table with entry 0.
    pub table: TableAddress,
    /// PWSNP.
    pub page_walk_snoop: bool,
    /// PGSNP.
    pub page_snoop: bool,
}

impl AdoptedDevice {
    /// A recorded device.
    ///
    /// # Errors
    ///
    /// [`Flaw::Misaligned`], [`Flaw::BeyondHost`]; [`Flaw::WrongMode`] for a directory of a size that there is
    /// not.
    pub fn new(
        bdf: Bdf,
        tables: &DeviceTables,
        domain_id: DomainId,
        table: &Table,
    ) -> Result<Self, Flaw> {
        let address = |address| TableAddress::new(address, HostAddressWidth::MAX);
        let scalable = match tables.pasid {
            None => None,
            Some(pasid) => Some(AdoptedPasid {
                directory: address(pasid.directory)?,
                size: DirectorySize::for_max_pasid(pasid.max_pasid).ok_or(Flaw::WrongMode(bdf))?,
                table: address(pasid.table)?,
                page_walk_snoop: tables.entry.walk_snoop,
                page_snoop: tables.entry.page_snoop,
            }),
        };
        Ok(Self {
            bdf,
            context_table: address(tables.context_table)?,
            domain_id,
            page_table: table.top,
            format: table.format,
            device_tlb: tables.entry.device_tlb,
            scalable,
        })
    }

    /// A device as its records have it.
    ///
    /// # Errors
    ///
    /// [`Refusal::Malformed`], and as [`Self::new`].
    pub fn of(
        address: DeviceAddress,
        translation: &Translation,
        table: &Table,
    ) -> Result<Self, Refusal> {
        let tables = DeviceTables::decode(&translation.payload)?;
        let id = u16::try_from(translation.domain_id);
        let id = id.map_err(|_| Refusal::Malformed(Family::Iommu))?;
        Ok(Self::new(Bdf(address.bdf), &tables, DomainId(id), table)?)
    }
}

/// Checks that the tables translate for `device` as recorded.
///
/// # Errors
///
/// [`Flaw::Missing`], [`Flaw::Mismatch`], [`Flaw::Unexpected`] for PASIDs other than 0,
/// [`Flaw::WrongMode`], and what the decoders and [`Memory::read`] refuse.
pub fn check_device<M: Memory>(
    memory: &M,
    tables: UnitTables,
    device: &AdoptedDevice,
) -> Result<(), Flaw> {
    let bdf = device.bdf;
    if device.scalable.is_some() != (tables.mode == Mode::Scalable) {
        return Err(Flaw::WrongMode(bdf));
    }
    let root = root_words(memory, tables, bdf.bus())?;
    let Some((table, first)) = context_table(tables, root, bdf.devfn())? else {
        return Err(Flaw::Missing(Entry::Root, bdf));
    };
    same(table, device.context_table, Field::TablePointer, bdf)?;
    let entry = usize::from(bdf.devfn().wrapping_sub(first));
    match &device.scalable {
        None => check_legacy(memory, tables, device, entry),
        Some(pasid) => check_scalable(memory, tables, device, pasid, entry),
    }
}

/// Checks that no device of `bus` outside `recorded` has a context entry, and that there are no
/// context tables without recorded devices.
///
/// # Errors
///
/// [`Flaw::Unexpected`], and what the decoders and [`Memory::read`] refuse.
pub fn check_nothing_else<M: Memory>(
    memory: &M,
    tables: UnitTables,
    bus: u8,
    recorded: &DevfnSet,
) -> Result<(), Flaw> {
    let root = root_words(memory, tables, bus)?;
    let (halves, entry_words): (&[(u8, bool)], usize) = match tables.mode {
        Mode::Legacy => (&[(0, !recorded.is_empty())], CONTEXT_WORDS),
        Mode::Scalable => (
            &[(0, recorded.any_lower()), (0x80, recorded.any_upper())],
            SCALABLE_CONTEXT_WORDS,
        ),
    };
    for &(first, any) in halves {
        let Some((table, _)) = context_table(tables, root, first)? else {
            continue;
        };
        if !any {
            return Err(Flaw::Unexpected(Entry::Root, Bdf::new(bus, first)));
        }
        for (entry, index) in (0..WORDS_PER_TABLE).step_by(entry_words).enumerate() {
            let entry = u8::try_from(entry).map_err(|_| Flaw::Index)?;
            let devfn = first.wrapping_add(entry);
            if !recorded.contains(devfn) && bits::is_set(memory.read(table, index)?, PRESENT) {
                return Err(Flaw::Unexpected(Entry::Context, Bdf::new(bus, devfn)));
            }
        }
    }
    Ok(())
}

/// The two words of the root entry of `bus`.
fn root_words<M: Memory>(memory: &M, tables: UnitTables, bus: u8) -> Result<[u64; 2], Flaw> {
    read_entry(memory, tables.root, usize::from(bus))
}

/// The context table that `root` names for `devfn`, and the first number it covers.
fn context_table(
    tables: UnitTables,
    root: [u64; 2],
    devfn: u8,
) -> Result<Option<(TableAddress, u8)>, Flaw> {
    match tables.mode {
        Mode::Legacy => Ok(RootEntry::decode(root, tables.width)?.map(|e| (e.context_table, 0))),
        Mode::Scalable => {
            let [lower, upper] = root;
            let (word, first) = if devfn < 0x80 {
                (lower, 0)
            } else {
                (upper, 0x80)
            };
            Ok(RootHalf::decode(word, tables.width)?.map(|half| (half.context_table, first)))
        }
    }
}

fn check_legacy<M: Memory>(
    memory: &M,
    tables: UnitTables,
    device: &AdoptedDevice,
    entry: usize,
) -> Result<(), Flaw> {
    let bdf = device.bdf;
    let words = read_entry(memory, device.context_table, entry)?;
    let context =
        ContextEntry::decode(words, tables.width)?.ok_or(Flaw::Missing(Entry::Context, bdf))?;
    let ContextTarget::SecondStage {
        table,
        levels,
        device_tlb,
    } = context.target
    else {
        return Err(Flaw::Mismatch(Field::TranslationType, bdf));
    };
    same(context.domain_id, device.domain_id, Field::DomainId, bdf)?;
    same(table, device.page_table, Field::TablePointer, bdf)?;
    let format = Format::Vtdss(levels);
    same(format, device.format, Field::AddressWidth, bdf)?;
    same(device_tlb, device.device_tlb, Field::TranslationType, bdf)?;
    let silent = context.fault_processing_disabled;
    same(silent, false, Field::FaultProcessing, bdf)
}

fn check_scalable<M: Memory>(
    memory: &M,
    tables: UnitTables,
    device: &AdoptedDevice,
    expected: &AdoptedPasid,
    entry: usize,
) -> Result<(), Flaw> {
    let bdf = device.bdf;
    let words = read_entry(memory, device.context_table, entry)?;
    let context = ScalableContextEntry::decode(words, tables.width)?
        .ok_or(Flaw::Missing(Entry::Context, bdf))?;
    same(
        context.pasid_directory,
        expected.directory,
        Field::TablePointer,
        bdf,
    )?;
    same(
        context.directory_size,
        expected.size,
        Field::DirectorySize,
        bdf,
    )?;
    same(context.request_pasid, 0, Field::RequestPasid, bdf)?;
    same(context.request_privileged, false, Field::RequestPasid, bdf)?;
    same(
        context.device_tlb,
        device.device_tlb,
        Field::TranslationType,
        bdf,
    )?;
    same(context.page_requests, false, Field::PageRequest, bdf)?;
    let silent = context.fault_processing_disabled;
    same(silent, false, Field::FaultProcessing, bdf)?;

    check_directory(memory, tables, expected, bdf)?;
    for pasid in 1..PASIDS_PER_TABLE {
        let index = usize::from(pasid).saturating_mul(PASID_WORDS);
        if bits::is_set(memory.read(expected.table, index)?, PRESENT) {
            return Err(Flaw::Unexpected(Entry::Pasid, bdf));
        }
    }
    let words = read_entry(memory, expected.table, 0)?;
    let pasid = PasidEntry::decode(words, tables.width)?.ok_or(Flaw::Missing(Entry::Pasid, bdf))?;
    check_pasid(&pasid, device, expected)
}

/// Checks that the directory names the recorded table for PASIDs 0 to 63 and no other.
fn check_directory<M: Memory>(
    memory: &M,
    tables: UnitTables,
    expected: &AdoptedPasid,
    bdf: Bdf,
) -> Result<(), Flaw> {
    let last = expected.size.entries().saturating_sub(1);
    for number in 0..=last {
        let page = expected.directory.page(number >> 9, tables.width)?;
        let word = memory.read(page, usize::from(number & 0x1ff))?;
        match (number, PasidDirectoryEntry::decode(word, tables.width)?) {
            (0, None) => return Err(Flaw::Missing(Entry::PasidDirectory, bdf)),
            (0, Some(entry)) => {
                same(entry.pasid_table, expected.table, Field::TablePointer, bdf)?;
                let silent = entry.fault_processing_disabled;
                same(silent, false, Field::FaultProcessing, bdf)?;
            }
            (_, None) => {}
            // A table that was used once and is empty now counts too: no record keeps its page.
            (_, Some(_)) => return Err(Flaw::Unexpected(Entry::PasidDirectory, bdf)),
        }
    }
    Ok(())
}

fn check_pasid(
    pasid: &PasidEntry,
    device: &AdoptedDevice,
    expected: &AdoptedPasid,
) -> Result<(), Flaw> {
    let bdf = device.bdf;
    same(pasid.domain_id, device.domain_id, Field::DomainId, bdf)?;
    let (table, format) = pasid
        .page_table()
        .ok_or(Flaw::Mismatch(Field::TranslationType, bdf))?;
    same(table, device.page_table, Field::TablePointer, bdf)?;
    let field = match (format, device.format) {
        (Format::Vtdss(_), Format::Vtdss(_)) => Field::AddressWidth,
        (Format::X86_64(_), Format::X86_64(_)) => Field::PagingMode,
        _ => Field::TranslationType,
    };
    same(format, device.format, field, bdf)?;
    same(
        pasid.page_walk_snoop,
        expected.page_walk_snoop,
        Field::PageWalkSnoop,
        bdf,
    )?;
    same(pasid.page_snoop, expected.page_snoop, Field::PageSnoop, bdf)?;
    let silent = pasid.fault_processing_disabled;
    same(silent, false, Field::FaultProcessing, bdf)?;
    match pasid.target {
        PasidTarget::FirstStage {
            supervisor_requests,
            write_protect,
            extended_accessed,
            ..
        } => {
            same(supervisor_requests, false, Field::SupervisorRequest, bdf)?;
            same(write_protect, false, Field::WriteProtect, bdf)?;
            same(extended_accessed, false, Field::ExtendedAccessed, bdf)
        }
        PasidTarget::SecondStage { accessed_dirty, .. } => {
            same(accessed_dirty, false, Field::AccessedDirty, bdf)
        }
        PasidTarget::PassThrough { .. } => Err(Flaw::Mismatch(Field::TranslationType, bdf)),
    }
}

fn same<T: PartialEq>(found: T, recorded: T, field: Field, bdf: Bdf) -> Result<(), Flaw> {
    if found == recorded {
        Ok(())
    } else {
        Err(Flaw::Mismatch(field, bdf))
    }
}
