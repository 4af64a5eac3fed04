// SPDX-License-Identifier: GPL-2.0-only

//! State taken from the previous kernel.
//!
//! Records are fetched once, early; a device leaves them when its file is finished, a domain when it
//! is released. After the last finish nothing is left and every question is answered with no. The lock
//! is a leaf: no seam but the one that restores a page is called while it is held.

use hitless_core::model::{
    Attachment,
    Device,
    DeviceAddress,
    Domain,
    DomainKey,
    Kind, //
};
use hitless_core::refusal::{
    Family,
    Refusal, //
};
use hitless_core::rules;
use hitless_core::rules::arrival::Recorded;
use hitless_core::wire::{
    iommu::Iommu,
    iommufd::Iommufd,
    pci::Devices,
    vfio::{
        Vfio,
        VfioFile, //
    }, //
};
use kernel::kho::{
    self,
    RestoredPage, //
};
use kernel::prelude::*;

use crate::failure::{
    Failure,
    Outcome, //
};
use crate::part::{
    leaves_out,
    Part, //
};
use crate::record_page;
use crate::tables;

mod adoption;

pub(crate) use self::adoption::Adoption;

kernel::sync::global_lock! {
    // SAFETY: `hitless_init()` initializes it before anything else here runs.
    pub(crate) unsafe(uninit) static INCOMING: Mutex<Incoming> = Incoming {
        pci: State::Absent,
        iommu: State::Absent,
        devices: KVec::new(),
        unreadable: KVec::new(),
        ready: false,
        stopped: KVec::new(),
    };
}

/// Records that may have come.
pub(crate) enum State<T> {
    /// There are none, or everything in them is finished.
    Absent,
    /// They came and are refused. What they spoke of is unknown.
    Refused(Refusal),
    /// They came and were checked.
    Taken(T),
}

impl<T> State<T> {
    fn new(result: Outcome<T>) -> Self {
        match result {
            Ok(value) => Self::Taken(value),
            Err(Failure::Refused(refusal)) => {
                Failure::Refused(refusal).report();
                Self::Refused(refusal)
            }
            Err(Failure::Failed(_)) => {
                pr_warn!("no memory for records of the previous kernel\n");
                Self::Refused(Refusal::NotHandedOver(Family::Iommu))
            }
        }
    }

    pub(crate) fn taken(&self) -> Option<&T> {
        match self {
            Self::Taken(value) => Some(value),
            Self::Absent | Self::Refused(_) => None,
        }
    }

    fn taken_mut(&mut self) -> Option<&mut T> {
        match self {
            Self::Taken(value) => Some(value),
            Self::Absent | Self::Refused(_) => None,
        }
    }

    fn finish(&mut self) -> Option<T> {
        match core::mem::replace(self, Self::Absent) {
            Self::Taken(value) => Some(value),
            Self::Absent | Self::Refused(_) => None,
        }
    }
}

/// A device file of the previous kernel, from retrieve to finish.
pub(crate) struct IncomingDevice {
    pub(crate) data: u64,
    pub(crate) record: Vfio<RestoredPage>,
}

/// Everything that came.
pub(crate) struct Incoming {
    pci: State<Devices<RestoredPage>>,
    iommu: State<IncomingIommu>,
    /// Device files, from retrieve to finish.
    devices: KVec<IncomingDevice>,
    /// Records of device files that were refused: a page is taken back once only.
    unreadable: KVec<u64>,
    /// Every unit has a root table of this kernel: what was refused is blocked.
    ready: bool,
    /// Devices that arrived and were stopped: ordinary ones, for all that the records say.
    stopped: KVec<DeviceAddress>,
}

/// Units, domains, attachments, and the iommufds that have the domains' HWPTs.
pub(crate) struct IncomingIommu {
    pub(crate) records: Iommu<RestoredPage>,
    /// Iommufds, until they are finished.
    iommufds: KVec<Iommufd<RestoredPage>>,
    /// What became of the units' tables.
    pub(crate) adoption: Adoption,
}

