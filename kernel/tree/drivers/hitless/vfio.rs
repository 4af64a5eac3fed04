// SPDX-License-Identifier: GPL-2.0-only

//! A VFIO device file: the device, its unit, its attachment, and the bridges above it.

use hitless_core::model::{
    Attachment,
    DeviceAddress,
    Table,
    Unit, //
};
use hitless_core::refusal::{
    Family,
    Refusal, //
};
use hitless_core::rules;
use hitless_core::vtd::adopt::check_device;
use hitless_core::wire::vfio::{
    Vfio,
    VfioFile, //
};
use kernel::fs::File;
use kernel::kho::{
    PreservedPage,
    RestoredPage, //
};
use kernel::liveupdate::{
    FileHandler,
    PreserveArgs, //
};
use kernel::prelude::*;
use kernel::sync::aref::ARef;

use crate::entry::{
    self,
    VfioDevice, //
};
use crate::errno::{
    Failure,
    Outcome,
    Text, //
};
use crate::incoming::INCOMING;
use crate::outgoing::{
    KEPT,
    OUTGOING, //
};
use crate::records;
use crate::tables::Tables;

/// LUO's handler of VFIO device files.
pub(crate) struct VfioHandler;

/// A preserved device. Dropping it undoes everything.
pub(crate) struct OutgoingDevice {
    record: Vfio<PreservedPage>,
    address: DeviceAddress,
    bridges: KVec<DeviceAddress>,
    /// The device is in the shared records.
    recorded: bool,
}

impl OutgoingDevice {
    fn new(args: &PreserveArgs<'_>) -> Outcome<Self> {
        let device = VfioDevice::describe(args.file())?;
        rules::preserve::device(device.facts)?;
        let iommufd = device.iommufd.ok_or(Refusal::NoIommufd)?;
        let iommufd = args.sibling(iommufd)?.ok_or(Refusal::IommufdNotInSession)?;
        let file = VfioFile {
            address: device.address,
            iommufd: iommufd.data,
            hwpt_token: device.hwpt_token,
        };
        let mut this = Self {
            record: Vfio::create(PreservedPage::new()?, &file, &device.bridges)?,
            address: device.address,
            bridges: KVec::new(),
            recorded: false,
        };
        for bridge in this.record.bridges() {
            this.bridges.push(bridge, GFP_KERNEL)?;
        }
        this.add(&device, iommufd.data)?;
        Ok(this)
    }

    /// Checks the tables and enters the device into the shared records.
    fn add(&mut self, device: &VfioDevice<'_>, iommufd: u64) -> Outcome {
        let domain = OUTGOING.lock().domain_of(iommufd, device.hwpt_token);
        let (key, domain) = domain.ok_or(Refusal::HwptNotPreserved)?;
        let table = device.table.ok_or(Refusal::NotVtd)?;
        rules::preserve::attachment(&domain.table, &table)?;

        let memory = entry::table_memory();
        let mut attachment = Attachment {
            domain: key,
            ..device.attachment
        };
        attachment.entry = rules::tables::observe(&Tables(&memory), &attachment)?;
        check_tables(&device.unit, &attachment, &table)?;

        OUTGOING
            .lock()
            .add_device(device.identity, &self.bridges, &device.unit, &attachment)?;
        self.recorded = true;
        Ok(KEPT.lock().add(self.address)?)
    }

    /// Is everything still as recorded? User space may have changed the device since.
    fn check(&self, file: &File) -> Outcome {
        rules::preserve::image(entry::image_takes_over())?;
        let device = VfioDevice::describe(file)?;
        rules::preserve::device(device.facts)?;
        let recorded = OUTGOING.lock().attached(self.address);
        let (unit, attachment, domain) = recorded.ok_or(Refusal::NotAttached)?;
        if device.unit != unit {
            return Err(Refusal::OtherRoot.into());
        }
        check_tables(&unit, &attachment, &domain.table)
    }
}

