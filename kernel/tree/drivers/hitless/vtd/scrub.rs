// SPDX-License-Identifier: GPL-2.0-only

//! The scrub: the last thing that is done to a unit's tables before the jump.

use hitless_core::iommu::flaw::Flaw;
use hitless_core::iommu::memory::WORDS_PER_TABLE;
use hitless_core::iommu::vtd::leave::{
    leave,
    Leave, //
};
use hitless_core::iommu::vtd::record::Registers;
use hitless_core::iommu::vtd::scrub::{
    kept_on_bus,
    scrub,
    Clear,
    OnBus, //
};
use hitless_core::record::attachment::Unit;
use hitless_core::record::log::{
    Object,
    Step, //
};
use hitless_core::refusal::Refusal;

use crate::failure::Outcome;
use crate::log;
use crate::outgoing::{
    Outgoing,
    OUTGOING, //
};
use crate::part::{
    leaves_out,
    Part, //
};
use crate::seam::vtd::LiveTables;
use crate::tables::Tables;
use crate::units;

/// Leaves a unit to the next kernel. Interrupts are off and this is the only CPU. Gives the root table that it goes on with;
/// `None`: translation is switched off.
///
/// The lock is free then: its holders have all returned, or LUO would not have let the reboot go on.
/// If it is not, better a unit that translates for nobody than one that does not translate.
pub(crate) fn leave_unit(tables: &LiveTables, now: &Unit, translating: bool) -> Option<u64> {
    let empty = units::outgoing_empty();
    let outgoing = OUTGOING.try_lock();
    let recorded = outgoing.filter(|outgoing| outgoing.unit(now.base).is_some());
    let (step, root) = match (leave(translating, empty.is_some(), recorded.is_some()), recorded) {
        (Leave::Off, _) => (Step::SwitchedOff, None),
        (Leave::Scrubbed, Some(outgoing)) => {
            scrub_unit(tables, now, &outgoing);
            (Step::Scrubbed, Some(tables.root()))
        }
        (Leave::Scrubbed | Leave::Empty, _) => (Step::Emptied, empty),
    };
    log::write_last(step, Object::Unit(now.base));
    root
}

/// Clears every root and context entry that is not an outgoing device's. What cannot be done properly is done by clearing
/// the whole root table.
fn scrub_unit(tables: &LiveTables, now: &Unit, outgoing: &Outgoing) {
    if leaves_out(Part::Scrub) || scrub_all_but(tables, now, outgoing).is_ok() {
        return;
    }
    for index in 0..WORDS_PER_TABLE {
        tables.clear(tables.root(), index);
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