impl IncomingIommu {
    fn take(phys: u64, devices: Option<&Devices<RestoredPage>>) -> Outcome<Self> {
        let mut this = Self {
            records: record_page::take(phys, Family::Iommu, Iommu::decode)?,
            iommufds: KVec::new(),
            adoption: Adoption::new(),
        };
        for (_, domain) in this.records.domains() {
            if this.iommufd(domain.iommufd).is_none() {
                let iommufd = record_page::take(domain.iommufd, Family::Iommufd, Iommufd::decode)?;
                this.iommufds.push(iommufd, GFP_KERNEL)?;
            }
        }
        let iommufds = this.iommufds.iter();
        let iommufds = iommufds.map(|iommufd| (iommufd.page().phys(), iommufd));
        rules::records::check(devices, &this.records, iommufds)?;
        for (_, domain) in this.records.domains() {
            for page in [domain.table.top, domain.list] {
                if !kho::is_restorable(page) && !leaves_out(Part::Tables) {
                    return Err(Refusal::NotHandedOver(Family::TableList).into());
                }
            }
        }
        Ok(this)
    }

    /// Gives back what nobody has released: nothing walks the tables any more.
    pub(crate) fn release(self) {
        for domain in self.records.domains().map(|(_, domain)| domain) {
            tables::release(&domain);
        }
        for iommufd in self.iommufds {
            iommufd.into_page().free();
        }
        self.records.into_page().free();
    }

    /// Whether hardware may still use a domain's tables.
    fn is_outstanding(&self, key: DomainKey) -> bool {
        self.devices_of(key).next().is_some()
    }

    /// The devices that may be using a domain's tables.
    fn devices_of(&self, key: DomainKey) -> impl Iterator<Item = Attachment> + '_ {
        self.running().filter(move |attachment| attachment.domain == key)
    }

    /// The devices that may be running on tables of the previous kernel. Only a refused unit is known to be blocked, once
    /// it has its new root table: one that nobody has looked at, because this kernel does not use it, goes on with what
    /// it has.
    fn running(&self) -> impl Iterator<Item = Attachment> + '_ {
        self.records
            .attachments()
            .filter(|attachment| !self.adoption.is_blocked(attachment.register_base))
    }

    /// Some device that is recorded as attached to a domain.
    fn attached(&self, key: DomainKey) -> Option<DeviceAddress> {
        let mut attachments = self.records.attachments();
        let attachment = attachments.find(|attachment| attachment.domain == key)?;
        Some(attachment.address)
    }

    /// Forgets a domain and what is attached to it.
    fn remove_domain(&mut self, key: DomainKey) -> Option<Domain> {
        let domain = self.records.domain(key)?;
        while let Some(address) = self.attached(key) {
            self.records.remove_attachment(address);
        }
        self.records.remove_domain(key);
        Some(domain)
    }

    fn iommufd(&self, key: u64) -> Option<&Iommufd<RestoredPage>> {
        let mut iommufds = self.iommufds.iter();
        iommufds.find(|iommufd| iommufd.page().phys() == key)
    }
}

/// PCI: which functions came.
impl Incoming {
    /// Takes the record of devices.
    pub(crate) fn take_pci(&mut self, phys: u64) {
        if leaves_out(Part::PciRecord) {
            return;
        }
        let taken = record_page::take(phys, Family::Pci, Devices::decode);
        self.pci = State::new(taken.map_err(Failure::from));
    }

    /// The last device file is finished.
    pub(crate) fn finish_pci(&mut self) {
        if let Some(devices) = self.pci.finish() {
            devices.into_page().free();
        }
    }

    /// The device or bridge at an address, until it is finished.
    pub(crate) fn device(&self, address: DeviceAddress) -> Option<Device> {
        self.pci.taken()?.find(address)
    }

    /// The device or bridge at an address, if anything about it is to be left alone.
    pub(crate) fn keeps(&self, address: DeviceAddress) -> Option<Device> {
        self.device(address)
            .filter(|_| !self.stopped.contains(&address))
    }

