// SPDX-License-Identifier: GPL-2.0-only

//! The swap: runs the steps of a plan of core's on the machine.

use hitless_core::iommu::address::DomainId;
use hitless_core::iommu::plan::{
    Plan,
    Step, //
};
use hitless_core::iommu::vtd::swap::{
    decide,
    Capabilities,
    Decision,
    Swap,
    Words, //
};
use hitless_core::record::attachment::DomainKey;
use hitless_core::refusal::Refusal;
use hitless_core::iommu::change::{
    IdUse,
    SwapFacts, //
};
use kernel::prelude::*;

use crate::failure::Outcome;
use crate::incoming::INCOMING;
use crate::part::{
    leaves_out,
    Part, //
};
use crate::seam::vtd::{
    BegunSwap,
    Cache,
    EntryKind,
    LiveEntry, //
};

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
    let facts = entry.facts();
    match run(entry) {
        // Two ordinary domains can still change hands with a pause.
        Err(_) if !facts.has(SwapFacts::RESTORED) => Ok(Swapped::BlockFirst),
        swapped => swapped,
    }
}

fn run(entry: LiveEntry<'_>) -> Outcome<Swapped> {
    let facts = entry.facts();
    if facts.is_in_the_way() {
        return Err(Refusal::NotSwappable.into());
    }
    let id_use = IdUse {
        users: users(&entry),
        has_own: entry.has_own_id(),
    };
    let swap = entry.begin(id_use.hands_over())?;
    if leaves_out(Part::Plan) {
        return Err(EINVAL.into());
    }
    let decision = decide(&Swap {
        facts,
        old_id: DomainId(swap.entry().old_id()),
        new_id: DomainId(swap.entry().new_id()),
        id_use,
        capabilities: Capabilities {
            compare_exchange_128: swap.entry().wide(),
            device_tlb: swap.entry().ats(),
        },
        words: words(&swap)?,
    })?;
    match decision {
        Decision::InPlace { plan, .. } => {
            carry_out(&swap, &plan)?;
            swap.end();
            Ok(Swapped::Done)
        }
        Decision::BlockFirst => Ok(Swapped::BlockFirst),
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
            .id_users(key, entry.register_base(), entry.old_id().into())
    });
    u32::try_from(users).unwrap_or(u32::MAX)
}

fn words(swap: &BegunSwap<'_>) -> Result<Words> {
    let (old, new) = (swap.old_words(), swap.new_words());
    let ([old0, old1, ..], [new0, new1, ..]) = (old, new);
    Ok(match swap.entry().kind().ok_or(EINVAL)? {
        EntryKind::Context => Words::Context {
            old: [old0, old1],
            new: [new0, new1],
        },
        EntryKind::Pasid => Words::Pasid { old, new },
    })
}

/// Only the write can fail, and it comes first: an error means that nothing has changed.
fn carry_out(swap: &BegunSwap<'_>, plan: &Plan) -> Result {
    for step in plan.steps() {
        match step {
            Step::Store64 { word, value } => swap.store64(word, value)?,
            Step::CompareExchange128 { word, new, .. } => swap.exchange128(word, new)?,
            Step::InvalidateContext { did } => swap.flush(Cache::Context, did.0),
            Step::InvalidatePasidCache { did, .. } => swap.flush(Cache::Pasid, did.0),
            Step::InvalidateIotlb { did } | Step::InvalidatePasidIotlb { did, .. } => {
                swap.flush(Cache::Iotlb, did.0);
            }
            Step::InvalidateDeviceTlb => swap.flush(Cache::Device, swap.entry().old_id()),
            // The old tables are freed when software has followed.
            Step::Release => {}
        }
    }
    Ok(())
}
