// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Orders to the guest program over the machine's second serial port.
//!
//! The socket lives as long as QEMU does, so it goes through the jump: the next kernel's guest program says hello on
//! the same one.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{anyhow, Context, Result};
use hitless_proto::tally::Tally;
use hitless_proto::{Answer, Command, Failure, Order, Report, MARGIN};
use thiserror::Error;

use crate::machine::clock::{as_ms, Clock, Ns};
use crate::machine::console::Console;
use crate::machine::pace::Pace;
use crate::machine::priority::hurry;
use crate::machine::process::{death, Process};
use crate::trouble::Trouble;

/// How often a wait looks whether the kernel has panicked.
const LOOK: Duration = Duration::from_millis(20);
/// How long a kernel may take from start to hello: many times as long as the slowest one on the reference host.
const BOOT_LIMIT: Duration = Duration::from_secs(120);
/// How long the console's last words may come after the machine's end.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Why an order has no answer.
#[derive(Debug, Error)]
pub enum OrderError {
    /// The guest carried it out and it failed there.
    #[error("{command}: {}", .failure.what)]
    Refused {
        /// The order.
        command: String,
        /// What the guest says of it.
        failure: Failure,
    },
    /// The machine can not answer any more.
    #[error("{0}")]
    Machine(anyhow::Error),
}

impl OrderError {
    /// The errno of a refusal.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { failure, .. } => failure.errno,
            Self::Machine(_) => None,
        }
    }
}

/// An answered order.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The answer.
    pub answer: Answer,
}

/// A guest's first words after a boot.
#[derive(Clone, Debug)]
pub struct Hello {
    /// When they were heard.
    pub at: Ns,
    /// `uname -r` and `uname -v`.
    pub kernel: String,
}

/// The guest program of a running machine.
#[derive(Debug)]
pub struct Guest {
    writer: UnixStream,
    reports: Receiver<(Ns, Report)>,
    console: Console,
    /// QEMU, whose end tells why nothing is heard any more.
    process: Option<Process>,
    clock: Clock,
    next: u64,
    log: String,
    patience: Duration,
    /// What this host does of it.
    pace: Option<Pace>,
}

