// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! May a unit go on with the tables of the previous kernel, and for whom?
//!
//! [`adopt`] is asked once for each unit, at boot, and its answer is complete. Of the unit's devices those
//! are kept of which records and tables say the same; the entries of all others are cleared, recorded or
//! not, and the device with them is stopped. Only if the unit itself is not as recorded, or nobody is left
//! to keep, the unit is refused as a whole.

use super::check::{check_device, check_nothing_else, AdoptedDevice};
use super::mode::UnitTables;
use super::record::Registers;
use super::scrub::{kept_on_bus, Clear, Scrub};
use crate::iommu::address::{DomainId, TableAddress};
use crate::iommu::flaw::Flaw;
use crate::iommu::memory::Memory;
use crate::record::attachment::Unit;
use crate::record::lender::{Lender, Shelf};
use crate::record::pci::DeviceAddress;
use crate::record::set::{Listed, Records, State, Verdict};
use crate::refusal::{Family, Refusal};

/// Address bits of the Root Table Address Register (VT-d 11.4.5).
const ROOT_ADDRESS: u64 = !0xfff;

/// Is a unit that was recorded as `recorded` and is `now` the same, in the same state?
///
/// The root table of `now` is not looked at: the incoming kernel has none yet. The register says what the hardware
/// walks, the record what was handed over.
///
/// # Errors
///
/// The first difference that matters.
pub fn fits(recorded: &Unit, now: &Unit, translating: bool) -> Result<(), Refusal> {
    let (then, is) = (
        Registers::decode(&recorded.payload)?,
        Registers::decode(&now.payload)?,
    );
    if recorded.hardware != now.hardware {
        Err(Refusal::OtherIommu)
    } else if recorded.segment != now.segment {
        Err(Refusal::OtherSegment)
    } else if then.mode != is.mode {
        Err(Refusal::OtherMode)
    } else if is.live_root & ROOT_ADDRESS != then.root_table || is.live_root != then.live_root {
        Err(Refusal::OtherRoot)
    } else if is.capability != then.capability || is.extended_capability != then.extended_capability
    {
        Err(Refusal::OtherCapabilities)
    } else if !translating {
        Err(Refusal::NotTranslating)
    } else {
        Ok(())
    }
}

/// What a unit goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adopted {
    base: u64,
    /// Physical address of the root table.
    pub root_table: u64,
    /// Devices that are kept.
    pub devices: u32,
    /// Words that were cleared: afterwards all caches of the unit have to be invalidated.
    pub cleared: u64,
}

impl Adopted {
    /// The domain ids in use on the unit, each once, in rising order.
    pub fn domain_ids<'a, L: Lender, S: Shelf<Listed<L>>>(
        &self,
        records: &'a Records<L, S>,
    ) -> impl Iterator<Item = DomainId> + 'a {
        let base = self.base;
        let iommu = records.iommu().taken().into_iter();
        let ids = iommu.flat_map(move |iommu| iommu.domain_ids(base));
        ids.filter_map(|id| u16::try_from(id).ok().map(DomainId))
    }
}

/// What adoption does to the machine.
pub trait Machine: Memory {
    /// Whether the top of a page table is in the handover, where it stays until its domain is released.
    fn is_handed_over(&self, table: TableAddress) -> bool;

    /// Takes a page of the other tables back from the handover. It is asked once for each.
    ///
    /// # Errors
    ///
    /// It was not handed over: whoever needs it is refused.
    fn restore(&mut self, page: u64) -> Result<(), Refusal>;

    /// Sets a word of a table that has been restored to 0.
    ///
    /// # Errors
    ///
    /// It cannot be written: the unit is refused.
    fn clear(&mut self, clear: Clear) -> Result<(), Flaw>;

    /// A device is refused, and has lost its entry: to be logged.
    fn refused(&mut self, address: DeviceAddress, refusal: Refusal);
}

