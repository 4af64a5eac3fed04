// SPDX-License-Identifier: GPL-2.0-only

//! The two sets of records that all preserved files share, as LUO knows them.

use kernel::liveupdate::{
    FileHandlerObject,
    Flb,
    FlbObject, //
};
use kernel::prelude::*;

use crate::failure::Failure;
use crate::incoming::INCOMING;
use crate::keeps;
use crate::outgoing::OUTGOING;

use super::iommufd::IommufdHandler;
use super::vfio::VfioHandler;

/// Devices and bridges.
struct PciRecords;

/// Units, domains and attachments.
struct IommuRecords;

static IOMMUFD_HANDLER: FileHandlerObject<IommufdHandler> = FileHandlerObject::new();
static VFIO_HANDLER: FileHandlerObject<VfioHandler> = FileHandlerObject::new();
static PCI_RECORDS: FlbObject<PciRecords> = FlbObject::new();
static IOMMU_RECORDS: FlbObject<IommuRecords> = FlbObject::new();

impl Flb for PciRecords {
    const COMPATIBLE: &'static CStr = c"hitless-pci-v1";

    fn preserve() -> Result<u64> {
        OUTGOING.lock().create_pci().map_err(Failure::report)
    }

    fn unpreserve(_data: u64) {
        OUTGOING.lock().drop_pci();
    }

    fn retrieve(data: u64) {
        INCOMING.lock().take_pci(data);
    }

    fn finish() {
        let functions = INCOMING.lock().finish_pci();
        functions.into_iter().for_each(keeps::renew);
    }
}

impl Flb for IommuRecords {
    const COMPATIBLE: &'static CStr = c"hitless-iommu-v1";

    fn preserve() -> Result<u64> {
        OUTGOING.lock().create_iommu().map_err(Failure::report)
    }

    fn unpreserve(_data: u64) {
        OUTGOING.lock().drop_iommu();
    }

    fn retrieve(data: u64) {
        INCOMING.lock().take_iommu(data);
    }

    fn finish() {
        INCOMING.lock().finish_iommu();
    }
}

/// Registers handlers and records with LUO, and fetches what the previous kernel left.
///
/// The locks are initialized already. Runs once, before PCI is scanned.
pub(crate) fn register() -> Result {
    let iommufd = IOMMUFD_HANDLER.register()?;
    IOMMU_RECORDS.register(&iommufd)?;
    let vfio = VFIO_HANDLER.register()?;
    IOMMU_RECORDS.register(&vfio)?;
    PCI_RECORDS.register(&vfio)?;

    let pci = PCI_RECORDS.fetch_incoming()?;
    let iommu = IOMMU_RECORDS.fetch_incoming()?;
    if pci || iommu {
        pr_info!("records of the previous kernel fetched\n");
    }
    Ok(())
}