impl Guest {
    /// Talks over `socket`.
    pub fn new(
        socket: UnixStream,
        console: Console,
        clock: Clock,
        process: Option<Process>,
    ) -> Result<Self> {
        let reader = socket
            .try_clone()
            .context("the control socket can not be duplicated")?;
        let (sender, reports) = mpsc::channel();
        std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                hurry();
                for line in BufReader::new(reader).split(b'\n') {
                    let Ok(line) = line else { break };
                    // Anything else than a report is noise of a port that is being set up.
                    if let Ok(report) = serde_json::from_slice(&line) {
                        if sender.send((clock.now(), report)).is_err() {
                            break;
                        }
                    }
                }
            })
            .context("no thread for the control socket")?;
        Ok(Self {
            writer: socket,
            reports,
            console,
            process,
            clock,
            next: 1,
            log: String::new(),
            patience: Duration::MAX,
            pace: None,
        })
    }

    /// Waits no longer than this for anything from now on.
    pub fn wait_at_most(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Waits longer for orders, as this host needs it.
    pub fn keep_pace(&mut self, pace: Pace) {
        self.pace = Some(pace);
    }

    /// Waits for the guest program of a kernel that is booting.
    pub fn wait_hello(&mut self) -> Result<Hello> {
        let start = Instant::now();
        loop {
            match self.receive("the guest's hello", start, BOOT_LIMIT)? {
                (
                    at,
                    Report::Hello {
                        release, version, ..
                    },
                ) => {
                    let kernel = format!("{release} {version}");
                    self.note(at, &format!("hello from {kernel}"));
                    return Ok(Hello { at, kernel });
                }
                (at, other) => self.note(at, &format!("unexpected: {other:?}")),
            }
        }
    }

    /// Gives an order and waits for its report.
    ///
    /// # Errors
    ///
    /// [`OrderError`].
    pub fn order(&mut self, command: Command) -> Result<Reply, OrderError> {
        let limit = command.limit() + MARGIN;
        let (id, _, name) = self.send(command).map_err(OrderError::Machine)?;
        let start = Instant::now();
        loop {
            let (done, report) = self
                .receive(&name, start, limit)
                .map_err(OrderError::Machine)?;
            match report {
                Report::Done {
                    id: of,
                    answer,
                    took_ns,
                } if of == id => {
                    self.note(
                        done,
                        &format!("done in {:.3} ms: {answer:?}", as_ms(took_ns)),
                    );
                    return Ok(Reply { answer });
                }
                Report::Failed {
                    id: of, failure, ..
                } if of == id => {
                    self.note(done, &format!("failed: {failure:?}"));
                    return Err(OrderError::Refused {
                        command: name,
                        failure,
                    });
                }
                Report::Hello { version, .. } => {
                    return Err(OrderError::Machine(anyhow!(
                        "the machine started anew ({version}) during {name}: see its console"
                    )))
                }
                other => self.note(done, &format!("unexpected: {other:?}")),
            }
        }
    }

    /// The jump: returns when it was ordered and the next kernel's hello.
    ///
    /// # Errors
    ///
    /// [`OrderError::Refused`] when the old kernel refused it and goes on.
    pub fn kexec(&mut self) -> Result<(Ns, Hello), OrderError> {
        let (id, sent, name) = self.send(Command::Kexec).map_err(OrderError::Machine)?;
        let start = Instant::now();
        loop {
            let (at, report) = self
                .receive(&name, start, BOOT_LIMIT)
                .map_err(OrderError::Machine)?;
            match report {
                Report::Hello {
                    release, version, ..
                } => {
                    let kernel = format!("{release} {version}");
                    self.note(at, &format!("hello from {kernel}"));
                    return Ok((sent, Hello { at, kernel }));
                }
                Report::Failed {
                    id: of, failure, ..
                } if of == id => {
                    self.note(at, &format!("failed: {failure:?}"));
                    return Err(OrderError::Refused {
                        command: name,
                        failure,
                    });
                }
                other => self.note(at, &format!("unexpected: {other:?}")),
            }
        }
    }

    /// How the guest says a card's frames stand.
    ///
    /// # Errors
    ///
    /// [`OrderError`].
    pub fn count(&mut self, card: u8) -> Result<Tally, OrderError> {
        match self.order(Command::Frames { card })?.answer {
            Answer::Frames { tally } => Ok(tally),
            other => Err(OrderError::Machine(anyhow!(
                "the guest answers {other:?} to Frames: lab and guest are of different builds"
            ))),
        }
    }

    /// Everything said so far, with times.
    pub fn log(&self) -> &str {
        &self.log
    }

    fn note(&mut self, at: Ns, text: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.log, "[{:10.3} ms] {text}", as_ms(at));
    }

    fn send(&mut self, command: Command) -> Result<(u64, Ns, String)> {
        let id = self.next;
        self.next += 1;
        let name = short(&command);
        let mut line = serde_json::to_string(&Order { id, command })
            .context("an order can not be written as JSON")?;
        line.push('\n');
        let sent = self.clock.now();
        self.note(sent, &format!("order {id}: {name}"));
        self.writer
            .write_all(line.as_bytes())
            .map_err(|error| self.ended(&name, &error.to_string()))?;
        Ok((id, sent, name))
    }

    fn receive(&mut self, what: &str, start: Instant, limit: Duration) -> Result<(Ns, Report)> {
        let limit = self.pace.map_or(limit, |pace| pace.patience(limit));
        let limit = limit.min(self.patience);
        loop {
            match self.reports.recv_timeout(LOOK) {
                Ok(report) => return Ok(report),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.ended(what, "the port is closed"))
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Some(hang) = self.console.hang() {
                // The rest of the kernel's report is worth a moment.
                std::thread::sleep(LAST_WORDS);
                return Err(self.gone(what, kernel_says(&hang)));
            }
            if start.elapsed() > limit {
                let silence = Trouble::new(
                    format!("nothing was heard for {} s", limit.as_secs()),
                    "the console's and the orders' logs (console.log, control.log) tell where the machine stands still; on a \
                     busy host run again when it has less to do",
                );
                return Err(self.gone(what, silence));
            }
        }
    }

    /// The machine is gone. A kernel that panics reboots, which ends it: then the panic is the reason. Otherwise QEMU's
    /// own end is.
    fn ended(&mut self, what: &str, how: &str) -> anyhow::Error {
        let start = Instant::now();
        let status = || self.process.as_ref().and_then(Process::ended);
        while start.elapsed() < LAST_WORDS && !(self.console.has_ended() && status().is_some()) {
            std::thread::sleep(LOOK);
        }
        let why = match (self.console.hang(), status()) {
            (Some(hang), _) => kernel_says(&hang),
            (None, Some(status)) => death(status),
            (None, None) => Trouble::new(
                format!("the machine says nothing more ({how})"),
                "console.log and qemu-stderr.log among the logs tell how far it came",
            ),
        };
        self.gone(what, why)
    }

    fn gone(&mut self, what: &str, why: Trouble) -> anyhow::Error {
        let at = self.clock.now();
        let Trouble { cause, remedy } = why;
        self.note(at, &format!("waiting for {what}: {cause}"));
        let tail = match self.console.tail(30).trim_end() {
            "" => "The console is empty".to_owned(),
            lines => format!("The console's last lines:\n{lines}"),
        };
        Trouble::new(format!("waiting for {what}: {cause}. {tail}"), remedy).into()
    }
}

