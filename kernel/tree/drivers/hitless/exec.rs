// SPDX-License-Identifier: GPL-2.0-only

//! Runs the steps of a plan of core's on the machine.

use hitless_core::vtd::swap::{
    plan_context,
    plan_pasid,
    Capabilities,
    Plan,
    Step, //
};
use hitless_core::vtd::HostAddressWidth;
use kernel::prelude::*;

use crate::entry::{
    EntryKind,
    LiveEntry, //
};
use crate::errno::Outcome;

/// The PASID of requests without PASID.
const NO_PASID: u32 = 0;

/// Replaces a live entry with no moment at which a DMA would fault.
pub(crate) fn replace(entry: &LiveEntry<'_>) -> Outcome {
    let capabilities = Capabilities {
        compare_exchange_128: entry.wide(),
        device_tlb: entry.ats(),
    };
    let width = HostAddressWidth::MAX;
    let ([old0, old1, ..], [new0, new1, ..]) = (entry.old(), entry.new_words());
    let plan = match entry.kind().ok_or(EINVAL)? {
        EntryKind::Context => plan_context([old0, old1], [new0, new1], capabilities, width)?,
        EntryKind::Pasid => plan_pasid(
            entry.old(),
            entry.new_words(),
            NO_PASID,
            capabilities,
            width,
        )?,
    };
    run(entry, &plan)?;
    Ok(())
}

/// Only the write can fail, and it comes first: an error means that nothing has changed.
fn run(entry: &LiveEntry<'_>, plan: &Plan) -> Result {
    for step in plan.steps() {
        match step {
            Step::Store64 { word, value } => entry.store64(word, value)?,
            Step::CompareExchange128 { word, new, .. } => entry.exchange128(word, new)?,
            Step::InvalidateContext { did } => entry.flush_context(did.0),
            Step::InvalidatePasidCache { did, .. } => entry.flush_pasid(did.0),
            Step::InvalidateIotlb { did } | Step::InvalidatePasidIotlb { did, .. } => {
                entry.flush_iotlb(did.0);
            }
            Step::InvalidateDeviceTlb => entry.flush_device(),
            // The caller frees the old tables when this function has returned.
            Step::Release => {}
        }
    }
    Ok(())
}
