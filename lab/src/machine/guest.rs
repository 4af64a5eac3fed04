// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Orders to the guest program over the machine's second serial port.
//!
//! The socket lives as long as QEMU does, so it goes through the jump: the next kernel's guest program says hello on
//! the same one.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{anyhow, Context, Result};
use hitless_proto::tally::Tally;
use hitless_proto::{Answer, Command, Failure, Order, Report};
use thiserror::Error;

use crate::machine::clock::{as_ms, Clock, Ns};
use crate::machine::console::{create, Console};
use crate::machine::pace::Pace;
use crate::machine::priority::hurry;
use crate::machine::process::Process;
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
    #[error(transparent)]
    Machine(#[from] anyhow::Error),
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

/// A guest's first words after a boot.
#[derive(Clone, Debug)]
pub struct Hello {
    /// When they were heard.
    pub at: Ns,
    /// Its release and version, as `uname -rv` has them.
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
    log: File,
    patience: Duration,
    /// What this host does of it.
    pace: Option<Pace>,
}

impl Guest {
    /// Talks over `socket`, and writes everything that is said to `log`.
    pub fn new(
        socket: UnixStream,
        console: Console,
        clock: Clock,
        process: Option<Process>,
        log: &Path,
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
            log: create(log)?,
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
        loop {
            if let (at, Report::Hello(kernel)) = self.listen("the guest's hello", 0, BOOT_LIMIT)? {
                return Ok(Hello { at, kernel });
            }
        }
    }

    /// Gives an order and waits for its report.
    ///
    /// # Errors
    ///
    /// [`OrderError`].
    pub fn order(&mut self, command: Command) -> Result<Answer, OrderError> {
        let limit = command.limit();
        let (id, _, command) = self.send(command)?;
        match self.listen(&command, id, limit)?.1 {
            Report::Done { result, .. } => {
                result.map_err(|failure| OrderError::Refused { command, failure })
            }
            Report::Hello(kernel) => Err(OrderError::Machine(anyhow!(
                "the machine started anew ({kernel}) during {command}: see its console"
            ))),
        }
    }

    /// The jump: returns when it was ordered and the next kernel's hello.
    ///
    /// # Errors
    ///
    /// [`OrderError::Refused`] when the old kernel refused it and goes on.
    pub fn kexec(&mut self) -> Result<(Ns, Hello), OrderError> {
        let (id, sent, command) = self.send(Command::Kexec)?;
        match self.listen(&command, id, BOOT_LIMIT)? {
            (at, Report::Hello(kernel)) => Ok((sent, Hello { at, kernel })),
            (_, Report::Done { result, .. }) => Err(match result {
                Err(failure) => OrderError::Refused { command, failure },
                Ok(_) => anyhow!("the guest has not jumped").into(),
            }),
        }
    }

    /// How the guest says a card's frames stand.
    ///
    /// # Errors
    ///
    /// [`OrderError`].
    pub fn count(&mut self, card: u8) -> Result<Tally, OrderError> {
        match self.order(Command::Frames { card })? {
            Answer::Frames { tally } => Ok(tally),
            other => Err(OrderError::Machine(anyhow!(
                "the guest answers {other:?} to Frames: lab and guest are of different builds"
            ))),
        }
    }

    fn note(&mut self, at: Ns, text: &str) {
        // A full disk shows elsewhere too; the run goes on.
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

    /// What comes of the order of this number, or a hello.
    fn listen(&mut self, what: &str, order: u64, limit: Duration) -> Result<(Ns, Report)> {
        let limit = self.pace.map_or(limit, |pace| pace.patience(limit));
        let limit = limit.min(self.patience);
        let start = Instant::now();
        loop {
            match self.reports.recv_timeout(LOOK) {
                Ok((at, report)) => {
                    self.note(at, &format!("{report:?}"));
                    if !matches!(report, Report::Done { id, .. } if id != order) {
                        return Ok((at, report));
                    }
                }
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
        let death = || self.process.as_ref().and_then(Process::death);
        while start.elapsed() < LAST_WORDS && !(self.console.has_ended() && death().is_some()) {
            std::thread::sleep(LOOK);
        }
        let hang = self.console.hang().map(|hang| kernel_says(&hang));
        let why = hang.or_else(death).unwrap_or_else(|| {
            Trouble::new(
                format!("the machine says nothing more ({how})"),
                "console.log and qemu-stderr.log among the logs tell how far it came",
            )
        });
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
    fn guest(lines: &[&str]) -> (Guest, Console) {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let lines: Vec<String> = lines.iter().map(|line| format!("{line}\n")).collect();
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
        let log = tempfile::NamedTempFile::new().expect("a file");
        let guest = Guest::new(ours, console.clone(), Clock::start(), None, log.path());
        (guest.expect("a guest"), console)
    }

    #[test]
    fn noise_before_a_report_is_skipped() {
        let (mut guest, _) = guest(&[
            "login: \u{0}\n{\"done\":{\"id\":1,\"result\":{\"Ok\":{\"is\":\"ok\"}},\"took_ns\":5}}",
        ]);
        let answer = guest.order(Command::FreeMemory).expect("an answer");
        assert_eq!(answer, Answer::Ok);
    }

    #[test]
    fn a_refusal_keeps_its_errno_and_a_jump_ends_with_the_next_hello() {
        let (mut guest, _) = guest(&[
            "{\"done\":{\"id\":1,\"result\":{\"Err\":{\"what\":\"finish: busy\",\"errno\":16}},\"took_ns\":5}}",
            "{\"hello\":\"7.3.4 #2 SMP\"}",
        ]);
        let error = guest.order(Command::FreeMemory).expect_err("refused");
        assert_eq!(error.errno(), Some(16));
        assert!(error.to_string().contains("busy"), "{error}");
        let (_, hello) = guest.kexec().expect("a hello");
        assert_eq!(hello.kernel, "7.3.4 #2 SMP");
    }

    #[test]
    fn a_machine_that_is_gone_is_told_with_the_reason() {
        // The end may be seen before the panic that led to it.
        for (lines, panic_after, words) in [
            (&["", ""][..], Some(0), "Kernel panic - not syncing"),
            (&[], Some(60), "Kernel panic - not syncing"),
            (&["", ""], None, "nothing was heard for 1 s"),
            (&[], None, "what to do: "),
        ] {
            let (mut guest, console) = guest(lines);
            guest.wait_at_most(Duration::from_secs(1));
            let kernel = std::thread::spawn(move || {
                if let Some(after) = panic_after {
                    std::thread::sleep(Duration::from_millis(after));
                    console.add(0, "Kernel panic - not syncing: test".to_owned());
                }
            });
            let error = guest.order(Command::FreeMemory).expect_err(words);
            assert!(matches!(error, OrderError::Machine(_)));
            assert!(error.to_string().contains(words), "{error}");
            kernel.join().expect("no panic");
        }
    }
}
