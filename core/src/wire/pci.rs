// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Devices and bridges.

use core::ops::{Deref, DerefMut};

use zerocopy::{transmute_mut, transmute_ref, FromZeros};

use super::{check_free, has_duplicates, is_zero, Header};
use crate::abi::pci::{
    DeviceSer, PciSer, KIND_BRIDGE, KIND_ENDPOINT, KIND_FREE, KNOWN_REQUIRED, MAGIC, VERSION,
};
use crate::abi::Page;
use crate::model::{Device, DeviceAddress, Identity, Kind};
use crate::refusal::{Family, Refusal};

const FAMILY: Family = Family::Pci;
const HEADER: Header = Header {
    family: FAMILY,
    magic: MAGIC,
    version: VERSION,
    known_required: KNOWN_REQUIRED,
};

impl DeviceSer {
    pub(super) fn encode(device: &Device) -> Self {
        Self {
            segment: device.address.segment.into(),
            bdf: device.address.bdf.into(),
            kind: match device.kind {
                Kind::Endpoint => KIND_ENDPOINT,
                Kind::Bridge => KIND_BRIDGE,
            }
            .into(),
            users: device.users.into(),
            vendor: device.identity.vendor.into(),
            device: device.identity.device.into(),
            subsystem_vendor: device.identity.subsystem_vendor.into(),
            subsystem_device: device.identity.subsystem_device.into(),
            class_revision: device.identity.class_revision.into(),
            reserved: [0; 8],
        }
    }

    /// `None`: the entry is free.
    pub(super) fn decode(&self) -> Result<Option<Device>, Refusal> {
        let kind = match self.kind.get() {
            KIND_FREE => return check_free(self, FAMILY).map(|()| None),
            KIND_ENDPOINT => Kind::Endpoint,
            KIND_BRIDGE => Kind::Bridge,
            _ => return Err(Refusal::Malformed(FAMILY)),
        };
        let users = self.users.get();
        let identity = self.identity();
        let sound = match kind {
            Kind::Endpoint => users == 1,
            Kind::Bridge => users != 0 && identity == Identity::default(),
        };
        if !sound || !is_zero(&self.reserved) {
            return Err(Refusal::Malformed(FAMILY));
        }
        Ok(Some(Device {
            address: self.address(),
            kind,
            users,
            identity,
        }))
    }

    fn identity(&self) -> Identity {
        Identity {
            vendor: self.vendor.get(),
            device: self.device.get(),
            subsystem_vendor: self.subsystem_vendor.get(),
            subsystem_device: self.subsystem_device.get(),
            class_revision: self.class_revision.get(),
        }
    }

    fn address(&self) -> DeviceAddress {
        DeviceAddress {
            segment: self.segment.get(),
            bdf: self.bdf.get(),
        }
    }

    fn is_free(&self) -> bool {
        self.kind.get() == KIND_FREE
    }
}

/// The record of all devices and bridges.
///
/// # Invariants
///
/// Every entry decodes, and no two are at one address.
#[derive(Debug)]
pub struct Devices<P> {
    page: P,
}

impl<P: Deref<Target = Page>> Devices<P> {
    /// Takes over a page that another kernel wrote.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn decode(page: P) -> Result<Self, Refusal> {
        let record: &PciSer = transmute_ref!(&*page);
        HEADER.check(&record.header)?;
        if !is_zero(&record.reserved) {
            return Err(Refusal::Malformed(FAMILY));
        }
        for entry in &record.devices {
            entry.decode()?;
        }
        let used = record.devices.iter().filter(|entry| !entry.is_free());
        if has_duplicates(used.map(DeviceSer::address)) {
            return Err(Refusal::Duplicate(FAMILY));
        }
        Ok(Self { page })
    }

    fn record(&self) -> &PciSer {
        transmute_ref!(&*self.page)
    }

    /// The page.
    pub fn page(&self) -> &P {
        &self.page
    }

    /// Gives the page back.
    pub fn into_page(self) -> P {
        self.page
    }

    /// All devices and bridges.
    pub fn iter(&self) -> impl Iterator<Item = Device> + '_ {
        self.record()
            .devices
            .iter()
            .filter_map(|entry| entry.decode().ok().flatten())
    }

    /// All devices, without the bridges.
    pub fn endpoints(&self) -> impl Iterator<Item = Device> + '_ {
        self.iter().filter(|device| device.kind == Kind::Endpoint)
    }

    /// The device or bridge at an address.
    pub fn find(&self, address: DeviceAddress) -> Option<Device> {
        self.iter().find(|device| device.address == address)
    }

    /// The device, not bridge, at an address.
    pub fn endpoint(&self, address: DeviceAddress) -> Option<Device> {
        self.endpoints().find(|device| device.address == address)
    }

    /// Are the bridges that a VFIO record names recorded, as bridges?
    ///
    /// # Errors
    ///
    /// [`Refusal::NotRecorded`].
    pub fn check_bridges(
        &self,
        mut bridges: impl Iterator<Item = DeviceAddress>,
    ) -> Result<(), Refusal> {
        let recorded = |bridge| {
            self.find(bridge)
                .is_some_and(|found| found.kind == Kind::Bridge)
        };
        bridges
            .all(recorded)
            .then_some(())
            .ok_or(Refusal::NotRecorded(FAMILY))
    }
}

