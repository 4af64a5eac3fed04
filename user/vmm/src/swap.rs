// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The swap, the interrupts, and the end of the update.

use std::os::fd::AsFd;

use hitless_uapi::vfio::{Irq, MAX_VECTORS};
use hitless_uapi::VfioDevice;

use crate::collect::Collected;
use crate::error::{at, Error, Kind, Object, Step, Stuck};
use crate::incoming::{Finished, Incoming, Rebuilt, Swapped};
use crate::interrupts;
use crate::parts::Parts;

impl Incoming<Rebuilt> {
    /// Attaches each device to its new HWPT, and destroys the restored ones. There is no moment at which a DMA of a device
    /// would be refused.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]. A device that cannot be swapped stays where it is: it can be given up with
    /// [`Incoming::give_up`], and the others be swapped by calling this again.
    pub fn swap(mut self) -> Result<Incoming<Swapped>, Stuck<Self>> {
        match self.parts.swap_all() {
            Ok(()) => Ok(self.next()),
            Err(error) => Err(Stuck::new(error, self)),
        }
    }
}

impl Incoming<Swapped> {
    /// Sets up the interrupts of a device: the eventfd of each vector, from the first on. What the device wanted to signal
    /// since they were taken down is lost, so each eventfd is signalled once.
    ///
    /// ```no_run
    /// # use hitless_vmm::{Incoming, incoming::Swapped};
    /// # fn example(vm: &Incoming<Swapped>, eventfds: Vec<std::os::fd::OwnedFd>) -> Result<(), hitless_vmm::Error> {
    /// if let Some(had) = vm.interrupts("nic")? {
    ///     let eventfds: Vec<_> = eventfds.into_iter().take(had.vectors).map(Some).collect();
    ///     vm.arm("nic", had.kind, &eventfds)?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`], [`Error::TooManyVectors`], [`Error::Refused`].
    pub fn arm<F: AsFd>(
        &self,
        device: &str,
        kind: Irq,
        eventfds: &[Option<F>],
    ) -> Result<(), Error> {
        arm(self.device(device)?, device, kind, eventfds)
    }

    /// Ends the update. Everything is an ordinary set-up from here on.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with `EBUSY` when a device of the session that the manifest does not name is not swapped.
    pub fn finish(self) -> Result<Running, Stuck<Self>> {
        let object = || Object::Session(self.parts.name.clone());
        match self
            .parts
            .session
            .finish()
            .map_err(at(Step::Finish, object))
        {
            Ok(()) => Ok(self.next()),
            Err(error) => Err(Stuck::new(error, self)),
        }
    }
}

fn arm<F: AsFd>(
    file: &VfioDevice,
    device: &str,
    kind: Irq,
    eventfds: &[Option<F>],
) -> Result<(), Error> {
    if eventfds.len() > MAX_VECTORS {
        return Err(Error::TooManyVectors {
            device: device.to_owned(),
            vectors: eventfds.len(),
        });
    }
    let object = || Object::Named(Kind::Device, device.to_owned());
    interrupts::arm(file, kind, eventfds).map_err(at(Step::Arm, object))
}

impl Parts {
    fn swap_all(&mut self) -> Result<(), Error> {
        for index in 0..self.devices.len() {
            let hwpt = self.manifest.plan.devices[index].hwpt;
            let device = &self.devices[index];
            let (Some(file), Some(built)) = (&device.file, self.tables[hwpt].built) else {
                continue;
            };
            if device.given_up || device.swapped {
                continue;
            }
            let object = || self.object(Kind::Device, index);
            file.attach_pt(built).map_err(at(Step::Swap, object))?;
            self.devices[index].swapped = true;
        }
        for index in 0..self.tables.len() {
            let number = self.manifest.plan.hwpts[index].iommufd;
            let (Some(restored), Some(iommufd)) =
                (self.tables[index].restored, &self.iommufds[number])
            else {
                continue;
            };
            // Another process may have destroyed it, and died before it noted that. Its id may be another object's by now,
            // and only a restored HWPT has a list.
            if iommufd.hwpt_liveupdate_mappings(restored).is_ok() {
                let object = || self.object(Kind::Hwpt, index);
                let destroyed = iommufd.destroy(restored);
                destroyed.map_err(at(Step::Swap, object))?;
            }
            self.notes.set_left(index);
            self.tables[index].restored = None;
        }
        Ok(())
    }
}

/// The update is over, and everything is an ordinary set-up. The descriptors are there until this is dropped; whoever
/// wants one for longer duplicates it.
pub type Running = Incoming<Finished>;

impl Running {
    /// Sets up the interrupts of a device, as before finish.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`], [`Error::TooManyVectors`], [`Error::Refused`].
    pub fn arm<F: AsFd>(
        &self,
        device: &str,
        kind: Irq,
        eventfds: &[Option<F>],
    ) -> Result<(), Error> {
        arm(self.device(device)?, device, kind, eventfds)
    }

    /// The same VM for the next update, with all names, but without the devices that were given up, without the VMM's own
    /// state and without interrupts: those two are added by who knows them.
    ///
    /// ```no_run
    /// # use hitless_vmm::{Collected, Error, Running};
    /// # fn example(running: &Running, cpus: Vec<u8>) -> Result<Collected, Error> {
    /// running.again()?.state(cpus)
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of duplicating a descriptor.
    pub fn again(&self) -> Result<Collected, Error> {
        let plan = &self.parts.manifest.plan;
        let mut collected = Collected::new(&self.parts.name);
        for name in &plan.memories {
            collected = collected.memory(name, self.memory(name)?)?;
        }
        for name in &plan.iommufds {
            collected = collected.iommufd(name, self.iommufd(name)?)?;
        }
        for hwpt in &plan.hwpts {
            let Some(built) = self.built(&hwpt.name)? else {
                continue;
            };
            let iommufd = &plan.iommufds[hwpt.iommufd];
            collected = collected.hwpt(&hwpt.name, iommufd, built.hwpt)?;
            for mapping in &hwpt.mappings {
                collected = collected.mapping(&hwpt.name, mapping.clone())?;
            }
        }
        for (device, state) in plan.devices.iter().zip(&self.parts.devices) {
            if !state.given_up {
                let hwpt = &plan.hwpts[device.hwpt].name;
                collected = collected.device(&device.name, self.device(&device.name)?, hwpt)?;
            }
        }
        Ok(collected)
    }
}
