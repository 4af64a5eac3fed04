// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The second serial port: orders in, reports out, one at a time and each with a time limit.
//!
//! Orders run on a thread of their own. When one takes longer than its limit the lab is told so by name, and every
//! later order is refused until it has come back: a guest that hangs in the kernel still answers.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Instant;

use anyhow::{Context, Result};
use hitless_proto::{Answer, Command, Failure, Order, Report};
use rustix::fs::{Mode, OFlags};
use rustix::termios::OptionalActions;

use crate::orders::Machine;

const PORT: &str = "/dev/ttyS1";

/// The order that is being obeyed, for a panic's report.
static CURRENT: AtomicU64 = AtomicU64::new(0);

/// Obeys until the machine is switched off.
pub(crate) fn serve() -> Result<()> {
    let mut port = open()
        .with_context(|| format!("opening {PORT}: the machine needs a second serial port"))?;
    let orders = BufReader::new(port.try_clone().context("duplicating the serial port")?);
    send(&mut port, &hello())?;

    let mut worker = Worker::start()?;
    for line in orders.lines() {
        let line = line.context("reading an order")?;
        if line.trim().is_empty() {
            continue;
        }
        let report = match serde_json::from_str(&line) {
            Ok(order) => worker.obey(order),
            Err(error) => failed(
                order_id(&line),
                format!("not an order: {error}: lab and guest must be of one build"),
            ),
        };
        send(&mut port, &report)?;
    }
    anyhow::bail!("{PORT} was closed from outside")
}

/// The thread on which orders run, seen from the one that waits for it.
struct Worker {
    give: Sender<Command>,
    results: Receiver<Result<Answer>>,
    /// The order that did not come back in its time.
    stuck: Option<u64>,
}

impl Worker {
    fn start() -> Result<Self> {
        let (give, take) = mpsc::channel::<Command>();
        let (put, results) = mpsc::channel();
        std::thread::Builder::new()
            .name("orders".to_owned())
            .spawn(move || {
                let mut machine = Machine::default();
                for command in take {
                    if put.send(machine.obey(&command)).is_err() {
                        break;
                    }
                }
            })
            .context("starting the thread that obeys")?;
        Ok(Self {
            give,
            results,
            stuck: None,
        })
    }

    /// Has an order obeyed, and waits for it no longer than its limit.
    fn obey(&mut self, Order { id, command }: Order) -> Report {
        if let Some(before) = self.stuck {
            if self.results.try_recv().is_err() {
                return failed(id, format!("order {before} is still running"));
            }
            // It came back after all, too late to be reported.
            self.stuck = None;
        }
        CURRENT.store(id, Ordering::Relaxed);
        let began = Instant::now();
        let limit = command.limit();
        let name = format!("{command:?}");
        let result = match self.give.send(command) {
            Ok(()) => self.results.recv_timeout(limit),
            Err(_) => Err(RecvTimeoutError::Disconnected),
        };
        let took_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        match result {
            Ok(Ok(answer)) => Report::Done {
                id,
                answer,
                took_ns,
            },
            Ok(Err(error)) => Report::Failed {
                id,
                failure: failure(&error),
                took_ns,
            },
            Err(_) => {
                self.stuck = Some(id);
                failed(id, format!("timed out after {} s: {name}", limit.as_secs()))
            }
        }
    }
}

/// An order that did not come to the kernel, or not back from it.
fn failed(id: u64, what: String) -> Report {
    Report::Failed {
        id,
        failure: Failure { what, errno: None },
        took_ns: 0,
    }
}

/// Tells the lab of a panic, over a descriptor of its own: whoever panicked may hold everything else.
pub(crate) fn report_panic(what: &str) {
    eprintln!("guest: {what}");
    if let Ok(mut port) = open_port() {
        let report = failed(
            CURRENT.load(Ordering::Relaxed),
            format!("the guest program panicked: {what}"),
        );
        let _ = send(&mut port, &report);
    }
}

fn open() -> Result<File> {
    let port = open_port()?;
    let mut settings = rustix::termios::tcgetattr(&port)?;
    settings.make_raw();
    rustix::termios::tcsetattr(&port, OptionalActions::Now, &settings)?;
    Ok(port)
}

fn open_port() -> Result<File> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(PORT, flags, Mode::empty())?.into())
}

fn send(port: &mut File, report: &Report) -> Result<()> {
    let mut line = serde_json::to_vec(report).context("writing a report as JSON")?;
    line.push(b'\n');
    port.write_all(&line).context("sending a report")
}

fn hello() -> Report {
    let uname = rustix::system::uname();
    Report::Hello {
        release: uname.release().to_string_lossy().into_owned(),
        version: uname.version().to_string_lossy().into_owned(),
    }
}

/// The number of an order that could not be understood, so that the lab need not wait for its time to run out.
fn order_id(line: &str) -> u64 {
    serde_json::from_str::<serde_json::Value>(line)
        .ok()
        .and_then(|value| value.get("id")?.as_u64())
        .unwrap_or(0)
}

fn failure(error: &anyhow::Error) -> Failure {
    let errno = error.chain().find_map(|cause| {
        cause
            .downcast_ref::<hitless_uapi::Error>()
            .map(|error| error.errno.raw_os_error())
            .or_else(|| {
                cause
                    .downcast_ref::<rustix::io::Errno>()
                    .map(|errno| errno.raw_os_error())
            })
            .or_else(|| {
                cause
                    .downcast_ref::<std::io::Error>()
                    .and_then(std::io::Error::raw_os_error)
            })
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
        let refused = hitless_uapi::Error::new("IOMMU_DESTROY", rustix::io::Errno::BUSY);
        let told = failure(&anyhow::Error::from(refused).context("destroying the old page table"));
        assert_eq!(told.errno, Some(16));
        assert!(
            told.what
                .starts_with("destroying the old page table: IOMMU_DESTROY"),
            "{}",
            told.what
        );
        assert_eq!(failure(&anyhow::anyhow!("no")).errno, None);
        let io = std::io::Error::from_raw_os_error(2);
        assert_eq!(
            failure(&anyhow::Error::from(io).context("reading")).errno,
            Some(2)
        );
    }

    #[test]
    fn an_unknown_order_is_answered_under_its_number() {
        assert_eq!(order_id(r#"{"id": 7, "command": {"do": "dance"}}"#), 7);
        assert_eq!(order_id("nonsense"), 0);
    }
}
