// SPDX-License-Identifier: GPL-2.0-only

//! The scrub: the last thing that is done to a unit's tables before the jump.

use hitless_core::model::Unit;
use hitless_core::refusal::Refusal;
use hitless_core::rules;
use hitless_core::vtd::scrub::{
    scrub,
    Clear,
    Kept, //
};
use hitless_core::vtd::{
    Bdf,
    WORDS_PER_TABLE, //
};

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
pub(crate) fn is_outgoing(register_base: u64) -> bool {
    match OUTGOING.try_lock() {
        Some(outgoing) => outgoing.unit(register_base).is_some(),
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
            tables.clear(now.root_table, index);
        }
    }
}

fn scrub_all_but(tables: &LiveTables, now: &Unit, outgoing: &Outgoing) -> Outcome<u64> {
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
        let cleared = tables.clear(table.get(), index);
        cleared.ok_or(hitless_core::vtd::Refusal::Unreadable)
    };
    Ok(scrub(&Tables, unit, on_bus, clear)?)
}
