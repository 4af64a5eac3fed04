// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Descriptors that the kernel hands out inside a structure.
#![expect(
    unsafe_code,
    reason = "a number the kernel wrote becomes an owned descriptor"
)]

use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::error::{Error, Result};

/// A descriptor number that a successful ioctl has just written.
///
/// It can be made only by naming the call, so that the one unsafe line below has a short list of users: LUO's
/// create session, retrieve session and retrieve fd.
pub(crate) fn owned(call: &'static str, number: i32) -> Result<OwnedFd> {
    if number < 0 {
        return Err(Error::on(
            call,
            format!("the kernel answered descriptor {number}"),
            Errno::BADF,
        ));
    }
    // SAFETY: the callers pass the `fd` field of a structure after the ioctl has succeeded, and the kernel has
    // installed a fresh descriptor there (include/uapi/linux/liveupdate.h), which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
