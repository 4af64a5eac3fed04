// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `VfioDevice` of the crate `vfio-ioctls`, in its iommufd mode.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

use vfio_ioctls::{VfioDevice, VfioIommufd};

use crate::collect::Collected;
use crate::convert::descriptor;
use crate::error::{at, Error, Kind, Object, Step};
use crate::incoming::{Bound, Finished, Incoming, Rebuilt, Swapped};

impl Collected {
    /// A device, as [`Collected::device`]. It must have been opened without being attached to the IOAS of its
    /// `VfioIommufd`, and be attached to a HWPT by `attach_hwpt`.
    ///
    /// # Errors
    ///
    /// Those of [`Collected::device`] and of [`descriptor`].
    pub fn vfio_device(self, name: &str, device: &VfioDevice, hwpt: &str) -> Result<Self, Error> {
        self.device(name, descriptor(device)?, hwpt)
    }
}

macro_rules! convert {
    ($($state:ty),*) => {$(
        impl Incoming<$state> {
            /// A bound device with a descriptor of its own. `iommufd` is made of the iommufd that the device is bound to. The
            /// device is not reset; it stays attached to what it is attached to, and not to the IOAS of `iommufd`.
            ///
            /// # Errors
            ///
            /// [`Error::Unknown`]; those of duplicating a descriptor; [`Error::VfioIoctls`].
            pub fn vfio_device(&self, name: &str, iommufd: Arc<VfioIommufd>) -> Result<VfioDevice, Error> {
                convert(self.device(name)?, name, iommufd)
            }
        }
    )*};
}

convert!(Bound, Rebuilt, Swapped, Finished);

fn convert(device: impl AsFd, name: &str, iommufd: Arc<VfioIommufd>) -> Result<VfioDevice, Error> {
    let object = || Object::Named(Kind::Device, name.to_owned());
    let copy = device.as_fd().try_clone_to_owned();
    let copy = copy
        .map_err(|error| hitless_uapi::Error::from_io("F_DUPFD_CLOEXEC", "", &error))
        .map_err(at(Step::Retrieve, object))?;
    VfioDevice::new_from_bound_fd(File::from(copy), iommufd, false).map_err(|error| {
        Error::VfioIoctls {
            device: name.to_owned(),
            why: error.to_string(),
        }
    })
}
