// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A running machine. It ends when it is dropped, whatever happened.

use std::fs::File;
use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{anyhow, Context, Result};

use crate::build::kernel::config::Config;
use crate::machine::clock::Clock;
use crate::machine::console::Console;
use crate::machine::directory::Directory;
use crate::machine::guest::{Guest, Hello};
use crate::machine::monitor::Monitor;
use crate::machine::pace::Pace;
use crate::machine::parts::Parts;
use crate::machine::process::Process;
use crate::machine::profile::Profile;
use crate::machine::qemu::{self, names};
use crate::machine::ram::Ram;
use crate::machine::room::sockets;
use crate::machine::starting::{Listeners, Starting};
use crate::trouble::Trouble;

/// File: QEMU's standard error.
const STDERR: &str = "qemu-stderr.log";

/// What every kernel is told. `no_timer_check`: on a busy host the emulated timer ticks too late for the kernel's test
/// of it, which then panics. `tsc=unstable`: on a busy host the processor's clock is now and then measured wrongly by a
/// factor, and every wait in the guest is too short; the emulated HPET is right always.
const COMMAND_LINE: &str = "console=ttyS0 earlyprintk=serial,ttyS0,115200 liveupdate=on kho=on \
                            no_timer_check tsc=unstable panic=-1";

/// The command line of a kernel on a machine of this profile, with `extra` words.
pub fn command_line(profile: &Profile, extra: &str) -> String {
    let iommu = profile.iommu.kind.command_line();
    [COMMAND_LINE, iommu, &profile.command_line, extra]
        .into_iter()
        .filter(|words| !words.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// A running machine.
#[derive(Debug)]
pub struct Machine {
    /// The time of everything that is seen.
    pub clock: Clock,
    /// The kernel's console.
    pub console: Console,
    /// The guest program.
    pub guest: Guest,
    /// The machine's memory.
    pub ram: Ram,
    /// The logs.
    pub directory: Directory,
    /// How fast this host is; the reference until the machine has booted.
    pub pace: Pace,
    config: Config,
    monitor: Monitor,
    wires: Vec<Option<UnixStream>>,
    process: Process,
}

impl Machine {
    /// Starts a machine and returns as soon as QEMU is complete; the kernel boots then.
    pub fn start(name: &str, profile: &Profile, parts: &Parts, command_line: &str) -> Result<Self> {
        let sockets = sockets(profile.machine.memory_mib)?;
        let directory = Directory::create(name)?;
        let listeners = Listeners::bind(profile, sockets.path())?;
        let clock = Clock::start();
        let flags = qemu::flags(
            profile,
            parts,
            command_line,
            sockets.path(),
            directory.path(),
            false,
        );
        directory.write("command-line", &format!("{flags:#?}\n"));
        let stderr = directory.path().join(STDERR);
        let process = Process::start(&parts.qemu.path, &flags, &stderr)?;
        // From here on QEMU ends when an error returns.
        let starting = Starting::new(process.clone(), stderr);
        let console = Console::follow(
            starting.accept(&listeners.console, "console")?,
            &directory.path().join("console.log"),
            clock,
        )?;
        let control = starting.accept(&listeners.control, "control")?;
        let guest = Guest::new(control, console.clone(), clock, Some(process.clone()))?;
        let monitor = starting.accept(&listeners.monitor, "monitor")?;
        let nets = listeners.nets.iter();
        let wires = nets
            .map(|net| starting.accept(net, "network").map(Some))
            .collect::<Result<_>>()?;
        let monitor = Monitor::new(monitor).map_err(|error| starting.explain(error))?;
        let ram = process.ram()?;
        // Everybody has what they need open: nothing is left behind even if the lab is killed.
        sockets
            .close()
            .context("the machine's sockets can not be removed")?;
        starting.done()?;
        Ok(Self {
            clock,
            console,
            guest,
            ram: Ram::new(ram, profile.machine.memory_mib << 20),
            directory,
            pace: Pace::of_boot(Duration::ZERO, parts.config),
            config: parts.config,
            monitor,
            wires,
            process,
        })
    }

    /// Waits for the first kernel's guest program. When it does not come, the logs get the processors' registers.
    ///
    /// # Errors
    ///
    /// As [`Guest::wait_hello`].
    pub fn wait_hello(&mut self) -> Result<Hello> {
        let hello = self.guest.wait_hello();
        match &hello {
            Ok(hello) => {
                self.pace = Pace::of_boot(Duration::from_nanos(hello.at), self.config);
                self.guest.keep_pace(self.pace);
            }
            Err(_) => {
                if let Ok(state) = self.monitor.human("info registers -a") {
                    self.directory.write("processors", &state);
                }
            }
        }
        hello.with_context(|| format!("the logs are in {}", self.directory.path().display()))
    }

    /// Whether the kernel says `words` on its console within a time that is the reference host's.
    pub fn says(&self, words: &str, limit: Duration) -> bool {
        self.console.wait_for(words, self.pace.patience(limit))
    }

    /// The far end of a card's wire, once.
    pub fn wire(&mut self, card: u8) -> Result<UnixStream> {
        usize::from(card)
            .checked_sub(1)
            .and_then(|index| self.wires.get_mut(index)?.take())
            .ok_or_else(|| anyhow!("the wire of card {card} is in use or does not exist"))
    }

    /// QEMU's monitor.
    pub fn monitor(&self) -> Monitor {
        self.monitor.clone()
    }

    /// Whether QEMU still runs.
    pub fn runs(&self) -> bool {
        self.process.ended().is_none()
    }

    /// Ends QEMU, so that its trace is complete, and opens that.
    pub fn end(&mut self) -> Result<BufReader<File>> {
        self.process.kill();
        self.directory.write("control.log", self.guest.log());
        let path = self.directory.path().join(names::TRACE);
        let trace = File::open(&path);
        let trace = trace.with_context(|| format!("{} can not be read", path.display()))?;
        Ok(BufReader::new(trace))
    }

    /// What QEMU itself had to say of its own end, where it did not end by the lab's will: it is not the guest's doing.
    pub fn crash(&self) -> Option<String> {
        let said = std::fs::read_to_string(self.directory.path().join(STDERR)).ok()?;
        let line = said.lines().find(|line| {
            ["Assertion", "assertion", "Segmentation", "Aborted"]
                .iter()
                .any(|word| line.contains(word))
        })?;
        let crashed = Trouble::new(
            format!("QEMU crashed: {line}"),
            "run again, with another QEMU if it happens again: it is not the guest's doing",
        );
        Some(crashed.to_string())
    }

    /// Ends QEMU and keeps only the logs.
    pub fn into_directory(mut self) -> Directory {
        self.process.kill();
        self.directory.write("control.log", self.guest.log());
        self.directory.take()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.process.kill();
        self.directory.write("control.log", self.guest.log());
    }
}
