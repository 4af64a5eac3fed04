// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Everything that comes in, whatever has been done with it so far; [`crate::incoming`] says in its types what that is.

use std::os::fd::OwnedFd;

use hitless_uapi::iommufd::{DeviceId, HwptId, IoasId};
use hitless_uapi::{Iommufd, Memfd, Session, VfioDevice};
use rustix::io::Errno;

use crate::error::{at, Error, Kind, Object, Step};
use crate::manifest::Manifest;
use crate::notes::Notes;

/// A device that comes in.
#[derive(Debug, Default)]
pub(crate) struct Device {
    pub(crate) file: Option<VfioDevice>,
    pub(crate) id: Option<DeviceId>,
    pub(crate) swapped: bool,
    pub(crate) given_up: bool,
}

impl Device {
    /// One that is not retrieved yet, by this process.
    pub(crate) fn of(notes: &Notes, index: usize) -> Self {
        Self {
            given_up: notes.is_given_up(index),
            ..Self::default()
        }
    }
}

/// What a device ran on, and what takes its place.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Table {
    pub(crate) restored: Option<HwptId>,
    pub(crate) ioas: Option<IoasId>,
    pub(crate) built: Option<HwptId>,
}

/// A HWPT that this library has built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Built {
    /// The HWPT.
    pub hwpt: HwptId,
    /// The address space whose mappings it has.
    pub ioas: IoasId,
}

impl Table {
    pub(crate) fn all(&self) -> Option<Built> {
        let both = self.built.zip(self.ioas);
        both.map(|(hwpt, ioas)| Built { hwpt, ioas })
    }
}

/// Everything that comes in. The order of the fields is the order in which they are closed: the session last, so that
/// nothing in it is finished before it is closed here.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) devices: Vec<Device>,
    pub(crate) tables: Vec<Table>,
    pub(crate) iommufds: Vec<Option<Iommufd>>,
    pub(crate) memories: Vec<Option<Memfd>>,
    pub(crate) notes: Notes,
    pub(crate) manifest: Manifest,
    pub(crate) name: String,
    pub(crate) session: Session,
}

impl Parts {
    pub(crate) fn object(&self, kind: Kind, index: usize) -> Object {
        let plan = &self.manifest.plan;
        let name = match kind {
            Kind::Memory => &plan.memories[index],
            Kind::Iommufd => &plan.iommufds[index],
            Kind::Hwpt => &plan.hwpts[index].name,
            Kind::Device => &plan.devices[index].name,
        };
        Object::Named(kind, name.clone())
    }

    pub(crate) fn retrieve_all(&mut self) -> Result<(), Error> {
        for index in 0..self.memories.len() {
            if self.memories[index].is_none() {
                let token = self.manifest.tokens.memories[index];
                let file = self.retrieve_one(Kind::Memory, index, token)?;
                self.memories[index] = Some(file.into());
            }
        }
        for index in 0..self.iommufds.len() {
            self.retrieve_iommufd(index)?;
        }
        for index in 0..self.devices.len() {
            if self.notes.is_being_given_up(index) {
                self.give_up(index)?;
            }
            if !self.devices[index].given_up {
                self.retrieve_device(index)?;
            }
        }
        Ok(())
    }

    fn retrieve_iommufd(&mut self, index: usize) -> Result<(), Error> {
        if self.iommufds[index].is_none() {
            let token = self.manifest.tokens.iommufds[index];
            let file = self.retrieve_one(Kind::Iommufd, index, token)?;
            self.iommufds[index] = Some(file.into());
        }
        Ok(())
    }

    fn retrieve_device(&mut self, index: usize) -> Result<(), Error> {
        if self.devices[index].file.is_none() {
            let token = self.manifest.tokens.devices[index];
            let file = self.retrieve_one(Kind::Device, index, token)?;
            self.devices[index].file = Some(file.into());
        }
        Ok(())
    }

    fn retrieve_one(&self, kind: Kind, index: usize, token: u64) -> Result<OwnedFd, Error> {
        let file = self.session.retrieve_fd(token);
        file.map_err(at(Step::Retrieve, || self.object(kind, index)))
    }

    pub(crate) fn give_up(&mut self, index: usize) -> Result<(), Error> {
        if self.devices[index].given_up {
            return Ok(());
        }
        match self.retrieve_device(index) {
            // It was not taken over, and the kernel has stopped it.
            Err(error) if error.errno() == Some(Errno::NODEV) => {}
            Err(error) => return Err(error),
            Ok(()) => {
                let device = &self.manifest.plan.devices[index];
                self.retrieve_iommufd(self.manifest.plan.iommufd_of(device))?;
                self.bind_device(index)?;
                let object = || self.object(Kind::Device, index);
                if let Some(file) = &self.devices[index].file {
                    // Whoever comes after this process has to stop it, too, and not to start it again.
                    self.notes.set_being_given_up(index, true);
                    file.detach().map_err(|error| {
                        self.notes.set_being_given_up(index, false);
                        at(Step::GiveUp, object)(error)
                    })?;
                }
            }
        }
        self.notes.set_given_up(index);
        self.devices[index].given_up = true;
        Ok(())
    }
}
