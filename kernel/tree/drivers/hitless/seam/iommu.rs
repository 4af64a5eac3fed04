// SPDX-License-Identifier: GPL-2.0-only

//! Units, page tables and attachments as C describes them, whatever the hardware.

use hitless_core::iommu::address::{
    HostAddressWidth,
    TableAddress, //
};
use hitless_core::abi::iommu::FORMAT_X86_64;
use hitless_core::iommu::pt::format::Format;
use hitless_core::iommu::pt::table::Table;
use hitless_core::record::pci::DeviceAddress;
use hitless_core::rules::pci::ArrivalFacts;
use kernel::bindings;
use kernel::error::to_result;
use kernel::prelude::*;

/// A unit as it is now.
pub(crate) struct RawUnit(pub(super) bindings::hitless_unit);

impl RawUnit {
    pub(crate) fn new(unit: &bindings::hitless_unit) -> Self {
        Self(*unit)
    }

    /// Physical address of the register set.
    pub(crate) fn base(&self) -> u64 {
        self.0.register_base
    }

    /// PCI segment of the devices behind it.
    pub(crate) fn segment(&self) -> u32 {
        self.0.segment
    }

    /// The kind of hardware, as records have it.
    pub(crate) fn kind(&self) -> u32 {
        self.0.kind
    }
}

/// How a device is attached now.
pub(crate) struct RawAttachment(pub(super) bindings::hitless_attachment);

impl RawAttachment {
    /// The device.
    pub(crate) fn address(&self) -> DeviceAddress {
        DeviceAddress {
            segment: self.0.segment,
            bdf: self.0.bdf,
        }
    }

    /// The domain id in its entry.
    pub(crate) fn domain_id(&self) -> u32 {
        self.0.domain_id
    }

    /// The page table that it is attached to. `None`: it cannot be described.
    pub(crate) fn table(&self) -> Option<Table> {
        table(&self.0.table)
    }
}

/// A page table as core has it. `None`: it cannot be described.
pub(super) fn table(raw: &bindings::hitless_table) -> Option<Table> {
    Some(Table {
        top: TableAddress::new(raw.top, HostAddressWidth::MAX).ok()?,
        format: Format::from_number(raw.format.try_into().ok()?, raw.levels)?,
        incoherent: raw.incoherent != 0,
        snoop: raw.snoop != 0,
    })
}

/// Takes a table page back from the handover, with the accounting of IOMMU pages.
pub(crate) fn restore_page(phys: u64) -> Result {
    // SAFETY: The function itself checks that the page was handed over, and gives it once.
    to_result(unsafe { bindings::hitless_seam_iommu_restore_page(phys) })
}

/// Numbers and facts by the names of core and of the contract, which must be the same.
const _: () = {
    assert!(FORMAT_X86_64 as u32 == bindings::HITLESS_PT_X86_64);
    assert!(ArrivalFacts::ALONE == bindings::HITLESS_ARRIVES_ALONE);
    assert!(ArrivalFacts::BUS_MASTER == bindings::HITLESS_ARRIVES_BUS_MASTER);
    assert!(ArrivalFacts::BLOCKED == bindings::HITLESS_ARRIVES_BLOCKED);
};