/// May the unit that is `now` go on with the tables it has? `None`: nothing is recorded of it.
///
/// # Errors
///
/// Why not. The unit has to be blocked: the records say so too from now on, and whoever asks for a device behind it
/// gets this answer. Nothing in the tables may have changed, or some of it.
pub fn adopt<M, L, S>(
    records: &mut Records<L, S>,
    machine: &mut M,
    now: &Unit,
    translating: bool,
) -> Result<Option<Adopted>, Refusal>
where
    M: Machine,
    L: Lender,
    S: Shelf<Listed<L>>,
{
    let iommu = match records.iommu() {
        State::Absent => return Ok(None),
        // Nothing runs behind a unit that does not translate, so far as anybody could have wanted it to.
        State::Refused(_) if !translating => return Ok(None),
        State::Refused(refusal) => return Err(*refusal),
        State::Taken(iommu) => iommu,
    };
    let Some(recorded) = iommu.unit(now.base) else {
        return Ok(None);
    };
    let adopted = recorded.and_then(|recorded| {
        fits(&recorded, now, translating)?;
        let root_table = Registers::decode(&recorded.payload)?.root_table;
        adopt_tables(records, machine, &recorded, root_table)
    });
    match adopted {
        Ok(adopted) => {
            records.unit_adopted(now.base);
            Ok(Some(adopted))
        }
        Err(refusal) => {
            records.unit_refused(now.base, refusal);
            Err(refusal)
        }
    }
}

fn adopt_tables<M, L, S>(
    records: &mut Records<L, S>,
    machine: &mut M,
    unit: &Unit,
    root_table: u64,
) -> Result<Adopted, Refusal>
where
    M: Machine,
    L: Lender,
    S: Shelf<Listed<L>>,
{
    let tables = Registers::decode(&unit.payload)?.tables()?;
    let (mut devices, mut first_refusal) = (0_u32, None);
    let mut next = records.next_behind(unit.base, None);
    while let Some(address) = next {
        match check(records, machine, &tables, address) {
            Ok(()) => devices = devices.saturating_add(1),
            Err(refusal) => {
                first_refusal.get_or_insert(refusal);
                machine.refused(address, refusal);
                records.device_stopped(address, refusal);
            }
        }
        next = records.next_behind(unit.base, Some(address));
    }
    if devices == 0 {
        return Err(first_refusal.unwrap_or(Refusal::NotRecorded(Family::Iommu)));
    }
    let cleared = clear_others(records, machine, &tables, unit)?;
    Ok(Adopted {
        base: unit.base,
        root_table,
        devices,
        cleared,
    })
}

/// Do records and tables say the same of a device?
fn check<M, L, S>(
    records: &mut Records<L, S>,
    machine: &mut M,
    tables: &UnitTables,
    address: DeviceAddress,
) -> Result<(), Refusal>
where
    M: Machine,
    L: Lender,
    S: Shelf<Listed<L>>,
{
    let kept = match records.device(address) {
        Verdict::Kept(kept) => kept,
        Verdict::Refused(refusal) => return Err(refusal),
        Verdict::Unknown | Verdict::Left(_) => return Err(Refusal::NotRecorded(Family::Iommu)),
    };
    if !machine.is_handed_over(kept.domain.table.top) {
        return Err(Refusal::NotHandedOver(Family::Iommu));
    }
    records.restore_pages(address, |page| machine.restore(page))?;
    let translation = &kept.attachment.translation;
    let device = AdoptedDevice::of(address, translation, &kept.domain.table)?;
    Ok(check_device(machine, *tables, &device)?)
}

/// Clears the entries of all devices that are not kept, and makes sure that they are gone.
fn clear_others<M, L, S>(
    records: &Records<L, S>,
    machine: &mut M,
    tables: &UnitTables,
    unit: &Unit,
) -> Result<u64, Refusal>
where
    M: Machine,
    L: Lender,
    S: Shelf<Listed<L>>,
{
    let iommu = records.iommu().taken();
    let iommu = iommu.ok_or(Refusal::NotRecorded(Family::Iommu))?;
    let kept = |bus| kept_on_bus(iommu, unit, tables.mode, bus);
    let mut scrub = Scrub::new(*tables);
    let mut cleared: u64 = 0;
    while let Some(word) = scrub.next(machine, kept) {
        machine.clear(word)?;
        cleared = cleared.saturating_add(1);
    }
    for bus in 0..=u8::MAX {
        check_nothing_else(machine, *tables, bus, kept(bus).devices())?;
    }
    Ok(cleared)
}
