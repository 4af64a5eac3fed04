// SPDX-License-Identifier: GPL-2.0-only

//! A VFIO device file: the device, its unit, its attachment, and the bridges above it.

use hitless_core::record::iommu::Iommu;
use hitless_core::record::log::{
    Object,
    Step, //
};
use hitless_core::record::pci::DeviceAddress;
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
    Frozen, //
};
use crate::kinds::kind;
use crate::lent;
use crate::log;
use crate::outgoing::OUTGOING;
use crate::seam::vfio::{
    self,
    VfioDevice, //
};
use crate::seam::{
    image,
    pci, //
};

/// LUO's handler of VFIO device files.
pub(crate) struct VfioHandler;

/// A preserved device. Dropping it undoes everything.
pub(crate) struct OutgoingDevice {
    record: Vfio<lent::Outgoing>,
    bridges: KVec<DeviceAddress>,
    /// The device is in the shared records.
    recorded: bool,
    /// From freeze on.
    frozen: Option<Frozen>,
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
        rules::vfio::device(device.facts)?;
        let iommufd = device.iommufd.ok_or(Refusal::NoIommufd)?;
        let iommufd = args.token_outgoing(iommufd)?;
        let iommufd = iommufd.ok_or(Refusal::IommufdNotInSession)?.data;
        let device_file = DeviceFile {
            address,
            iommufd,
            hwpt_token: device.hwpt_token,
        };
        let mut this = Self {
            record: Vfio::create(lent::Outgoing::new(), &device_file)?,
            bridges: device.bridges(file)?,
            recorded: false,
            frozen: None,
        };
        this.add(&device)?;
        Ok(this)
    }

    fn address(&self) -> DeviceAddress {
        self.record.file().address
    }

    /// Checks the tables and enters the device into the shared records.
    fn add(&mut self, device: &VfioDevice<'_>) -> Outcome {
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
            pci::identity(file.address).ok_or(Refusal::OtherDevice)?,
            &self.bridges,
            &unit,
            key,
            &translation,
        )?;
        self.recorded = true;
        self.check_tables()?;
        self.renew();
        Ok(())
    }

    /// Do the unit's tables say what is recorded?
    fn check_tables(&self) -> Outcome {
        let recorded = OUTGOING.lock().attached(self.address());
        let (unit, attachment, domain) = recorded.ok_or(Refusal::NotAttached)?;
        kind(unit.hardware.into())?.check(&unit, &attachment, &domain.table)
    }

    fn renew(&self) {
        keeps::renew(self.address());
        self.bridges.iter().copied().for_each(keeps::renew);
    }

    fn freeze(&mut self) -> Outcome {
        let bridges = self.bridges.iter().copied();
        let functions = Iterator::chain(core::iter::once(self.address()), bridges);
        self.frozen = Some(Frozen::new(functions)?);
        Ok(())
    }

    /// Undo of [`Self::freeze`].
    fn unfreeze(&mut self) {
        self.frozen = None;
    }

    /// Is everything still as recorded? User space may have changed the device since.
    fn check(&self, freeze: &Freeze<'_>, file: &File) -> Outcome {
        let uses = OUTGOING.lock().iommu().map_or(0, Iommu::uses);
        let object = Object::Function(self.address());
        if let Some(refusal) = rules::image::image(&image::next(freeze), uses)? {
            pr_emerg!("jumping all the same, though: {}\n", Text(refusal));
            log::write_refusal(Step::ImageOverruled, object, refusal);
        } else {
            log::write(Step::ImageAccepted, object);
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
        self.unfreeze();
        if self.recorded {
            OUTGOING.lock().remove_device(self.address());
            self.renew();
        }
    }
}

/// Makes the file of the device that a record speaks of.
fn retrieve(data: u64) -> Outcome<ARef<File>> {
    let file = INCOMING.lock().file(data)?;
    // No lock is held while others are asked.
    let now = pci::identity(file.address).ok_or(Refusal::OtherDevice)?;
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
        let frozen = outgoing.freeze();
        let checked = frozen.and_then(|()| outgoing.check(freeze, file));
        if checked.is_err() {
            outgoing.unfreeze();
        }
        checked.map_err(|failure| failure.report_of(object(file)))?;
        pr_info!("froze device {}\n", Text(outgoing.address()));
        Ok(())
    }

    fn unfreeze(_file: &File, outgoing: &mut OutgoingDevice) {
        outgoing.unfreeze();
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
        if incoming.file(data).is_err() {
            return;
        }
        let finished = incoming.finish_file(data);
        drop(incoming);
        match finished {
            Ok(functions) => functions.into_iter().for_each(keeps::renew),
            Err(_) => pr_err!("no memory to let go of a device\n"),
        }
    }
}
