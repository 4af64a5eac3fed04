// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU as a process: started, asked how it ended, ended.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use command_fds::{CommandFdExt, FdMapping};

use crate::machine::priority::hurried;
use crate::machine::qemu::FIRST_SOCKET;
use crate::trouble::Trouble;

/// What Linux calls the file of QEMU's memory.
const RAM: &str = "/memfd:memory-backend-memfd";
/// Ends its child when the lab ends.
const HOLDER: &str = "setpriv";

/// A command that the kernel ends when the lab ends, even if the lab is killed.
pub fn with_parent_death(program: &Path) -> Command {
    let mut command = Command::new(HOLDER);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Ended, and waited for, when nobody looks at it any more.
#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running QEMU, or one that has ended. Clones are of the same one, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Process {
    child: Arc<Mutex<Running>>,
    stderr: PathBuf,
}

impl Process {
    /// Starts QEMU, before whatever else the host does: its standard error goes to a file. It inherits the sockets, from
    /// [`FIRST_SOCKET`] on.
    pub(super) fn start(
        qemu: &Path,
        flags: &[OsString],
        sockets: Vec<UnixStream>,
        stderr: PathBuf,
    ) -> Result<Self> {
        let file = File::create(&stderr)
            .with_context(|| format!("{} can not be written", stderr.display()))?;
        let mut command = with_parent_death(qemu);
        command
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file);
        let sockets = sockets.into_iter().zip(FIRST_SOCKET..);
        let inherited = sockets.map(|(socket, child_fd)| FdMapping {
            parent_fd: socket.into(),
            child_fd,
        });
        command
            .fd_mappings(inherited.collect())
            .context("QEMU can not inherit its sockets")?;
        let child = hurried(|| command.spawn()).map_err(|error| {
            Trouble::new(
                format!("{HOLDER}, which starts QEMU, can not be started: {error}"),
                "see that Debian's package util-linux is there, and that processes and memory are free",
            )
        })?;
        let child = Arc::new(Mutex::new(Running(child)));
        Ok(Self { child, stderr })
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it has said on its standard error so far: worth less than that it ended.
    pub(super) fn said(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// The same error of its start, or the reason for it if QEMU has ended.
    pub(super) fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        // Its sockets are closed a moment before it has ended.
        std::thread::sleep(Duration::from_millis(100));
        self.death().map_or(error, anyhow::Error::from)
    }

    /// The machine's memory, which is a file without a name that QEMU has open.
    pub fn ram(&self) -> Result<File> {
        let folder = format!("/proc/{}/fd", self.lock().0.id());
        let entries = std::fs::read_dir(&folder).with_context(|| format!("{folder} is hidden"))?;
        let link = entries
            .flatten()
            .map(|entry| entry.path())
            .find(|path| {
                let name = std::fs::read_link(path).unwrap_or_default();
                name.to_string_lossy().starts_with(RAM)
            })
            .with_context(|| format!("QEMU has no {RAM} among the files in {folder}"))?;
        let mut open = File::options();
        open.read(true)
            .write(true)
            .open(link)
            .context("the machine's memory can not be opened")
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        // Of a process that can not be asked nothing is known.
        self.lock().0.try_wait().ok().flatten()
    }

    /// How it ended, if it has, and what to do about it.
    pub(super) fn death(&self) -> Option<Trouble> {
        Some(death(self.ended()?, &self.said()))
    }

    /// What it said of a crash, which is not the guest's doing.
    pub(super) fn crash(&self) -> Option<Trouble> {
        self.ended()?.signal().and_then(|_| self.death())
    }

    /// Ends it.
    pub(super) fn kill(&self) {
        let mut running = self.lock();
        // Both fail only when it has ended already.
        let _ = running.0.kill();
        let _ = running.0.wait();
    }
}

fn death(status: ExitStatus, said: &str) -> Trouble {
    let said = match said.trim() {
        "" => "it said nothing",
        said => said,
    };
    let cause = match (status.signal(), status.code()) {
        (Some(9), _) => "QEMU was killed (signal 9)".to_owned(),
        (Some(signal), _) => format!("QEMU crashed (signal {signal}): {said}"),
        (None, Some(0)) => "the machine switched itself off, or its kernel was reset".to_owned(),
        (None, _) => format!("QEMU ended ({status}): {said}"),
    };
    let remedy = match (status.signal(), status.code()) {
        (Some(9), _) => "if nobody did, the host had no memory left: `dmesg` says so; free some, or use a profile with less memory_mib",
        (Some(_), _) => "run again, with another QEMU if it happens again",
        (None, Some(0)) => "console.log among the logs tells how far it came",
        (None, _) if said.contains("memory") => "free memory on the host, or use a profile with less memory_mib",
        (None, _) => "use the QEMU that `cargo lab setup` installs; a profile of your own may ask for what it does not know",
    };
    Trouble::new(cause, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_of_qemu_is_told_with_what_to_do() {
        for (raw, said, words) in [
            (9, "", ["signal 9", "dmesg"]),
            (
                6,
                "Assertion `x' failed",
                ["signal 6): Assertion", "run again"],
            ),
            (0, "", ["switched itself off", "console.log"]),
            (
                1 << 8,
                "",
                ["exit status: 1): it said nothing", "cargo lab setup"],
            ),
            (
                1 << 8,
                "cannot set up guest memory 'ram'",
                ["'ram'", "memory_mib"],
            ),
        ] {
            let told = death(ExitStatus::from_raw(raw), said).to_string();
            assert!(words.iter().all(|word| told.contains(word)), "{told}");
        }
    }
}
