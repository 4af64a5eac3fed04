// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Eventfds, by which interrupts are signalled.

use std::os::fd::AsFd;

use rustix::event::{poll, PollFd, PollFlags, Timespec};

use crate::error::{Error, Result};

/// Signals an eventfd once. One whose counter is full has been signalled already, and is left as it is: to write to it would
/// wait for somebody to read it, and who has got it from somebody else does not know whether anybody will.
///
/// # Errors
///
/// Those of poll(2) and write(2): `EINVAL` when it is no eventfd, for example.
#[doc(alias = "eventfd_write")]
pub fn signal(eventfd: impl AsFd) -> Result<()> {
    let mut ready = [PollFd::new(&eventfd, PollFlags::OUT)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut ready, Some(&at_once)).map_err(|errno| Error::on("poll", "eventfd", errno))?;
    if !ready[0].revents().contains(PollFlags::OUT) {
        return Ok(());
    }
    rustix::io::write(&eventfd, &1_u64.to_ne_bytes())
        .map_err(|errno| Error::on("write", "eventfd", errno))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_counter_is_no_reason_to_wait() {
        let eventfd = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC);
        let eventfd = eventfd.expect("an eventfd");
        signal(&eventfd).expect("to signal");
        signal(&eventfd).expect("to signal again");
        let read = || {
            let mut count = [0; 8];
            rustix::io::read(&eventfd, &mut count).expect("a count");
            u64::from_ne_bytes(count)
        };
        assert_eq!(read(), 2);
        let full = u64::MAX - 1;
        rustix::io::write(&eventfd, &full.to_ne_bytes()).expect("to fill it");
        signal(&eventfd).expect("not to wait");
        assert_eq!(read(), full);
    }
}
