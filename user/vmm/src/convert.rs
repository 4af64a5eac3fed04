// SPDX-License-Identifier: Apache-2.0 OR MIT
//! To and from the types of rust-vmm's crates, one module for each, behind a feature of its name.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::process::{getpid, pidfd_getfd, pidfd_open, PidfdFlags, PidfdGetfdFlags};

use crate::error::{at, Error, Object, Step};

#[cfg(feature = "iommufd-ioctls")]
mod iommufd_ioctls;
#[cfg(feature = "vfio-ioctls")]
mod vfio_ioctls;
#[cfg(feature = "vm-memory")]
mod vm_memory;

/// A duplicate of the descriptor of something that tells its number only, as many types of rust-vmm do: for example an
/// `EventFd` that [`Collected::interrupts`](crate::Collected::interrupts) wants.
///
/// It asks the kernel for its own process's descriptor by pidfd_getfd(2), which a seccomp filter has to allow.
///
/// ```
/// let file = std::fs::File::open("/proc/self/stat")?;
/// let copy = hitless_vmm::descriptor(&file).expect("a duplicate");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Refused`] with `EBADF` when there is no such descriptor, and those of pidfd_getfd(2).
pub fn descriptor(file: &impl AsRawFd) -> Result<OwnedFd, Error> {
    let number = file.as_raw_fd();
    let duplicate = pidfd_open(getpid(), PidfdFlags::empty())
        .and_then(|own| pidfd_getfd(own, number, PidfdGetfdFlags::empty()));
    let subject = format!("descriptor {number}");
    duplicate
        .map_err(|errno| hitless_uapi::Error::on("pidfd_getfd", subject, errno))
        .map_err(at(Step::Collect, || Object::Descriptor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    struct Number(i32);

    impl AsRawFd for Number {
        fn as_raw_fd(&self) -> i32 {
            self.0
        }
    }

    #[test]
    fn a_number_becomes_a_descriptor_of_the_same_file() {
        let file = tempfile::tempfile().expect("a file");
        let copy = descriptor(&file).expect("a duplicate");
        let [one, other] = [
            rustix::fs::fstat(&file).expect("its inode"),
            rustix::fs::fstat(&copy).expect("its inode"),
        ];
        assert_eq!((one.st_dev, one.st_ino), (other.st_dev, other.st_ino));
        assert_ne!(file.as_raw_fd(), copy.as_raw_fd());
        let error = descriptor(&Number(9999)).expect_err("no descriptor");
        assert_eq!(error.errno(), Some(Errno::BADF));
    }
}