fn kernel_says(hang: &str) -> Trouble {
    Trouble::new(
        format!("the kernel says: {hang}"),
        "the whole console is in console.log among the logs; `cargo lab test --vm-only debug::` runs a kernel that looks \
         closer, and `cargo lab demo --control` the same kernel with hitless off",
    )
}

/// A command in few words, for errors and the log.
fn short(command: &Command) -> String {
    let text = format!("{command:?}");
    let name = text.replace(" { ", "(").replace(" }", ")");
    match name.char_indices().nth(160) {
        Some((at, _)) => format!("{}...", &name[..at]),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guest that says the lines, one after each order.
    fn guest(lines: &'static [&'static str]) -> (Guest, Console) {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        std::thread::spawn(move || {
            let mut writer = theirs.try_clone().expect("duplicate");
            let mut orders = BufReader::new(theirs).lines();
            for line in lines {
                orders.next();
                writer.write_all(line.as_bytes()).expect("written");
            }
            orders.next();
        });
        let console = Console::default();
        let guest = Guest::new(ours, console.clone(), Clock::start(), None).expect("a guest");
        (guest, console)
    }

    #[test]
    fn noise_before_a_report_is_skipped() {
        let (mut guest, _) = guest(&[
            "login: \u{0}\n{\"report\":\"done\",\"id\":1,\"answer\":{\"is\":\"ok\"},\"took_ns\":5}\n",
        ]);
        let reply = guest.order(Command::FreeMemory).expect("an answer");
        assert_eq!(reply.answer, Answer::Ok);
    }

    #[test]
    fn a_refusal_keeps_its_errno() {
        let (mut guest, _) = guest(&[
            "{\"report\":\"failed\",\"id\":1,\"failure\":{\"what\":\"finish: busy\",\"errno\":16},\"took_ns\":5}\n",
        ]);
        let error = guest
            .order(Command::Finish {
                session: "s".to_owned(),
            })
            .expect_err("refused");
        assert_eq!(error.errno(), Some(16));
        assert!(error.to_string().contains("busy"), "{error}");
    }

    #[test]
    fn a_panic_ends_the_wait() {
        let (mut guest, console) = guest(&["", ""]);
        console.add(0, "Kernel panic - not syncing: test".to_owned());
        let error = guest.order(Command::FreeMemory).expect_err("a panic");
        assert!(error.to_string().contains("not syncing"), "{error}");
        assert_eq!(error.errno(), None);
    }

    #[test]
    fn a_machine_that_ends_by_a_panic_is_told_with_it() {
        let (mut guest, console) = guest(&[]);
        // The first report of the end finds no panic on the console yet.
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(60));
            console.add(0, "Kernel panic - not syncing: late".to_owned());
        });
        let error = guest.order(Command::FreeMemory).expect_err("a panic");
        assert!(error.to_string().contains("not syncing: late"), "{error}");
        late.join().expect("the console");
    }

    #[test]
    fn a_silent_machine_is_waited_for_no_longer_than_asked() {
        let (mut guest, _) = guest(&["", ""]);
        guest.wait_at_most(Duration::from_secs(1));
        let error = guest.order(Command::FreeMemory).expect_err("silence");
        assert!(error.to_string().contains("heard for 1 s"), "{error}");
    }

    #[test]
    fn a_machine_that_ends_is_told() {
        let (mut guest, _) = guest(&[]);
        let error = guest.order(Command::FreeMemory).expect_err("gone");
        assert!(matches!(error, OrderError::Machine(_)));
        assert!(error.to_string().contains("what to do: "), "{error}");
    }

    #[test]
    fn a_jump_ends_with_the_next_hello() {
        let (mut guest, _) =
            guest(&["{\"report\":\"hello\",\"release\":\"7.3.4\",\"version\":\"#2 SMP\"}\n"]);
        let (_, hello) = guest.kexec().expect("a hello");
        assert_eq!(hello.kernel, "7.3.4 #2 SMP");
    }
}
