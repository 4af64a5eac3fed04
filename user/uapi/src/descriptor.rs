// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Descriptors that the kernel hands out inside a structure.
#![expect(
    unsafe_code,
    reason = "a number the kernel wrote becomes an owned descriptor"
)]

use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::ioctl::{self, Argument};

/// An ioctl's argument in which the kernel answers a descriptor.
///
/// # Safety
///
/// When the ioctl has succeeded, [`Answers::descriptor`] is negative, or a descriptor that the kernel has just installed
/// and that nothing else owns.
pub(crate) unsafe trait Answers: Argument {
    /// What the kernel wrote.
    fn descriptor(&self) -> i32;
}

/// Makes the call and takes the descriptor.
pub(crate) fn call<A: Answers>(fd: impl AsFd, mut argument: A) -> Result<OwnedFd> {
    ioctl::call(fd, &mut argument)?;
    let number = argument.descriptor();
    if number < 0 {
        return Err(Error::on(
            A::NAME,
            format!("the kernel answered descriptor {number}"),
            Errno::BADF,
        ));
    }
    // SAFETY: the ioctl has succeeded, the number is not negative, and the argument has been moved in here: by `Answers`'
    // contract nothing else owns the descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