/// What the next kernel would refuse is refused here, while nothing has happened yet.
fn check_tables(unit: &Unit, attachment: &Attachment, table: &Table) -> Outcome {
    let memory = entry::table_memory();
    let unit = rules::tables::unit(unit.mode, unit.root_table)?;
    let device = rules::tables::adopted(attachment, table)?;
    Ok(check_device(&Tables(&memory), unit, &device)?)
}

impl Drop for OutgoingDevice {
    fn drop(&mut self) {
        if self.recorded {
            KEPT.lock().remove(self.address);
            OUTGOING.lock().remove_device(self.address, &self.bridges);
        }
    }
}

/// A device file of the previous kernel, from retrieve to finish.
pub(crate) struct IncomingDevice {
    pub(crate) data: u64,
    pub(crate) record: Vfio<RestoredPage>,
}

/// Makes the file of the device that a record speaks of. The record is taken at the first try and stays.
fn retrieve(data: u64) -> Outcome<ARef<File>> {
    let file = take(data)?;
    // No lock is held while others are asked.
    let now = entry::pci_identity(file.address).ok_or(Refusal::OtherDevice)?;
    let recorded = INCOMING.lock().endpoint(file.address);
    let recorded = recorded.ok_or(Refusal::NotRecorded(Family::Pci))?;
    rules::fits::device(&recorded.identity, &now)?;
    INCOMING.lock().check_bridges(data)?;
    INCOMING.lock().check_attached(&file)?;
    entry::vfio_create(file.address).map_err(|error| {
        if error == ENODEV {
            Refusal::NoDriverYet.into()
        } else {
            // Out of memory or of files: nothing has been given up, and it can be tried again.
            Failure::Failed(EAGAIN)
        }
    })
}

/// Takes a record, once; says what it says.
fn take(data: u64) -> Outcome<VfioFile> {
    let known = INCOMING.lock().device_file(data);
    if let Some(file) = known {
        return Ok(file);
    }
    if INCOMING.lock().is_unreadable(data) {
        return Err(Refusal::NotARecord(Family::VfioPci).into());
    }
    INCOMING.lock().reserve_device()?;
    let record = match records::take(data, Family::VfioPci, Vfio::decode) {
        Ok(record) => record,
        Err(refusal) => {
            INCOMING.lock().add_unreadable(data)?;
            return Err(refusal.into());
        }
    };
    let file = record.file();
    INCOMING.lock().add_device(IncomingDevice { data, record })?;
    Ok(file)
}

/// Whether the device may still be using tables of the previous kernel. One that cannot be given back, because it or its
/// unit was refused, is blocked: there is nothing to wait for.
fn is_running(data: u64) -> bool {
    match take(data) {
        Ok(file) => INCOMING.lock().is_running(file.address),
        // Which one it is will not be known: as long as there is any.
        Err(_) => INCOMING.lock().is_any_running(),
    }
}

impl FileHandler for VfioHandler {
    const COMPATIBLE: &'static CStr = c"hitless-vfio-pci-v1";

    type Outgoing = KBox<OutgoingDevice>;

    fn can_preserve(file: &File) -> bool {
        entry::vfio_is(file)
    }

    fn preserve(args: &PreserveArgs<'_>) -> Result<(u64, Self::Outgoing)> {
        let outgoing = OutgoingDevice::new(args).map_err(Failure::report)?;
        let outgoing = KBox::new(outgoing, GFP_KERNEL)?;
        pr_info!("preserved device {}\n", Text(outgoing.address));
        Ok((outgoing.record.page().phys(), outgoing))
    }

    fn unpreserve(_file: &File, outgoing: Self::Outgoing) {
        drop(outgoing);
    }

    fn freeze(file: &File, outgoing: &OutgoingDevice) -> Result {
        outgoing.check(file).map_err(Failure::report)
    }

    fn retrieve(data: u64) -> Result<ARef<File>> {
        retrieve(data).map_err(Failure::report)
    }

    fn can_finish(data: u64, file: Option<&File>) -> bool {
        file.is_some_and(entry::vfio_is_bound) || !is_running(data)
    }

    fn finish(data: u64, _file: Option<&File>) {
        // What was never retrieved is taken now, for its page and its name.
        if take(data).is_ok() {
            INCOMING.lock().finish_device(data);
        }
    }
}
