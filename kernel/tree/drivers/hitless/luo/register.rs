// SPDX-License-Identifier: GPL-2.0-only

//! What all preserved files share, as LUO knows it: two sets of records, and what all units are left with.

use kernel::liveupdate::{
    FileHandlerObject,
    Flb,
    FlbObject, //
};
use kernel::prelude::*;

use crate::failure::Failure;
use crate::incoming::INCOMING;
use crate::keeps;
use crate::log;
use crate::outgoing::OUTGOING;
use crate::previous;
use crate::units;

use super::iommufd::IommufdHandler;
use super::vfio::VfioHandler;

/// Devices and bridges.
struct PciRecords;

/// Units, domains and attachments.
struct IommuRecords;

/// What this kernel has done.
struct LogRecord;

/// What all units are left with.
struct UnitsLeft;

static IOMMUFD_HANDLER: FileHandlerObject<IommufdHandler> = FileHandlerObject::new();
static VFIO_HANDLER: FileHandlerObject<VfioHandler> = FileHandlerObject::new();
static PCI_RECORDS: FlbObject<PciRecords> = FlbObject::new();
static IOMMU_RECORDS: FlbObject<IommuRecords> = FlbObject::new();
static LOG_RECORD: FlbObject<LogRecord> = FlbObject::new();
static UNITS_LEFT: FlbObject<UnitsLeft> = FlbObject::new();

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
        functions.into_iter().for_each(keeps::renew_at);
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

impl Flb for LogRecord {
    const COMPATIBLE: &'static CStr = c"hitless-log-v1";

    fn preserve() -> Result<u64> {
        log::preserve()
    }

    fn unpreserve(_data: u64) {
        log::unpreserve();
    }

    fn retrieve(data: u64) {
        previous::arrived(data);
    }

    fn finish() {}
}

impl Flb for UnitsLeft {
    const COMPATIBLE: &'static CStr = c"hitless-units-v1";

    fn preserve() -> Result<u64> {
        units::preserve()
    }

    fn unpreserve(_data: u64) {
        units::unpreserve();
    }

    fn retrieve(data: u64) {
        units::arrived(data);
    }

    fn finish() {}
}

/// Registers handlers and records with LUO, and fetches what the previous kernel left.
///
/// The locks are initialized already. Runs once, before PCI is scanned.
pub(crate) fn register() -> Result {
    let iommufd = IOMMUFD_HANDLER.register()?;
    LOG_RECORD.register(&iommufd)?;
    UNITS_LEFT.register(&iommufd)?;
    IOMMU_RECORDS.register(&iommufd)?;
    let vfio = VFIO_HANDLER.register()?;
    LOG_RECORD.register(&vfio)?;
    UNITS_LEFT.register(&vfio)?;
    IOMMU_RECORDS.register(&vfio)?;
    PCI_RECORDS.register(&vfio)?;

    let pci = PCI_RECORDS.fetch_incoming()?;
    let iommu = IOMMU_RECORDS.fetch_incoming()?;
    UNITS_LEFT.fetch_incoming()?;
    if pci || iommu {
        pr_info!("records of the previous kernel fetched\n");
    }
    if let Err(error) = LOG_RECORD.fetch_incoming() {
        pr_warn!("no log of the previous kernel: {}\n", error.to_errno());
    }
    Ok(())
}
