// SPDX-License-Identifier: GPL-2.0-only

//! The swap: runs the steps of a plan of core's on the machine.

use hitless_core::model::DomainKey;
use hitless_core::rules::domain_id::{
    hands_over,
    IdUse, //
};
use hitless_core::rules::replace::{
    way,
    Way, //
};
use hitless_core::vtd::swap::{
    plan_context,
    plan_pasid,
    Capabilities,
    Plan,
    Step, //
};
use hitless_core::vtd::HostAddressWidth;
use kernel::prelude::*;

use crate::failure::Outcome;
use crate::incoming::INCOMING;
use crate::part::{
    leaves_out,
    Part, //
};
use crate::seam::vtd::{
    BegunSwap,
    EntryKind,
    LiveEntry, //
};

/// The PASID of requests without PASID.
const NO_PASID: u32 = 0;

/// How a swap ended that was not refused.
#[derive(PartialEq, Eq)]
pub(crate) enum Swapped {
    /// The device is on the new page table.
    Done,
    /// Nothing has changed: the device has to be blocked first.
    BlockFirst,
}

/// Changes a live entry with no moment at which a DMA would fault.
pub(crate) fn swap(entry: LiveEntry<'_>) -> Outcome<Swapped> {
    if way(entry.facts())? == Way::BlockFirst {
        return Ok(Swapped::BlockFirst);
    }
    let restored = entry.restored().is_some();
    let id_use = IdUse {
        users: users(&entry),
        has_own: entry.has_own_id(),
    };
    match run(entry, hands_over(&id_use)) {
        Ok(()) => Ok(Swapped::Done),
        // Two ordinary domains can still change hands with a pause.
        Err(_) if !restored => Ok(Swapped::BlockFirst),
        Err(failure) => Err(failure),
    }
}

/// Who uses the id in the entry. Devices on a restored domain that have not been probed yet count.
fn users(entry: &LiveEntry<'_>) -> u32 {
    let Some(restored) = entry.restored() else {
        return entry.old_users();
    };
    let key = DomainKey::from_u64(restored);
    let users = key.map_or(0, |key| {
        INCOMING
            .lock()
            .id_users(key, entry.register_base(), entry.old_id())
    });
    u32::try_from(users).unwrap_or(u32::MAX)
}

fn run(entry: LiveEntry<'_>, hand_over: bool) -> Outcome {
    let swap = entry.begin(hand_over)?;
    let plan = plan(&swap)?;
    carry_out(&swap, &plan)?;
    swap.end();
    Ok(())
}

fn plan(swap: &BegunSwap<'_>) -> Outcome<Plan> {
    if leaves_out(Part::Plan) {
        return Err(EINVAL.into());
    }
    let capabilities = Capabilities {
        compare_exchange_128: swap.entry().wide(),
        device_tlb: swap.entry().ats(),
    };
    let width = HostAddressWidth::MAX;
    let (old, new) = (swap.old_words(), swap.new_words());
    let ([old0, old1, ..], [new0, new1, ..]) = (old, new);
    Ok(match swap.entry().kind().ok_or(EINVAL)? {
        EntryKind::Context => plan_context([old0, old1], [new0, new1], capabilities, width)?,
        EntryKind::Pasid => plan_pasid(old, new, NO_PASID, capabilities, width)?,
    })
}

/// Only the write can fail, and it comes first: an error means that nothing has changed.
fn carry_out(swap: &BegunSwap<'_>, plan: &Plan) -> Result {
    for step in plan.steps() {
        match step {
            Step::Store64 { word, value } => swap.store64(word, value)?,
            Step::CompareExchange128 { word, new, .. } => swap.exchange128(word, new)?,
            Step::InvalidateContext { did } => swap.flush_context(did.0),
            Step::InvalidatePasidCache { did, .. } => swap.flush_pasid(did.0),
            Step::InvalidateIotlb { did } | Step::InvalidatePasidIotlb { did, .. } => {
                swap.flush_iotlb(did.0);
            }
            Step::InvalidateDeviceTlb => swap.flush_device(),
            // The old tables are freed when software has followed.
            Step::Release => {}
        }
    }
    Ok(())
}
