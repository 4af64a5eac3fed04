// SPDX-License-Identifier: GPL-2.0-only

//! A VFIO device file: the device, its unit, its attachment, and the bridges above it.

use core::iter::once;

use hitless_core::record::log::Object;
use hitless_core::record::pci::{
    DeviceAddress,
    Identity, //
};
use hitless_core::record::vfio::{
    DeviceFile,
    Vfio, //
};
use hitless_core::refusal::Refusal;
use hitless_core::rules;
use kernel::fs::File;
use kernel::liveupdate::{
    FileHandler,
    Freeze,
    PreserveArgs, //
};
use kernel::prelude::*;
use kernel::sync::aref::ARef;

use crate::failure::{
    Failure,
    Outcome,
    Text, //
};
use crate::incoming::INCOMING;
use crate::keeps::{
    self,
    Path, //
};
use crate::kinds::kind;
use crate::lent;
use crate::outgoing::OUTGOING;
use crate::part::{
    leaves_out,
    Part, //
};
use crate::seam::pci::PciFunction;
use crate::seam::vfio::{
    self,
    VfioDevice, //
};

/// LUO's handler of VFIO device files.
pub(crate) struct VfioHandler;

/// A preserved device. Dropping it undoes everything.
pub(crate) struct OutgoingDevice {
    record: Vfio<lent::Outgoing>,
    path: Path,
    /// The device is in the shared records.
    recorded: bool,
}

impl OutgoingDevice {
    fn new(args: &PreserveArgs<'_>) -> Outcome<Self> {
        let address = VfioDevice::describe(args.file())?.address;
        let function = PciFunction::find(address).ok_or(Refusal::OtherDevice)?;
        keeps::hold_attached(&function);
        Self::record(args, &function).inspect_err(|_| keeps::renew(&function))
    }

    /// Describes and records a device that stays attached to what it is on.
    fn record(args: &PreserveArgs<'_>, function: &PciFunction) -> Outcome<Self> {
        let device = VfioDevice::describe(args.file())?;
        rules::vfio::device(device.facts)?;
        let iommufd = device.iommufd.ok_or(Refusal::NoIommufd)?;
        let iommufd = args.token_outgoing(iommufd)?;
        let iommufd = iommufd.ok_or(Refusal::IommufdNotInSession)?.data;
        let device_file = DeviceFile {
            address: function.address(),
            iommufd,
            hwpt_token: device.hwpt_token,
        };
        let bridges = device.bridges(args.file())?;
        let functions = Iterator::chain(once(function.address()), bridges.iter().copied());
        let mut this = Self {
            record: Vfio::create(lent::Outgoing::new(), &device_file)?,
            path: Path::find(functions)?,
            recorded: false,
        };
        this.add(&device, &function.identity(), &bridges)?;
        Ok(this)
    }

    fn address(&self) -> DeviceAddress {
        self.record.file().address
    }

    /// Checks the tables and enters the device, and the bridges above it, into the shared records.
    fn add(
        &mut self,
        device: &VfioDevice<'_>,
        identity: &Identity,
        bridges: &[DeviceAddress],
    ) -> Outcome {
        let file = *self.record.file();
        let domain = OUTGOING.lock().domain_of(file.iommufd, file.hwpt_token);
        let (key, domain) = domain.ok_or(Refusal::HwptNotPreserved)?;
        let table = device.attachment.table().ok_or(Refusal::UnknownTable)?;
        rules::vfio::attachment(&domain.table, &table)?;

        let hardware = kind(device.unit.kind())?;
        let unit = hardware.unit(&device.unit);
        let translation = hardware.translation(&device.attachment)?;
        OUTGOING.lock().add_device(
            file.address,
            *identity,
            bridges,
            &unit,
            key,
            &translation,
        )?;
        self.recorded = true;
        self.check_tables()?;
        self.path.renew();
        Ok(())
    }

    /// Do the unit's tables say what is recorded?
    fn check_tables(&self) -> Outcome {
        let recorded = OUTGOING.lock().attached(self.address());
        let (unit, attachment, domain) = recorded.ok_or(Refusal::NotAttached)?;
        kind(unit.hardware.into())?.check(&unit, &attachment, &domain.table)
    }

