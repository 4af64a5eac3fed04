// SPDX-License-Identifier: GPL-2.0-only

//! VT-d units go on with the tables that the previous kernel left in them.

use hitless_core::iommu::address::TableAddress;
use hitless_core::iommu::flaw::Flaw;
use hitless_core::iommu::memory::Memory;
use hitless_core::iommu::vtd::adopt::{
    self,
    Machine, //
};
use hitless_core::iommu::vtd::scrub::Clear;
use hitless_core::record::attachment::Unit;
use hitless_core::record::pci::DeviceAddress;
use hitless_core::refusal::{
    Family,
    Refusal, //
};
use kernel::kho;
use kernel::prelude::*;

use crate::failure::{
    Failure,
    Outcome,
    Text, //
};
use crate::incoming::INCOMING;
use crate::part::{
    leaves_out,
    Part, //
};
use crate::seam::iommu;
use crate::seam::vtd::LiveTables;
use crate::tables::Tables;

/// What a unit goes on with.
pub(crate) struct Adopted {
    pub(crate) root_table: u64,
    /// The domain ids in use in its tables.
    pub(crate) ids: KVec<u16>,
}

/// A unit whose tables are being adopted.
struct Boot<'a>(&'a LiveTables);

impl Memory for Boot<'_> {
    fn read(&self, table: TableAddress, index: usize) -> core::result::Result<u64, Flaw> {
        Tables.read(table, index)
    }
}

impl Machine for Boot<'_> {
    fn is_handed_over(&self, table: TableAddress) -> bool {
        kho::is_restorable(table.get()) || leaves_out(Part::Tables)
    }

    fn restore(&mut self, page: u64) -> core::result::Result<(), Refusal> {
        iommu::restore_page(page).map_err(|_| Refusal::NotHandedOver(Family::Iommu))
    }

    fn clear(&mut self, clear: Clear) -> core::result::Result<(), Flaw> {
        let cleared = self.0.clear(clear.table.get(), clear.index);
        cleared.ok_or(Flaw::Unreadable)
    }

    fn refused(&mut self, address: DeviceAddress, refusal: Refusal) {
        pr_err!("device {} is not taken over: {}\n", Text(address), Text(refusal));
    }
}

/// May the unit go on with the tables it has? `None`: nothing is recorded.
pub(crate) fn adopt(tables: &LiveTables, now: &Unit, translating: bool) -> Outcome<Option<Adopted>> {
    let mut incoming = INCOMING.lock();
    let records = incoming.records();
    if leaves_out(Part::Unit) {
        records.unit_refused(now.base, Refusal::OtherCapabilities);
        return Err(Refusal::OtherCapabilities.into());
    }
    let adopted = adopt::adopt(records, &mut Boot(tables), now, translating);
    let Some(adopted) = adopted.map_err(Failure::from)? else {
        return Ok(None);
    };
    let mut ids = KVec::new();
    let listed = adopted
        .domain_ids(records)
        .try_for_each(|id| ids.push(id.0, GFP_KERNEL));
    if let Err(error) = listed {
        records.unit_refused(now.base, Refusal::UnitRefused);
        return Err(error.into());
    }
    pr_info!(
        "adopted tables of unit at {:#x}: {} devices\n",
        now.base,
        adopted.devices
    );
    if adopted.cleared != 0 {
        pr_warn!(
            "unit at {:#x}: entries that nobody recorded were cleared, {} words\n",
            now.base,
            adopted.cleared
        );
    }
    Ok(Some(Adopted {
        root_table: adopted.root_table,
        ids,
    }))
}
