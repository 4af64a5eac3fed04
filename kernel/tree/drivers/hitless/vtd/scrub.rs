// SPDX-License-Identifier: GPL-2.0-only

//! The scrub: the last thing that is done to a unit's tables before the jump.

use hitless_core::iommu::flaw::Flaw;
use hitless_core::iommu::memory::WORDS_PER_TABLE;
use hitless_core::iommu::vtd::record::Registers;
use hitless_core::iommu::vtd::scrub::{
    kept_on_bus,
    scrub,
    Clear,
    OnBus, //
};
use hitless_core::record::attachment::Unit;
use hitless_core::refusal::Refusal;

use crate::failure::Outcome;
use crate::outgoing::{
    Outgoing,
    OUTGOING, //
};
use crate::seam::vtd::LiveTables;
use crate::tables::Tables;

/// Whether devices behind the unit take part. Interrupts are off and this is the only CPU.
///
/// The lock is free then: its holders have all returned, or LUO would not have let the reboot go on.
/// If it is not, better a unit that translates for nobody than one that does not translate.
pub(crate) fn is_outgoing(base: u64) -> bool {
    match OUTGOING.try_lock() {
        Some(outgoing) => outgoing.unit(base).is_some(),
        None => true,
    }
}

/// Clears every root and context entry that is not an outgoing device's. Interrupts are off and this
/// is the only CPU. What cannot be done properly is done by clearing the whole root table.
pub(crate) fn scrub_unit(tables: &LiveTables, now: &Unit) {
    let done = OUTGOING
        .try_lock()
        .is_some_and(|outgoing| scrub_all_but(tables, now, &outgoing).is_ok());
    if !done {
        for index in 0..WORDS_PER_TABLE {
            tables.clear(tables.root(), index);
        }
    }
}

fn scrub_all_but(live: &LiveTables, now: &Unit, outgoing: &Outgoing) -> Outcome<u64> {
    let recorded = outgoing.unit(now.base);
    let recorded = Registers::decode(&recorded.ok_or(Refusal::UnitRefused)?.payload)?;
    let is = Registers::decode(&now.payload)?;
    if recorded.root_table != is.root_table || recorded.mode != is.mode {
        return Err(Refusal::OtherRoot.into());
    }
    let on_bus = |bus| {
        let iommu = outgoing.iommu();
        iommu.map_or(OnBus::default(), |iommu| kept_on_bus(iommu, now, is.mode, bus))
    };
    let clear = |Clear { table, index }| {
        let cleared = live.clear(table.get(), index);
        cleared.ok_or(Flaw::Unreadable)
    };
    Ok(scrub(&Tables, is.tables()?, on_bus, clear)?)
}
