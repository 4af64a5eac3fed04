// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A running machine. It ends when it is dropped, whatever happened.

use std::fs::{File, OpenOptions};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{anyhow, Context, Result};

use crate::run::clock::Clock;
use crate::run::console::Console;
use crate::run::directory::Directory;
use crate::run::guest::{Guest, Hello};
use crate::run::monitor::Monitor;
use crate::run::parts::Parts;
use crate::run::profile::Profile;
use crate::run::qemu::{self, names, SLOTS};
use crate::run::ram::Ram;

pub(crate) mod room;
mod starting;

pub(crate) use room::memory_directory;
use starting::Starting;

/// The nice value of a machine and of what watches it.
const PRIORITY: i32 = -15;
/// File: QEMU's standard error.
const STDERR: &str = "qemu-stderr.log";

/// What every kernel is told. `no_timer_check`: on a busy host the emulated timer ticks too late for the kernel's test
/// of it, which then panics. `tsc=unstable`: on a busy host the processor's clock is now and then measured wrongly by a
/// factor, and every wait in the guest is too short; the emulated HPET is right always.
const COMMAND_LINE: &str = "console=ttyS0 earlyprintk=serial,ttyS0,115200 liveupdate=on kho=on \
                            intel_iommu=on no_timer_check tsc=unstable panic=-1";

/// The command line of a kernel on a machine of this profile, with `extra` words.
pub(crate) fn command_line(profile: &Profile, extra: &str) -> String {
    [COMMAND_LINE, &profile.command_line, extra]
        .into_iter()
        .filter(|words| !words.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// A running machine.
#[derive(Debug)]
pub(crate) struct Machine {
    /// The time of everything that is seen.
    pub(crate) clock: Clock,
    /// The kernel's console.
    pub(crate) console: Console,
    /// The guest program.
    pub(crate) guest: Guest,
    /// The machine's memory.
    pub(crate) ram: Ram,
    /// The logs.
    pub(crate) directory: Directory,
    monitor: Monitor,
    wires: [Option<UnixStream>; SLOTS.len()],
    child: Child,
}

impl Machine {
    /// Starts a machine and returns as soon as QEMU is complete; the kernel boots then.
    ///
    /// # Errors
    ///
    /// No room for the memory, QEMU missing or refusing its flags.
    pub(crate) fn start(
        name: &str,
        profile: &Profile,
        parts: &Parts,
        command_line: &str,
    ) -> Result<Self> {
        let sockets = memory_directory(profile.machine.memory_mib)?;
        let directory = Directory::create(name)?;
        let listen = |name: &str| -> Result<UnixListener> {
            let path = sockets.path().join(name);
            let listener = UnixListener::bind(&path)
                .with_context(|| format!("no socket at {}", path.display()))?;
            listener
                .set_nonblocking(true)
                .context("a socket does not wait")?;
            Ok(listener)
        };
        let console = listen(names::CONSOLE)?;
        let control = listen(names::CONTROL)?;
        let monitor = listen(names::MONITOR)?;
        let nets = SLOTS.map(|slot| listen(&names::net(slot.card)));

        hurry();
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
        let stderr_path = directory.path().join(STDERR);
        let stderr = File::create(&stderr_path)
            .with_context(|| format!("{} can not be written", stderr_path.display()))?;
        let child = with_parent_death(&parts.qemu)
            .args(&flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .with_context(|| {
                format!(
                    "{} can not be started: run `cargo lab setup`",
                    parts.qemu.display()
                )
            })?;
        // From here on QEMU ends when an error returns.
        let mut starting = Starting {
            child: Some(child),
            stderr: stderr_path,
        };
        let console = Console::follow(
            starting.accept(&console, "console")?,
            &directory.path().join("console.log"),
            clock,
        )?;
        let guest = Guest::new(
            starting.accept(&control, "control")?,
            console.clone(),
            clock,
        )?;
        let monitor = starting.accept(&monitor, "monitor")?;
        let mut wires = [None, None];
        for (wire, listener) in wires.iter_mut().zip(nets) {
            *wire = Some(starting.accept(&listener?, "network")?);
        }
        let monitor = Monitor::new(monitor)?;
        let ram_path = sockets.path().join(names::RAM);
        let file = OpenOptions::new()
            .read(true)
            .open(&ram_path)
            .with_context(|| format!("the machine's memory {} is missing", ram_path.display()))?;
        // Everybody has what they need open: nothing is left behind even if the lab is killed.
        sockets.close()?;
        let child = starting
            .child
            .take()
            .ok_or_else(|| anyhow!("QEMU has ended"))?;
        Ok(Self {
            clock,
            console,
            guest,
            ram: Ram::new(file, profile.machine.memory_mib << 20),
            directory,
            monitor,
            wires,
            child,
        })
    }

    /// Waits for the first kernel's guest program. When it does not come, the logs get the processors' registers.
    ///
    /// # Errors
    ///
    /// As [`Guest::wait_hello`].
    pub(crate) fn wait_hello(&mut self) -> Result<Hello> {
        let hello = self.guest.wait_hello();
        if hello.is_err() {
            if let Ok(state) = self.monitor.human("info registers -a") {
                self.directory.write("processors", &state);
            }
        }
        hello.with_context(|| format!("the logs are in {}", self.directory.path().display()))
    }

    /// The far end of a card's wire, once.
    ///
    /// # Errors
    ///
    /// It was taken already.
    pub(crate) fn wire(&mut self, card: u8) -> Result<UnixStream> {
        usize::from(card)
            .checked_sub(1)
            .and_then(|index| self.wires.get_mut(index)?.take())
            .ok_or_else(|| anyhow!("the wire of card {card} is in use or does not exist"))
    }

    /// QEMU's monitor.
    pub(crate) fn monitor(&self) -> Monitor {
        self.monitor.clone()
    }

    /// Ends QEMU, so that its trace is complete, and returns the trace.
    ///
    /// # Errors
    ///
    /// The trace can not be read.
    pub(crate) fn end(&mut self) -> Result<String> {
        self.kill();
        self.directory.write("control.log", self.guest.log());
        let path = self.directory.path().join(names::TRACE);
        let bytes =
            std::fs::read(&path).with_context(|| format!("{} can not be read", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What QEMU itself had to say of its own end, where it did not end by the lab's will: it is not the guest's doing.
    pub(crate) fn crash(&self) -> Option<String> {
        let said = std::fs::read_to_string(self.directory.path().join(STDERR)).ok()?;
        let line = said.lines().find(|line| {
            ["Assertion", "assertion", "Segmentation", "Aborted"]
                .iter()
                .any(|word| line.contains(word))
        })?;
        Some(format!("QEMU crashed: {line}"))
    }

    /// Ends QEMU and keeps only the logs.
    pub(crate) fn into_directory(mut self) -> Directory {
        self.kill();
        self.directory.write("control.log", self.guest.log());
        self.directory.take()
    }

    fn kill(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
        self.directory.write("control.log", self.guest.log());
    }
}

/// Puts QEMU and the threads that watch it before whatever else the host does: frames are counted, and those that a busy
/// host delays may not look like those that the guest loses. Without the right to do so it is done without.
fn hurry() {
    let _ = rustix::process::setpriority_process(None, PRIORITY);
}

/// A command that the kernel ends when the lab ends, even if the lab is killed.
pub(crate) fn with_parent_death(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}
