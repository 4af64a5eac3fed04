// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The second serial port: orders in, reports out, one at a time. The lab limits the time that an order takes.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::time::Instant;

use anyhow::{Context, Result};
use hitless_proto::{Failure, Order, Report};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::OptionalActions;

use crate::line::send;
use crate::orders::Machine;

const PORT: &str = "/dev/ttyS1";

/// Obeys until the machine is switched off.
pub(crate) fn serve() -> Result<()> {
    let mut port = open()
        .with_context(|| format!("opening {PORT}: the machine needs a second serial port"))?;
    let orders = BufReader::new(port.try_clone().context("duplicating the serial port")?);
    let uname = rustix::system::uname();
    let [release, version] = [uname.release(), uname.version()].map(|name| name.to_string_lossy());
    send(&mut port, &Report::Hello(format!("{release} {version}")))?;

    obey(orders, port)?;
    anyhow::bail!("{PORT} was closed from outside")
}

/// Obeys the first process, as another one.
pub(crate) fn serve_first() -> Result<()> {
    obey(std::io::stdin().lock(), std::io::stdout().lock())
}

/// Obeys until nobody is there any more to give orders.
fn obey(orders: impl BufRead, mut reports: impl Write) -> Result<()> {
    let mut machine = Machine::default();
    for line in orders.lines() {
        let line = line.context("reading an order")?;
        let Order { id, command } = serde_json::from_str(&line).with_context(|| {
            format!("`{line}` is not an order: lab and guest must be of one build")
        })?;
        let began = Instant::now();
        let result = machine.obey(command).map_err(|error| failure(&error));
        let took_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let done = Report::Done {
            id,
            result,
            took_ns,
        };
        send(&mut reports, &done)?;
    }
    Ok(())
}

fn open() -> Result<File> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let port = rustix::fs::open(PORT, flags, Mode::empty())?;
    let mut settings = rustix::termios::tcgetattr(&port)?;
    settings.make_raw();
    rustix::termios::tcsetattr(&port, OptionalActions::Now, &settings)?;
    Ok(port.into())
}

fn failure(error: &anyhow::Error) -> Failure {
    let errno = error.chain().find_map(|cause| {
        let of_call = cause.downcast_ref::<hitless_uapi::Error>();
        let of_step = cause.downcast_ref().and_then(hitless_vmm::Error::errno);
        let of_call = of_call.map(|error| error.errno).or(of_step);
        match of_call.or(cause.downcast_ref().copied()) {
            Some(errno) => Some(Errno::raw_os_error(errno)),
            None => cause.downcast_ref::<std::io::Error>()?.raw_os_error(),
        }
    });
    Failure {
        what: format!("{error:#}"),
        errno,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_the_errno_of_any_cause() {
        let refused = hitless_uapi::Error::new("IOMMU_DESTROY", Errno::BUSY);
        let file = std::io::Error::from_raw_os_error(2);
        for (error, errno) in [
            (refused.into(), Some(16)),
            (Errno::BUSY.into(), Some(16)),
            (file.into(), Some(2)),
            (anyhow::anyhow!("no"), None),
        ] {
            let words = format!("in vain: {error}");
            let told = failure(&anyhow::Error::context(error, "in vain"));
            assert_eq!((told.errno, told.what), (errno, words));
        }
    }
}