    /// A device was stopped.
    pub(crate) fn device_stopped(&mut self, address: DeviceAddress) -> Result {
        self.device_left(address);
        if self.device(address).is_some() && !self.stopped.contains(&address) {
            self.stopped.push(address, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// The device, not bridge, at an address, until it is finished.
    pub(crate) fn endpoint(&self, address: DeviceAddress) -> Option<Device> {
        self.device(address)
            .filter(|device| device.kind == Kind::Endpoint)
    }
}

/// Device files.
impl Incoming {
    /// A device file is going to be retrieved: makes room for it, so that its record is not taken in vain.
    pub(crate) fn reserve_device(&mut self) -> Result {
        self.devices.reserve(1, GFP_KERNEL)?;
        Ok(self.unreadable.reserve(1, GFP_KERNEL)?)
    }

    /// A device file is being retrieved.
    pub(crate) fn add_device(&mut self, device: IncomingDevice) -> Result {
        Ok(self.devices.push(device, GFP_KERNEL)?)
    }

    /// Whether a record of a device file was refused.
    pub(crate) fn is_unreadable(&self, data: u64) -> bool {
        self.unreadable.contains(&data)
    }

    /// A record of a device file is refused.
    pub(crate) fn add_unreadable(&mut self, data: u64) -> Result {
        Ok(self.unreadable.push(data, GFP_KERNEL)?)
    }

    /// What the record of a device file says, if it has been taken.
    pub(crate) fn device_file(&self, data: u64) -> Option<VfioFile> {
        let mut devices = self.devices.iter();
        let device = devices.find(|device| device.data == data)?;
        Some(device.record.file())
    }

    /// Are the bridges that a device file speaks of recorded as bridges?
    pub(crate) fn check_bridges(&self, data: u64) -> Outcome {
        let mut devices = self.devices.iter();
        let device = devices.find(|device| device.data == data);
        let (Some(device), Some(devices)) = (device, self.pci.taken()) else {
            return Err(Refusal::NotRecorded(Family::Pci).into());
        };
        Ok(devices.check_bridges(device.record.bridges())?)
    }

    /// A device file is finished. Gives the device and the bridges above it.
    pub(crate) fn finish_device(&mut self, data: u64) -> Option<IncomingDevice> {
        let position = self.devices.iter().position(|device| device.data == data)?;
        let device = self.devices.remove(position).ok()?;
        if let Some(devices) = self.pci.taken_mut() {
            devices.remove(device.record.file().address, device.record.bridges());
        }
        Some(device)
    }

    /// Does the device run on the HWPT that its file speaks of?
    pub(crate) fn check_attached(&self, file: &VfioFile) -> Outcome {
        if self.stopped.contains(&file.address) {
            return Err(Refusal::UnitRefused.into());
        }
        let iommu = match &self.iommu {
            State::Taken(iommu) => iommu,
            State::Absent => return Err(Refusal::NotRecorded(Family::Iommu).into()),
            State::Refused(refusal) => return Err((*refusal).into()),
        };
        let attachment = iommu.records.attachment(file.address);
        let domain = iommu.records.domain_of(file.iommufd, file.hwpt_token);
        match (attachment, domain) {
            (Some(attachment), Some((key, _))) if attachment.domain == key => Ok(()),
            _ => Err(Refusal::HwptNotPreserved.into()),
        }
    }

    /// May the device bind to the iommufd with this key? `None`: it did not come.
    pub(crate) fn binds(&self, iommufd: u64, address: DeviceAddress) -> Result<Option<u64>> {
        if self.keeps(address).is_none() {
            return Ok(None);
        }
        let mut files = self.devices.iter().map(|device| device.record.file());
        let file = files.find(|file| file.address == address).ok_or(EPERM)?;
        if file.iommufd != iommufd {
            return Err(EPERM);
        }
        Ok(Some(file.hwpt_token))
    }
}

/// IOMMU: which tables came, and which memory they map.
impl Incoming {
    /// Takes the record of units, domains and attachments, and those of the iommufds.
    ///
    /// They are checked against the record of devices, which is taken first.
    pub(crate) fn take_iommu(&mut self, phys: u64) {
        self.iommu = State::new(match &self.pci {
            State::Taken(devices) => IncomingIommu::take(phys, Some(devices)),
            State::Absent => IncomingIommu::take(phys, None),
            State::Refused(refusal) => Err((*refusal).into()),
        });
    }

    /// The last iommufd and the last device file are finished: what nobody released is the caller's to release.
    pub(crate) fn finish_iommu(&mut self) -> Option<IncomingIommu> {
        self.iommu.finish()
    }

    /// A unit's tables are refused, for a reason that this kernel has.
    pub(crate) fn refuse_unit(&mut self, register_base: u64) -> Result {
        match &mut self.iommu {
            State::Taken(iommu) => iommu.adoption.refuse(register_base),
            State::Absent | State::Refused(_) => Ok(()),
        }
    }

    /// Every unit has a root table of this kernel.
    pub(crate) fn set_ready(&mut self) {
        self.ready = true;
        if let State::Taken(iommu) = &mut self.iommu {
            iommu.adoption.set_ready();
        }
    }

    /// Whether records of the IOMMU were refused whose devices may be running all the same.
    fn is_unknown_running(&self) -> bool {
        matches!(self.iommu, State::Refused(_)) && !self.ready
    }

    /// The records of units, domains and attachments.
    pub(crate) fn iommu(&mut self) -> &mut State<IncomingIommu> {
        &mut self.iommu
    }

    /// The domain ids in use on a unit.
    pub(crate) fn domain_ids(&self, register_base: u64) -> Result<KVec<u16>> {
        let mut ids = KVec::new();
        let iommu = self.iommu.taken();
        let found = iommu.into_iter().flat_map(|iommu| {
            (0..).map_while(move |index| iommu.records.domain_id(register_base, index))
        });
        for id in found {
            ids.push(id, GFP_KERNEL)?;
        }
        Ok(ids)
    }

    /// How a device arrived attached. `None`: it did not, or that is over.
    pub(crate) fn attachment(
        &self,
        address: DeviceAddress,
    ) -> Outcome<Option<(Attachment, Domain)>> {
        let refusal = match &self.iommu {
            State::Taken(_) => None,
            State::Absent => Some(Refusal::NotRecorded(Family::Iommu)),
            State::Refused(refusal) => Some(*refusal),
        };
        let Some(iommu) = self.iommu.taken() else {
            // A device that nobody knows of is stopped with its unit.
            let known = self.endpoint(address).and(refusal);
            return known.map_or(Ok(None), |refusal| Err(refusal.into()));
        };
        let Some(attachment) = iommu.records.attachment(address) else {
            return Ok(None);
        };
        // A device that is finished has left its domain, and is in neither record any more.
        if self.endpoint(address).is_none() {
            return Err(Refusal::NotRecorded(Family::Pci).into());
        }
        if iommu.adoption.is_refused(attachment.register_base) {
            return Err(Refusal::UnitRefused.into());
        }
        if !iommu.adoption.is_adopted(attachment.register_base) {
            return Ok(None);
        }
        let domain = iommu.records.domain(attachment.domain);
        Ok(domain.map(|domain| (attachment, domain)))
    }

    /// Forgets a domain that is gone from hardware and caches; the caller frees its tables.
    ///
    /// `None` also if a device that has not come up yet still points to its tables.
    pub(crate) fn release(&mut self, key: DomainKey) -> Option<Domain> {
        let iommu = self.iommu.taken_mut()?;
        if iommu.is_outstanding(key) {
            return None;
        }
        iommu.remove_domain(key)
    }

    /// How many devices use a domain's tables, whether they have been probed or not.
    pub(crate) fn devices_of(&self, key: DomainKey) -> usize {
        let iommu = self.iommu.taken();
        iommu.map_or(0, |iommu| iommu.devices_of(key).count())
    }

    /// A device is not on its restored domain any more. Gives the domain id that nobody on its unit uses now.
    pub(crate) fn device_left(&mut self, address: DeviceAddress) -> Option<u16> {
        let iommu = self.iommu.taken_mut()?;
        let left = iommu.records.attachment(address)?;
        iommu.records.remove_attachment(address);
        let adopted = iommu.adoption.is_adopted(left.register_base);
        let mut others = iommu.records.attachments_of(left.register_base);
        let used = others.any(|other| other.domain_id == left.domain_id);
        (adopted && !used).then_some(left.domain_id)
    }

    /// How many devices use a domain's tables under an id on a unit, whether they have been probed or not.
    pub(crate) fn id_users(&self, key: DomainKey, register_base: u64, id: u16) -> usize {
        let iommu = self.iommu.taken();
        iommu.map_or(0, |iommu| {
            let users = iommu.devices_of(key);
            let users = users.filter(|user| user.register_base == register_base && user.domain_id == id);
            users.count()
        })
    }

    /// What is recorded of a device that is probed, for the rule that decides how it goes on.
    pub(crate) fn recorded(&self, address: DeviceAddress) -> Recorded {
        match self.attachment(address) {
            Ok(Some(_)) => Recorded::Attached,
            Ok(None) if self.keeps(address).is_some() => Recorded::Bridge,
            Ok(None) => Recorded::Nothing,
            Err(Failure::Refused(refusal)) => Recorded::Refused(refusal),
            Err(Failure::Failed(_)) => Recorded::Refused(Refusal::UnitRefused),
        }
    }

    /// Whether a device may be running on tables of the previous kernel.
    pub(crate) fn is_running(&self, address: DeviceAddress) -> bool {
        let iommu = self.iommu.taken();
        let known = iommu.is_some_and(|iommu| {
            let mut running = iommu.running();
            running.any(|attachment| attachment.address == address)
        });
        known || self.is_unknown_running()
    }

    /// Whether any device may be.
    pub(crate) fn is_any_running(&self) -> bool {
        let iommu = self.iommu.taken();
        let known = iommu.is_some_and(|iommu| iommu.running().next().is_some());
        known || self.is_unknown_running()
    }

    /// Whether there is an iommufd with this key.
    pub(crate) fn has_iommufd(&self, key: u64) -> bool {
        let iommu = self.iommu.taken();
        iommu.is_some_and(|iommu| iommu.iommufd(key).is_some())
    }

    /// The domain of a HWPT of an iommufd, until it is released.
    pub(crate) fn domain(&self, iommufd: u64, token: u64) -> Option<DomainKey> {
        let iommu = self.iommu.taken()?;
        let key = iommu.iommufd(iommufd)?.domain(token)?;
        iommu.records.domain(key).map(|_| key)
    }

    /// Whether an iommufd may be finished: hardware uses no table of its.
    pub(crate) fn can_finish_iommufd(&self, key: u64) -> bool {
        let Some(iommu) = self.iommu.taken() else {
            // What was refused is blocked, sooner or later, and there is nothing else to wait for.
            return !self.is_unknown_running();
        };
        let Some(iommufd) = iommu.iommufd(key) else {
            return true;
        };
        let mut hwpts = iommufd.hwpts();
        match hwpts.find(|(_, domain)| iommu.is_outstanding(*domain)) {
            Some((token, _)) => {
                pr_info!(
                    "finish: HWPT with token {:#x} is outstanding: swap it\n",
                    token
                );
                false
            }
            None => true,
        }
    }

    /// An iommufd is finished.
    pub(crate) fn finish_iommufd(&mut self, key: u64) {
        let Some(iommu) = self.iommu.taken_mut() else {
            return;
        };
        let mut iommufds = iommu.iommufds.iter();
        let position = iommufds.position(|iommufd| iommufd.page().phys() == key);
        if let Some(Ok(iommufd)) = position.map(|index| iommu.iommufds.remove(index)) {
            iommufd.into_page().free();
        }
    }

    /// Whether hardware may still use a table of an iommufd's.
    pub(crate) fn is_iommufd_outstanding(&self, key: u64) -> bool {
        let Some(iommu) = self.iommu.taken() else {
            return self.is_unknown_running();
        };
        let iommufd = iommu.iommufd(key);
        iommufd.is_some_and(|iommufd| {
            let mut hwpts = iommufd.hwpts();
            hwpts.any(|(_, domain)| iommu.is_outstanding(domain))
        })
    }
}
