// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Devices are bound to their iommufds, and HWPTs restored. The kernel tells the id of each once; it is noted at once, and
//! searched for where a process died between the two.

use hitless_uapi::iommufd::{DeviceId, HwptId};
use hitless_uapi::Iommufd;
use rustix::io::Errno;

use crate::error::{at, Error, Kind, Step, Stuck};
use crate::incoming::{Bound, Incoming, Retrieved};
use crate::parts::Parts;

/// How far ids are searched. The kernel gives out the lowest one that is free, and a VM has fewer objects than this.
const IDS: u32 = 1 << 14;

impl Incoming<Retrieved> {
    /// Binds each device to its iommufd, and restores each HWPT. The devices run on their restored HWPTs from here on, as
    /// they did all the time. Where another process has done this and has died, everything is found as it left it.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]; [`Error::Lost`].
    pub fn bind(mut self) -> Result<Incoming<Bound>, Stuck<Self>> {
        match self.parts.bind_all() {
            Ok(()) => Ok(self.next()),
            Err(error) => Err(Stuck::new(error, self)),
        }
    }
}

impl Parts {
    fn bind_all(&mut self) -> Result<(), Error> {
        for index in 0..self.devices.len() {
            if !self.devices[index].given_up {
                self.bind_device(index)?;
            }
        }
        for index in 0..self.tables.len() {
            if self.is_used(index) {
                self.restore(index)?;
            }
        }
        Ok(())
    }

    /// Whether a device that was not given up runs on a HWPT.
    pub(crate) fn is_used(&self, table: usize) -> bool {
        self.device_of(table).is_some()
    }

    /// The first device that was not given up of those on a HWPT.
    pub(crate) fn device_of(&self, table: usize) -> Option<usize> {
        let plan = &self.manifest.plan;
        let on =
            |device: &usize| plan.devices[*device].hwpt == table && !self.devices[*device].given_up;
        (0..self.devices.len()).find(on)
    }

    pub(crate) fn bind_device(&mut self, index: usize) -> Result<(), Error> {
        let planned = &self.manifest.plan.devices[index];
        let iommufd = self.manifest.plan.iommufd_of(planned);
        let (Some(file), Some(of_device)) = (&self.devices[index].file, &self.iommufds[iommufd])
        else {
            return Ok(());
        };
        if self.devices[index].id.is_some() {
            return Ok(());
        }
        let known = self.notes.device(index);
        let object = || self.object(Kind::Device, index);
        let id = match known {
            Some(id) => id,
            None => match file.bind_iommufd(of_device) {
                Ok(id) => id,
                // Another process has bound it, and died before it noted the id.
                Err(error) if error.errno == Errno::INVAL => self
                    .find_device(of_device, iommufd)
                    .map_err(at(Step::Bind, object))?
                    .ok_or_else(|| self.lost(Kind::Device, index))?,
                Err(error) => return Err(at(Step::Bind, object)(error)),
            },
        };
        self.notes.set_device(index, id);
        self.devices[index].id = Some(id);
        Ok(())
    }

    /// The one device of an iommufd whose id is noted nowhere.
    fn find_device(
        &self,
        iommufd: &Iommufd,
        number: usize,
    ) -> hitless_uapi::Result<Option<DeviceId>> {
        let plan = &self.manifest.plan;
        let of_it = (0..plan.devices.len())
            .filter(|index| plan.iommufd_of(&plan.devices[*index]) == number);
        let noted: Vec<_> = of_it.filter_map(|index| self.notes.device(index)).collect();
        only(|id| {
            let id = DeviceId(id);
            let found = !noted.contains(&id) && iommufd.has_device(id)?;
            Ok(found.then_some(id))
        })
    }

    fn restore(&mut self, index: usize) -> Result<(), Error> {
        if self.tables[index].restored.is_some() || self.notes.is_left(index) {
            return Ok(());
        }
        let hwpt = &self.manifest.plan.hwpts[index];
        let Some(iommufd) = &self.iommufds[hwpt.iommufd] else {
            return Ok(());
        };
        let object = || self.object(Kind::Hwpt, index);
        let id = match self.notes.restored(index) {
            Some(id) => id,
            None => match iommufd.hwpt_liveupdate_restore(hwpt.token) {
                Ok(id) => id,
                // Another process has restored it, and died before it noted the id.
                Err(error) if error.errno == Errno::EXIST => self
                    .find_hwpt(iommufd, hwpt.iommufd)
                    .map_err(at(Step::Bind, object))?
                    .ok_or_else(|| self.lost(Kind::Hwpt, index))?,
                Err(error) => return Err(at(Step::Bind, object)(error)),
            },
        };
        self.notes.set_restored(index, id);
        self.tables[index].restored = Some(id);
        Ok(())
    }

    /// The one restored HWPT of an iommufd whose id is noted nowhere.
    fn find_hwpt(&self, iommufd: &Iommufd, number: usize) -> hitless_uapi::Result<Option<HwptId>> {
        let hwpts = &self.manifest.plan.hwpts;
        let of_it = (0..hwpts.len()).filter(|index| hwpts[*index].iommufd == number);
        let noted: Vec<_> = of_it
            .filter_map(|index| self.notes.restored(index))
            .collect();
        only(|id| {
            let id = HwptId(id);
            if noted.contains(&id) {
                return Ok(None);
            }
            // Only a restored HWPT has a list.
            match iommufd.hwpt_liveupdate_mappings(id) {
                Ok(_) => Ok(Some(id)),
                Err(error) if error.errno == Errno::NOENT => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    fn lost(&self, kind: Kind, index: usize) -> Error {
        let plan = &self.manifest.plan;
        let name = match kind {
            Kind::Device => plan.devices[index].name.clone(),
            _ => plan.hwpts[index].name.clone(),
        };
        Error::Lost { kind, name }
    }
}

/// What is found for one id, if it is for one only.
fn only<T>(
    mut find: impl FnMut(u32) -> hitless_uapi::Result<Option<T>>,
) -> hitless_uapi::Result<Option<T>> {
    let mut found = None;
    for id in 1..IDS {
        if let Some(other) = find(id)? {
            if found.replace(other).is_some() {
                return Ok(None);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_found_once_is_found() {
        let of = |ids: &'static [u32]| only(move |id| Ok(ids.contains(&id).then_some(id)));
        assert_eq!(of(&[7]), Ok(Some(7)));
        assert_eq!((of(&[]), of(&[7, 9])), (Ok(None), Ok(None)));
        let refused = hitless_uapi::Error::new("call", Errno::IO);
        assert_eq!(only::<u32>(|_| Err(refused.clone())), Err(refused.clone()));
    }
}
