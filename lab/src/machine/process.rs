// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU as a process: started, asked how it ended, ended.

use std::ffi::OsString;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};

use crate::machine::priority::Hurried;
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

/// A running QEMU, or one that has ended. Clones are of the same one.
#[derive(Clone, Debug)]
pub struct Process(Arc<Mutex<Child>>);

impl Process {
    /// Starts QEMU, before whatever else the host does: its standard error goes to a file.
    pub(super) fn start(qemu: &Path, flags: &[OsString], stderr: &Path) -> Result<Self> {
        let stderr = File::create(stderr)
            .with_context(|| format!("{} can not be written", stderr.display()))?;
        let _hurried = Hurried::begin();
        let child = with_parent_death(qemu)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .map_err(|error| unstartable(&error))?;
        Ok(Self(Arc::new(Mutex::new(child))))
    }

    fn lock(&self) -> MutexGuard<'_, Child> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine's memory, which is a file without a name that QEMU has open.
    pub fn ram(&self) -> Result<File> {
        let folder = format!("/proc/{}/fd", self.lock().id());
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
        self.lock().try_wait().ok().flatten()
    }

    /// Ends it.
    pub(super) fn kill(&self) {
        let mut child = self.lock();
        // Both fail only when it has ended already.
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn unstartable(error: &std::io::Error) -> Trouble {
    let remedy = match error.kind() {
        ErrorKind::NotFound => "install it: it is in Debian's package util-linux",
        _ => "make it executable, or free processes and memory",
    };
    Trouble::new(
        format!("{HOLDER}, which starts QEMU, can not be started: {error}"),
        remedy,
    )
}

/// How QEMU ended by itself, and what to do about it.
pub fn death(status: ExitStatus) -> Trouble {
    let logs = "console.log and qemu-stderr.log among the logs tell how far it came";
    match (status.signal(), status.code()) {
        (Some(9), _) => Trouble::new(
            "QEMU was killed (signal 9)",
            "if nobody did, the host had no memory left: `dmesg` says so; free some, or use a profile with less memory_mib",
        ),
        (Some(signal), _) => Trouble::new(
            format!("QEMU crashed (signal {signal})"),
            format!("run again, with another QEMU if it happens again; {logs}"),
        ),
        (None, Some(0)) => Trouble::new(
            "the machine switched itself off, or its kernel was reset",
            logs,
        ),
        (None, _) => Trouble::new(format!("QEMU ended with {status}"), format!("{logs}, and why")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_of_qemu_is_told_with_what_to_do() {
        let of = |raw| death(ExitStatus::from_raw(raw)).to_string();
        assert!(of(9).contains("signal 9") && of(9).contains("dmesg"));
        assert!(of(11).contains("crashed (signal 11)"));
        assert!(of(0).contains("switched itself off"));
        assert!(of(1 << 8).contains("exit status: 1"));
    }

    #[test]
    fn the_program_that_is_missing_is_the_one_that_is_named() {
        let missing = unstartable(&ErrorKind::NotFound.into()).to_string();
        assert!(
            missing.contains("setpriv") && missing.contains("util-linux"),
            "{missing}"
        );
    }

    #[test]
    fn a_qemu_that_is_missing_is_named_by_its_holder() {
        let folder = tempfile::tempdir().expect("a folder");
        let stderr = folder.path().join("stderr");
        let process = Process::start(Path::new("/no/such/qemu"), &[], &stderr).expect("a holder");
        let status = loop {
            if let Some(status) = process.ended() {
                break status;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        };
        assert!(!status.success());
        let said = std::fs::read_to_string(&stderr).expect("readable");
        assert!(said.contains("/no/such/qemu"), "{said}");
    }
}
