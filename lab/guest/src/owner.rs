// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Another process of this program, that owns cards and sessions in place of the first one, and that can be killed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, ChildStdout, Command as Program, Stdio};

use anyhow::{anyhow, bail, Context, Result};
use hitless_proto::{Answer, Command, Failure, Order, Report};
use hitless_uapi::Session;
use rustix::io::Errno;
use rustix::process::{pidfd_getfd, pidfd_open, Pid, PidfdFlags, PidfdGetfdFlags};

use crate::line;

/// The argument by which a process knows that it is one.
pub(crate) const ARGUMENT: &str = "owner";

/// How the kernel names the descriptor of a session.
const SESSION: &str = "[luo_session]";

/// The process.
#[derive(Debug)]
pub(crate) struct Owner {
    child: Child,
    orders: ChildStdin,
    reports: BufReader<ChildStdout>,
}

impl Owner {
    /// Starts it.
    pub(crate) fn start() -> Result<Self> {
        let mut child = Program::new("/proc/self/exe")
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting another process")?;
        let (orders, reports) = (child.stdin.take(), child.stdout.take());
        Ok(Self {
            child,
            orders: orders.context("no pipe to the other process")?,
            reports: BufReader::new(reports.context("no pipe from the other process")?),
        })
    }

    /// Lets it obey one order.
    pub(crate) fn obey(&mut self, command: Command) -> Result<Answer> {
        line::send(&mut self.orders, &Order { id: 0, command })?;
        let mut line = String::new();
        self.reports
            .read_line(&mut line)
            .context("reading a report")?;
        match serde_json::from_str(&line).context("the other process has ended")? {
            Report::Done { result, .. } => result.map_err(error),
            Report::Hello(_) => bail!("the other process says hello"),
        }
    }

    /// A descriptor of the session that it has under this name.
    pub(crate) fn session(&self, name: &str) -> Result<Session> {
        let pid = i32::try_from(self.child.id())?;
        let pidfd = Pid::from_raw(pid).context("the other process has no number")?;
        let pidfd = pidfd_open(pidfd, PidfdFlags::empty()).context("pidfd_open")?;
        let files = format!("/proc/{pid}/fd");
        for entry in fs::read_dir(&files).context("the other process's descriptors")? {
            let path = entry?.path();
            let Ok(link) = fs::read_link(&path) else {
                continue;
            };
            if !link.to_string_lossy().contains(SESSION) {
                continue;
            }
            let number = path.file_name().unwrap_or_default().to_string_lossy();
            let fd: OwnedFd = pidfd_getfd(&pidfd, number.parse()?, PidfdGetfdFlags::empty())
                .context("pidfd_getfd")?;
            let session = Session::from(fd);
            if session.name()? == name {
                return Ok(session);
            }
        }
        bail!("the other process has no session `{name}`")
    }

    /// Kills it. It has closed everything when this returns.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill().context("killing the other process")?;
        self.child
            .wait()
            .context("waiting for the other process's end")?;
        Ok(())
    }
}

/// What the other process says of a failure, with its error number where the first one looks for it.
fn error(failure: Failure) -> anyhow::Error {
    match failure.errno {
        Some(errno) => anyhow::Error::from(Errno::from_raw_os_error(errno)).context(failure.what),
        None => anyhow!(failure.what),
    }
}
