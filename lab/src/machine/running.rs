// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A running machine. It ends when it is dropped, whatever happened.
//!
//! QEMU inherits one end of each socket, and the lab has the other: nothing of it is in the file system.

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
use crate::machine::qemu::{self, missing_events};
use crate::machine::ram::Ram;
use crate::machine::room;
use crate::trouble::trouble;

/// File: QEMU's standard error.
const STDERR: &str = "qemu-stderr.log";

/// What every kernel is told. `no_timer_check`: on a busy host the emulated timer ticks too late for the kernel's test
/// of it, which then panics. `tsc=unstable`: on a busy host the processor's clock is now and then measured wrongly by a
/// factor, and every wait in the guest is too short; the emulated HPET is right always. `retain_initrd`: the guest gives the
/// next kernel the same initramfs. `initcall_blacklist`: the cards' own driver is in the kernel for a virtual machine, and would take them here.
const COMMAND_LINE: &str = "console=ttyS0 earlyprintk=serial,ttyS0,115200 liveupdate=on kho=on \
                            no_timer_check tsc=unstable panic=-1 retain_initrd initcall_blacklist=igb_init_module";

/// The command line of a kernel on a machine of this profile, with `extra` words.
pub fn command_line(profile: &Profile, extra: &str) -> String {
    let (iommu, own) = (
        profile.iommu.kind.names().command_line,
        &profile.command_line,
    );
    format!("{COMMAND_LINE} {iommu} {own} {extra}")
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
        room::need(profile.machine.memory_mib)?;
        let directory = Directory::create(name)?;
        let path = directory.path();
        let flags = qemu::flags(profile, parts, command_line, path, false);
        directory.write("command-line", &format!("{flags:#?}\n"));
        let pairs = (0..qemu::PORTS + profile.cards.len()).map(|_| UnixStream::pair());
        let pairs: Vec<_> = pairs.collect::<Result<_, _>>().context("no sockets")?;
        let (ours, theirs): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let clock = Clock::start();
        let process = Process::start(&parts.qemu.path, &flags, theirs, path.join(STDERR))?;
        let mut ours = ours.into_iter();
        let mut next = || ours.next().context("QEMU has too few sockets");
        let console = Console::follow(next()?, &path.join("console.log"), clock)?;
        let log = path.join("control.log");
        let guest = Guest::new(next()?, console.clone(), clock, Some(process.clone()), &log)?;
        let monitor = Monitor::new(next()?).map_err(|error| process.explain(error))?;
        let missing = missing_events(&process.said()).join(", ");
        if !missing.is_empty() {
            return trouble(
                format!("this QEMU can not trace {missing}: nothing would tell what is done to the device"),
                "use the QEMU that `cargo lab setup` installs, or one that was built with the log trace backend",
            );
        }
        Ok(Self {
            clock,
            console,
            guest,
            ram: Ram::new(process.ram()?, profile.machine.memory_mib << 20),
            directory,
            pace: Pace::of_boot(Duration::ZERO, parts.config),
            config: parts.config,
            monitor,
            wires: ours.map(Some).collect(),
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
        if let Ok(hello) = &hello {
            self.pace = Pace::of_boot(Duration::from_nanos(hello.at), self.config);
            self.guest.keep_pace(self.pace);
        } else if let Ok(state) = self.monitor.human("info registers -a") {
            self.directory.write("processors", &state);
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
        let path = self.directory.path().join(qemu::TRACE);
        let trace = File::open(&path);
        let trace = trace.with_context(|| format!("{} can not be read", path.display()))?;
        Ok(BufReader::new(trace))
    }

    /// What QEMU itself had to say of its own end, where it did not end by the lab's will: it is not the guest's doing.
    pub fn crash(&self) -> Option<String> {
        self.process.crash().map(|crash| crash.to_string())
    }

    /// Ends QEMU and keeps only the logs.
    pub fn into_directory(self) -> Directory {
        self.process.kill();
        self.directory
    }
}
