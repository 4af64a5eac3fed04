// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The second serial port: orders in, reports out, one at a time and each with a time limit.
//!
//! Orders run on a thread of their own. When one takes longer than its limit the lab is told so by name, and every
//! later order but `PowerOff` is refused: a guest that hangs in the kernel still answers.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hitless_proto::{Answer, Command, Failure, Order, Report};
use rustix::fs::{Mode, OFlags};
use rustix::termios::OptionalActions;
use rustix::time::ClockId;

use crate::init;
use crate::orders::Machine;

const PORT: &str = "/dev/ttyS1";

/// The order that is being obeyed, for a panic's report.
static CURRENT: AtomicU64 = AtomicU64::new(0);

/// Obeys until the machine is switched off.
pub(crate) fn serve() -> Result<()> {
    let mut port = open()
        .with_context(|| format!("opening {PORT}: the machine needs a second serial port"))?;
    let orders = BufReader::new(port.try_clone().context("duplicating the serial port")?);
    send(&mut port, &hello()?)?;

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

    let mut stuck: Option<u64> = None;
    for line in orders.lines() {
        let line = line.context("reading an order")?;
        if line.trim().is_empty() {
            continue;
        }
        let order: Order = match serde_json::from_str(&line) {
            Ok(order) => order,
            Err(error) => {
                let what = format!("not an order: {error}: lab and guest must be of one build");
                let failure = Failure { what, errno: None };
                send(
                    &mut port,
                    &Report::Failed {
                        id: order_id(&line),
                        failure,
                        took_ns: 0,
                    },
                )?;
                continue;
            }
        };
        if order.command == Command::PowerOff {
            send(
                &mut port,
                &Report::Done {
                    id: order.id,
                    answer: Answer::Ok,
                    took_ns: 0,
                },
            )?;
            init::power_off();
        }
        if let Some(before) = stuck {
            if results.try_recv().is_err() {
                let what = format!("order {before} is still running: only power_off is left");
                let failure = Failure { what, errno: None };
                send(
                    &mut port,
                    &Report::Failed {
                        id: order.id,
                        failure,
                        took_ns: 0,
                    },
                )?;
                continue;
            }
            // It came back after all, too late to be reported.
            stuck = None;
        }
        CURRENT.store(order.id, Ordering::Relaxed);
        let began = Instant::now();
        let limit = limit(&order.command);
        let name = format!("{:?}", order.command);
        let result = match give.send(order.command) {
            Ok(()) => results.recv_timeout(limit),
            Err(_) => Err(RecvTimeoutError::Disconnected),
        };
        let took_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let report = match result {
            Ok(Ok(answer)) => Report::Done {
                id: order.id,
                answer,
                took_ns,
            },
            Ok(Err(error)) => Report::Failed {
                id: order.id,
                failure: failure(&error),
                took_ns,
            },
            Err(_) => {
                stuck = Some(order.id);
                let what = format!("timed out after {} s: {name}", limit.as_secs());
                Report::Failed {
                    id: order.id,
                    failure: Failure { what, errno: None },
                    took_ns,
                }
            }
        };
        send(&mut port, &report)?;
    }
    anyhow::bail!("{PORT} was closed from outside")
}

/// Tells the lab of a panic, over a descriptor of its own: whoever panicked may hold everything else.
pub(crate) fn report_panic(what: &str) {
    eprintln!("guest: {what}");
    if let Ok(mut port) = open_port() {
        let failure = Failure {
            what: format!("the guest program panicked: {what}"),
            errno: None,
        };
        let _ = send(
            &mut port,
            &Report::Failed {
                id: CURRENT.load(Ordering::Relaxed),
                failure,
                took_ns: 0,
            },
        );
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

fn hello() -> Result<Report> {
    let uname = rustix::system::uname();
    let boot = rustix::time::clock_gettime(ClockId::Boottime);
    let boot = Duration::try_from(boot).unwrap_or_default();
    Ok(Report::Hello {
        release: uname.release().to_string_lossy().into_owned(),
        version: uname.version().to_string_lossy().into_owned(),
        cmdline: std::fs::read_to_string("/proc/cmdline")
            .context("reading /proc/cmdline")?
            .trim()
            .to_owned(),
        boot_ns: u64::try_from(boot.as_nanos()).unwrap_or(u64::MAX),
    })
}

/// The number of an order that could not be understood, so that the lab need not wait for its time to run out.
fn order_id(line: &str) -> u64 {
    serde_json::from_str::<serde_json::Value>(line)
        .ok()
        .and_then(|value| value.get("id")?.as_u64())
        .unwrap_or(0)
}

/// The longest an order may take, also on a slow machine that emulates every instruction.
fn limit(command: &Command) -> Duration {
    let seconds = match command {
        Command::FillMemory { .. } => 300,
        Command::Compact { rounds } => 30 + 30 * u64::from(*rounds),
        Command::Swaps {
            count, pause_us, ..
        } => 60 + u64::from(*count) * (200_000 + pause_us) / 1_000_000,
        Command::Run { .. } => crate::orders::RUN_LIMIT.as_secs() + 10,
        Command::LoadKernel { .. } | Command::Start { .. } | Command::Kexec => 60,
        _ => 30,
    };
    Duration::from_secs(seconds)
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
