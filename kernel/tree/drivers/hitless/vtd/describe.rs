// SPDX-License-Identifier: GPL-2.0-only

//! VT-d's units and devices, as records have them.

use hitless_core::abi::vtd::HARDWARE;
use hitless_core::iommu::address::DomainId;
use hitless_core::iommu::bdf::Bdf;
use hitless_core::iommu::pt::table::Table;
use hitless_core::iommu::vtd::check::{
    check_device,
    AdoptedDevice, //
};
use hitless_core::iommu::vtd::record::{
    DeviceTables,
    Registers, //
};
use hitless_core::record::attachment::{
    Attachment,
    Translation,
    Unit, //
};
use hitless_core::record::pci::DeviceAddress;
use hitless_core::record::set::Verdict;
use kernel::prelude::*;

use crate::failure::Outcome;
use crate::hardware::Kind;
use crate::incoming::INCOMING;
use crate::seam::iommu::{
    RawAttachment,
    RawUnit, //
};
use crate::seam::vtd;
use crate::tables::Tables;

/// VT-d as a kind of hardware.
pub(crate) struct Vtd;

impl Kind for Vtd {
    fn number(&self) -> u32 {
        HARDWARE.into()
    }

    fn unit(&self, unit: &RawUnit) -> Unit {
        vtd::registers(unit).unit(unit.base(), unit.segment())
    }

    fn translation(&self, attachment: &RawAttachment) -> Outcome<Translation> {
        let bdf = Bdf(attachment.address().bdf);
        let tables = vtd::device_tables(attachment).observe(&Tables, bdf)?;
        let id = u16::try_from(attachment.domain_id()).map_err(|_| EINVAL)?;
        Ok(tables.translation(DomainId(id)))
    }

    fn irq_table(&self, index: u32) -> Option<Option<u64>> {
        vtd::irq_table(index)
    }

    fn check(&self, unit: &Unit, attachment: &Attachment, table: &Table) -> Outcome {
        let tables = Registers::decode(&unit.payload)?.tables()?;
        let device = AdoptedDevice::of(attachment.address, &attachment.translation, table)?;
        Ok(check_device(&Tables, tables, &device)?)
    }
}

/// The tables of a device that arrived running on adopted tables.
pub(crate) fn arrived(address: DeviceAddress) -> Option<DeviceTables> {
    match INCOMING.lock().device(address) {
        Verdict::Kept(kept) if kept.adopted => {
            DeviceTables::decode(&kept.attachment.translation.payload).ok()
        }
        _ => None,
    }
}
