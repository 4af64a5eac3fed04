// SPDX-License-Identifier: GPL-2.0-only

//! VT-d units: adopting their tables at boot, and the scrub before the jump.

use hitless_core::model::Unit;
use hitless_core::refusal::Refusal;
use hitless_core::rules;
use hitless_core::vtd::adopt::check_adopted;
use hitless_core::vtd::scrub::{
    scrub,
    Clear,
    Kept, //
};
use hitless_core::vtd::{
    Bdf,
    WORDS_PER_TABLE, //
};
use kernel::prelude::*;
use kernel::table_memory::TableMemory;

use crate::entry;
use crate::errno::Outcome;
use crate::incoming::{
    IncomingIommu,
    State,
    INCOMING, //
};
use crate::outgoing::{
    Outgoing,
    OUTGOING, //
};
use crate::tables::Tables;

/// What became of the units whose tables came, by register base.
pub(crate) struct Adoption {
    adopted: KVec<u64>,
    refused: KVec<u64>,
    /// Every unit has a root table of this kernel.
    ready: bool,
    /// Pages that have been restored: each may be only once.
    restored: KVec<u64>,
}

impl Adoption {
    pub(crate) const fn new() -> Self {
        Self {
            adopted: KVec::new(),
            refused: KVec::new(),
            ready: false,
            restored: KVec::new(),
        }
    }

    pub(crate) fn is_adopted(&self, register_base: u64) -> bool {
        self.adopted.contains(&register_base)
    }

    pub(crate) fn is_refused(&self, register_base: u64) -> bool {
        self.refused.contains(&register_base)
    }

    /// Whether nothing behind a unit can reach memory through tables of the previous kernel any more.
    pub(crate) fn is_blocked(&self, register_base: u64) -> bool {
        self.ready && self.is_refused(register_base)
    }

    /// A unit's tables are refused. It is blocked once it has its root table.
    pub(crate) fn refuse(&mut self, register_base: u64) -> Result {
        Ok(self.refused.push(register_base, GFP_KERNEL)?)
    }

    pub(crate) fn set_ready(&mut self) {
        self.ready = true;
    }

    /// Takes a page back from the handover.
    fn restore(&mut self, page: u64) -> Result {
        if self.restored.contains(&page) {
            return Ok(());
        }
        self.restored.push(page, GFP_KERNEL)?;
        entry::iommu_restore_page(page)
    }
}

/// May the unit go on with the tables it has? Gives the root table; `None`: nothing is recorded.
pub(crate) fn adopt(now: &Unit, translating: bool) -> Outcome<Option<u64>> {
    let mut incoming = INCOMING.lock();
    let iommu = match incoming.iommu() {
        State::Taken(iommu) => iommu,
        State::Absent => return Ok(None),
        State::Refused(_) if !translating => return Ok(None),
        State::Refused(refusal) => return Err((*refusal).into()),
    };
    let Some(recorded) = iommu.records.unit(now.register_base) else {
        return Ok(None);
    };
    match check(iommu, &recorded, now, translating) {
        Ok(devices) => {
            iommu.adoption.adopted.push(now.register_base, GFP_KERNEL)?;
            pr_info!(
                "adopted tables of unit at {:#x}: {} devices\n",
                now.register_base,
                devices
            );
            Ok(Some(recorded.root_table))
        }
        Err(failure) => {
            iommu.adoption.refuse(now.register_base)?;
            Err(failure)
        }
    }
}

/// Takes the unit's tables back from the handover and checks that they say what the records say.
/// Gives the number of devices.
fn check(
    iommu: &mut IncomingIommu,
    recorded: &Unit,
    now: &Unit,
    translating: bool,
) -> Outcome<usize> {
    rules::fits::unit(recorded, now, translating)?;
    if entry::leaves_out(c"unit") {
        return Err(Refusal::OtherCapabilities.into());
    }
    let mut devices = KVec::new();
    for attachment in iommu.records.attachments_of(now.register_base) {
        for page in attachment.pages(recorded.root_table) {
            iommu.adoption.restore(page)?;
        }
        let domain = iommu.records.domain(attachment.domain);
        let domain = domain.ok_or(Refusal::UnitRefused)?;
        let device = rules::tables::adopted(&attachment, &domain.table)?;
        devices.push(device, GFP_KERNEL)?;
    }
    let unit = rules::tables::unit(recorded.mode, recorded.root_table)?;
    let memory = entry::table_memory();
    check_adopted(&Tables(&memory), unit, &devices)?;
    Ok(devices.len())
}

/// Whether devices behind the unit take part. Interrupts are off and this is the only CPU.
///
/// The lock is free then: its holders have all returned, or LUO would not have let the reboot go on.
/// If it is not, better a unit that translates for nobody than one that does not translate.
pub(crate) fn is_outgoing(register_base: u64) -> bool {
    match OUTGOING.try_lock() {
        Some(outgoing) => outgoing.unit(register_base).is_some(),
        None => true,
    }
}

/// Clears every root and context entry that is not an outgoing device's. Interrupts are off and this
/// is the only CPU. What cannot be done properly is done by clearing the whole root table.
pub(crate) fn scrub_unit(memory: &TableMemory, now: &Unit) {
    let done = OUTGOING
        .try_lock()
        .is_some_and(|outgoing| scrub_all_but(memory, now, &outgoing).is_ok());
    if !done {
        for index in 0..WORDS_PER_TABLE {
            memory.write(now.root_table, index, 0);
        }
    }
}

fn scrub_all_but(memory: &TableMemory, now: &Unit, outgoing: &Outgoing) -> Outcome<u64> {
    let recorded = outgoing.unit(now.register_base);
    let recorded = recorded.ok_or(Refusal::UnitRefused)?;
    if recorded.root_table != now.root_table || recorded.mode != now.mode {
        return Err(Refusal::OtherRoot.into());
    }
    let unit = rules::tables::unit(now.mode, now.root_table)?;
    let on_bus = |bus| {
        let devices = outgoing.attachments_of(now.register_base);
        let entries = devices.filter_map(|device| {
            let context_table = rules::tables::address(device.context_table);
            Some((Bdf(device.address.bdf), context_table.ok()?))
        });
        Kept::on_bus(unit.mode, bus, entries)
    };
    let clear = |Clear { table, index }| {
        let cleared = memory.write(table.get(), index, 0);
        cleared.ok_or(hitless_core::vtd::Refusal::Unreadable)
    };
    Ok(scrub(&Tables(memory), unit, on_bus, clear)?)
}
