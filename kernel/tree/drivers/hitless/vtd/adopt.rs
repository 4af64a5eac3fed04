// SPDX-License-Identifier: GPL-2.0-only

//! VT-d units go on with the tables that the previous kernel left in them.

use hitless_core::model::Unit;
use hitless_core::refusal::Refusal;
use hitless_core::rules;
use hitless_core::vtd::adopt::check_adopted;
use kernel::prelude::*;

use crate::failure::Outcome;
use crate::incoming::{
    IncomingIommu,
    State,
    INCOMING, //
};
use crate::part::{
    leaves_out,
    Part, //
};
use crate::tables::Tables;

/// What a unit goes on with.
pub(crate) struct Adopted {
    pub(crate) root_table: u64,
    /// The domain ids in use in its tables.
    pub(crate) ids: KVec<u16>,
}

/// May the unit go on with the tables it has? `None`: nothing is recorded.
pub(crate) fn adopt(now: &Unit, translating: bool) -> Outcome<Option<Adopted>> {
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
            iommu.adoption.adopt(now.register_base)?;
            pr_info!(
                "adopted tables of unit at {:#x}: {} devices\n",
                now.register_base,
                devices
            );
            Ok(Some(Adopted {
                root_table: recorded.root_table,
                ids: incoming.domain_ids(now.register_base)?,
            }))
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
    if leaves_out(Part::Unit) {
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
    check_adopted(&Tables, unit, &devices)?;
    Ok(devices.len())
}
