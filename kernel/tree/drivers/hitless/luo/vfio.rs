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
use kernel::kho::PreservedPage;
use kernel::liveupdate::{
    FileHandler,
    PreserveArgs, //
};
use kernel::prelude::*;
use kernel::sync::aref::ARef;

use crate::failure::{
    Failure,
    Outcome,
    Text, //
};
use crate::incoming::{
    IncomingDevice,
    INCOMING, //
};
use crate::keeps;
use crate::outgoing::OUTGOING;
use crate::record_page;
use crate::seam::vfio::{
    self,
    VfioDevice, //
};
use crate::seam::{
    image,
    pci, //
};
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
        let file = args.file();
        let address = VfioDevice::describe(file)?.address;
        keeps::hold_attached(address);
        Self::record(args, file, address).inspect_err(|_| keeps::renew(address))
    }

    /// Describes and records a device that stays attached to what it is on.
    fn record(args: &PreserveArgs<'_>, file: &File, address: DeviceAddress) -> Outcome<Self> {
        let device = VfioDevice::describe(file)?;
        rules::preserve::device(device.facts)?;
        let iommufd = device.iommufd.ok_or(Refusal::NoIommufd)?;
        let iommufd = args.token_outgoing(iommufd)?;
        let iommufd = iommufd.ok_or(Refusal::IommufdNotInSession)?.data;
        let vfio_file = VfioFile {
            address,
            iommufd,
            hwpt_token: device.hwpt_token,
        };
        let bridges = VfioDevice::bridges(file)?;
        let mut this = Self {
            record: Vfio::create(PreservedPage::new()?, &vfio_file, &bridges)?,
            address,
            bridges: KVec::new(),
            recorded: false,
        };
        for bridge in this.record.bridges() {
            this.bridges.push(bridge, GFP_KERNEL)?;
        }
        this.add(&device, iommufd)?;
        Ok(this)
    }

    /// Checks the tables and enters the device into the shared records.
    fn add(&mut self, device: &VfioDevice<'_>, iommufd: u64) -> Outcome {
        let domain = OUTGOING.lock().domain_of(iommufd, device.hwpt_token);
        let (key, domain) = domain.ok_or(Refusal::HwptNotPreserved)?;
        let table = device.table.ok_or(Refusal::UnknownTable)?;
        rules::preserve::attachment(&domain.table, &table)?;

        let unit = device.unit.ok_or(Refusal::UnknownUnit)?;
        let mut attachment = device.attachment(key);
        attachment.entry = rules::tables::observe(&Tables, &attachment)?;
        check_tables(&unit, &attachment, &table)?;

        OUTGOING
            .lock()
            .add_device(device.identity, &self.bridges, &unit, &attachment)?;
        self.recorded = true;
        self.renew();
        Ok(())
    }

    fn renew(&self) {
        keeps::renew(self.address);
        self.bridges.iter().copied().for_each(keeps::renew);
    }

    /// Is everything still as recorded? User space may have changed the device since.
    fn check(&self, file: &File) -> Outcome {
        rules::preserve::image(image::takes_over())?;
        let device = VfioDevice::describe(file)?;
        rules::preserve::device(device.facts)?;
        let recorded = OUTGOING.lock().attached(self.address);
        let (unit, attachment, domain) = recorded.ok_or(Refusal::NotAttached)?;
        if device.unit != Some(unit) {
            return Err(Refusal::OtherRoot.into());
        }
        check_tables(&unit, &attachment, &domain.table)
    }
}

/// What the next kernel would refuse is refused here, while nothing has happened yet.
fn check_tables(unit: &Unit, attachment: &Attachment, table: &Table) -> Outcome {
    let unit = rules::tables::unit(unit.mode, unit.root_table)?;
    let device = rules::tables::adopted(attachment, table)?;
    Ok(check_device(&Tables, unit, &device)?)
}

impl Drop for OutgoingDevice {
    fn drop(&mut self) {
        if self.recorded {
            OUTGOING.lock().remove_device(self.address, &self.bridges);
            self.renew();
        }
    }
}

/// Makes the file of the device that a record speaks of. The record is taken at the first try and stays.
fn retrieve(data: u64) -> Outcome<ARef<File>> {
    let file = take(data)?;
    // No lock is held while others are asked.
    let now = pci::identity(file.address).ok_or(Refusal::OtherDevice)?;
    let recorded = INCOMING.lock().endpoint(file.address);
    let recorded = recorded.ok_or(Refusal::NotRecorded(Family::Pci))?;
    rules::fits::device(&recorded.identity, &now)?;
    INCOMING.lock().check_bridges(data)?;
    INCOMING.lock().check_attached(&file)?;
    vfio::create(file.address).map_err(|error| {
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
    let record = match record_page::take(data, Family::VfioPci, Vfio::decode) {
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
        vfio::is(file)
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
        file.is_some_and(vfio::is_bound) || !is_running(data)
    }

    fn finish(data: u64, _file: Option<&File>) {
        // What was never retrieved is taken now, for its page and its name.
        if take(data).is_err() {
            return;
        }
        let finished = INCOMING.lock().finish_device(data);
        if let Some(device) = finished {
            keeps::renew(device.record.file().address);
            device.record.bridges().for_each(keeps::renew);
            device.record.into_page().free();
        }
    }
}