impl<P: DerefMut<Target = Page>> Devices<P> {
    /// Makes an empty record.
    pub fn create(mut page: P) -> Self {
        page.fill(0);
        let record: &mut PciSer = transmute_mut!(&mut *page);
        record.header = HEADER.encode();
        Self { page }
    }

    fn entry(&mut self, address: DeviceAddress) -> Option<&mut DeviceSer> {
        let record: &mut PciSer = transmute_mut!(&mut *self.page);
        let mut entries = record.devices.iter_mut();
        entries.find(|entry| !entry.is_free() && entry.address() == address)
    }

    fn insert(&mut self, device: &Device) -> Result<(), Refusal> {
        let record: &mut PciSer = transmute_mut!(&mut *self.page);
        let free = record.devices.iter_mut().find(|entry| entry.is_free());
        *free.ok_or(Refusal::Full(FAMILY))? = DeviceSer::encode(device);
        Ok(())
    }

    /// Records a device and the bridges above it. Bridges are counted.
    ///
    /// # Errors
    ///
    /// [`Refusal::AlreadyRecorded`], [`Refusal::Full`]; nothing has changed then.
    pub fn add(
        &mut self,
        address: DeviceAddress,
        identity: Identity,
        bridges: impl Iterator<Item = DeviceAddress> + Clone,
    ) -> Result<(), Refusal> {
        if self.find(address).is_some() {
            return Err(Refusal::AlreadyRecorded);
        }
        self.insert(&Device {
            address,
            kind: Kind::Endpoint,
            users: 1,
            identity,
        })?;
        for (done, bridge) in bridges.clone().enumerate() {
            if let Err(refusal) = self.add_bridge(bridge) {
                self.remove(address, bridges.take(done));
                return Err(refusal);
            }
        }
        Ok(())
    }

    fn add_bridge(&mut self, address: DeviceAddress) -> Result<(), Refusal> {
        let Some(entry) = self.entry(address) else {
            return self.insert(&Device {
                address,
                kind: Kind::Bridge,
                users: 1,
                identity: Identity::default(),
            });
        };
        if entry.kind.get() != KIND_BRIDGE {
            return Err(Refusal::Duplicate(FAMILY));
        }
        let users = entry.users.get().checked_add(1);
        entry.users = users.ok_or(Refusal::Full(FAMILY))?.into();
        Ok(())
    }

    /// Undo of [`Self::add`]. What is not recorded, or has another part than it is named for, is passed
    /// over: the names may be another kernel's, and none of them takes a device from somebody else.
    pub fn remove(&mut self, address: DeviceAddress, bridges: impl Iterator<Item = DeviceAddress>) {
        self.leave(address, Kind::Endpoint);
        bridges.for_each(|bridge| self.leave(bridge, Kind::Bridge));
    }

    /// One user less; the entry goes with its last.
    fn leave(&mut self, address: DeviceAddress, kind: Kind) {
        if !self.find(address).is_some_and(|found| found.kind == kind) {
            return;
        }
        if let Some(entry) = self.entry(address) {
            match entry.users.get() {
                0 | 1 => *entry = DeviceSer::new_zeroed(),
                users => entry.users = users.saturating_sub(1).into(),
            }
        }
    }
}