    /// Is everything still as recorded? User space may have changed the device since.
    fn check(&self, _freeze: &Freeze<'_>, file: &File) -> Outcome {
        if !leaves_out(Part::Image) {
            OUTGOING.lock().fits(self.address())?;
        }
        let device = VfioDevice::describe(file)?;
        rules::vfio::device(device.facts)?;
        let recorded = OUTGOING.lock().attached(self.address());
        let (unit, ..) = recorded.ok_or(Refusal::NotAttached)?;
        if kind(device.unit.kind())?.unit(&device.unit) != unit {
            return Err(Refusal::OtherRoot.into());
        }
        self.check_tables()
    }
}

impl Drop for OutgoingDevice {
    fn drop(&mut self) {
        self.path.unfreeze();
        if self.recorded {
            OUTGOING.lock().remove_device(self.address());
            self.path.renew();
        }
    }
}

/// Makes the file of the device that a record speaks of.
fn retrieve(data: u64) -> Outcome<ARef<File>> {
    let file = INCOMING.lock().file(data)?;
    // No lock is held while others are asked.
    let now = PciFunction::find(file.address).ok_or(Refusal::OtherDevice)?.identity();
    let kept = INCOMING.lock().kept(&file)?;
    rules::pci::device(&kept.function.identity, &now)?;
    vfio::create(file.address).map_err(|error| {
        if error == ENODEV {
            Refusal::NoDriverYet.into()
        } else {
            // Out of memory or of files: nothing has been given up, and it can be tried again.
            Failure::Failed(EAGAIN)
        }
    })
}

/// Whether the device may still be using tables of the previous kernel. One that cannot be given back, because it or its
/// unit was refused, is blocked: there is nothing to wait for.
fn is_running(data: u64) -> bool {
    let mut incoming = INCOMING.lock();
    match incoming.file(data) {
        Ok(file) => incoming.is_running(file.address),
        // Which one it is will not be known: as long as there is any.
        Err(_) => incoming.is_any_running(),
    }
}

/// The device of a file, for the log.
fn object(file: &File) -> Object {
    VfioDevice::describe(file).map_or(Object::None, |device| Object::Function(device.address))
}

impl FileHandler for VfioHandler {
    const COMPATIBLE: &'static CStr = c"hitless-vfio-pci-v1";

    type Outgoing = KBox<OutgoingDevice>;

    fn can_preserve(file: &File) -> bool {
        vfio::is(file)
    }

    fn preserve(args: &PreserveArgs<'_>) -> Result<(u64, Self::Outgoing)> {
        let outgoing = OutgoingDevice::new(args);
        let outgoing = outgoing.map_err(|failure| failure.report_of(object(args.file())))?;
        let outgoing = KBox::new(outgoing, GFP_KERNEL)?;
        pr_info!("preserved device {}\n", Text(outgoing.address()));
        Ok((outgoing.record.phys(), outgoing))
    }

    fn unpreserve(_file: &File, outgoing: Self::Outgoing) {
        drop(outgoing);
    }

    fn freeze(freeze: &Freeze<'_>, file: &File, outgoing: &mut OutgoingDevice) -> Result {
        // First nobody can change anything any more, then it is looked at.
        let frozen = outgoing.path.freeze();
        let checked = frozen.and_then(|()| outgoing.check(freeze, file));
        if checked.is_err() {
            outgoing.path.unfreeze();
        }
        checked.map_err(|failure| failure.report_of(object(file)))?;
        pr_info!("froze device {}\n", Text(outgoing.address()));
        Ok(())
    }

    fn unfreeze(_file: &File, outgoing: &mut OutgoingDevice) {
        outgoing.path.unfreeze();
    }

    fn retrieve(data: u64) -> Result<ARef<File>> {
        retrieve(data).map_err(Failure::report)
    }

    fn can_finish(data: u64, file: Option<&File>) -> bool {
        file.is_some_and(vfio::is_bound) || !is_running(data)
    }

    fn finish(data: u64, _file: Option<&File>) {
        let mut incoming = INCOMING.lock();
        // What was never retrieved is taken now, for its page and its name.
        // One that is refused is nobody's, and is forgotten all the same.
        let _ = incoming.file(data);
        let finished = incoming.finish_file(data);
        drop(incoming);
        match finished {
            Ok(functions) => functions.into_iter().for_each(keeps::renew_at),
            Err(_) => pr_err!("no memory to let go of a device\n"),
        }
    }
}
