// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `IommuFd` of the crate `iommufd-ioctls`.

use std::fs::File;
use std::os::fd::AsFd;

use iommufd_ioctls::IommuFd;

use crate::collect::Collected;
use crate::convert::descriptor;
use crate::error::{at, Error, Kind, Object, Step};
use crate::incoming::{Incoming, Stage};

impl Collected {
    /// An iommufd, as [`Collected::iommufd`].
    ///
    /// # Errors
    ///
    /// Those of [`Collected::iommufd`] and of [`descriptor`].
    pub fn iommu_fd(self, name: &str, iommufd: &IommuFd) -> Result<Self, Error> {
        self.iommufd(name, descriptor(iommufd)?)
    }
}

impl<S: Stage> Incoming<S> {
    /// An iommufd with a descriptor of its own.
    ///
    /// # Errors
    ///
    /// Those of [`Incoming::iommufd`], and of duplicating a descriptor.
    pub fn iommu_fd(&self, name: &str) -> Result<IommuFd, Error> {
        convert(self.iommufd(name)?, name)
    }
}

fn convert(iommufd: impl AsFd, name: &str) -> Result<IommuFd, Error> {
    let object = || Object::Named(Kind::Iommufd, name.to_owned());
    let copy = iommufd.as_fd().try_clone_to_owned();
    let copy = copy
        .map_err(|error| hitless_uapi::Error::from_io("F_DUPFD_CLOEXEC", "", &error))
        .map_err(at(Step::Retrieve, object))?;
    Ok(IommuFd::new_from_fd(File::from(copy)))
}

#[test]
fn an_iommufd_is_the_same_file_there_and_back() {
    let inode = |file: &dyn std::os::fd::AsRawFd| {
        let copy = descriptor(&file.as_raw_fd()).expect("a duplicate");
        rustix::fs::fstat(copy).expect("its inode").st_ino
    };
    let file = tempfile::tempfile().expect("a file");
    let theirs = convert(&file, "iommu").expect("a duplicate");
    assert_eq!(inode(&theirs), inode(&file));
    Collected::new("vm")
        .iommu_fd("iommu", &theirs)
        .expect("added");
}
