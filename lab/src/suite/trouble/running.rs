// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A `cargo lab` that runs: waited for, or killed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use rustix::process::{kill_process, kill_process_group, Pid, Signal};

use super::ended::{need_network, Ended};

/// How long a run may take.
const LIMIT: Duration = Duration::from_secs(180);
/// How often a wait looks.
const LOOK: Duration = Duration::from_millis(2);

/// A run that goes on. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    out: File,
    error: File,
}

impl Running {
    /// A child in a process group of its own, and where its output goes.
    pub(super) fn new(child: Child, out: File, error: File) -> Self {
        Self { child, out, error }
    }

    /// What it has said of its progress.
    pub(super) fn said(&self) -> String {
        content(&self.error)
    }

    /// The process.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `reached`: then there is no status, or the run has ended before that.
    fn wait_until(
        &mut self,
        mut reached: impl FnMut(&Self) -> Result<bool>,
    ) -> Result<Option<ExitStatus>> {
        let start = Instant::now();
        loop {
            if reached(self)? {
                return Ok(None);
            }
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            ensure!(
                start.elapsed() < LIMIT,
                "`cargo lab` has not come to an end in {} s; it said:\n{}",
                LIMIT.as_secs(),
                self.said()
            );
            std::thread::sleep(LOOK);
        }
    }

    /// Waits for its end.
    pub(super) fn end(mut self) -> Result<Ended> {
        let Some(status) = self.wait_until(|_| Ok(false))? else {
            bail!("a wait for nothing has come to an end");
        };
        Ok(Ended::new(status, content(&self.out), self.said()))
    }

    /// Waits for a moment in the run.
    ///
    /// # Errors
    ///
    /// It ended before; [`Cannot`] if that was for want of a network.
    pub(super) fn reach(
        &mut self,
        moment: &str,
        reached: impl FnMut(&Self) -> Result<bool>,
    ) -> Result<()> {
        match self.wait_until(reached)? {
            None => Ok(()),
            Some(status) => {
                let said = self.said();
                need_network(&said)?;
                bail!("`cargo lab` ended ({status}) before {moment}; it said:\n{said}")
            }
        }
    }

    /// Kills it and everything that it has started, as a power cut would.
    ///
    /// # Errors
    ///
    /// It had ended before.
    pub(super) fn kill_all(mut self) -> Result<()> {
        kill_process_group(self.pid()?, Signal::KILL)?;
        self.killed()
    }

    /// Kills it and nothing else.
    ///
    /// # Errors
    ///
    /// It had ended before.
    pub(super) fn kill_alone(mut self) -> Result<()> {
        kill_process(self.pid()?, Signal::KILL)?;
        self.killed()
    }

    fn killed(&mut self) -> Result<()> {
        let status = self.child.wait()?;
        ensure!(
            status.signal() == Some(Signal::KILL.as_raw()),
            "`cargo lab` had ended ({status}) before it was killed; it said:\n{}",
            self.said()
        );
        Ok(())
    }

    fn pid(&self) -> Result<Pid> {
        i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("a process has a number")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            if let Ok(pid) = self.pid() {
                // Both fail only when it has ended already.
                let _ = kill_process_group(pid, Signal::KILL);
                let _ = self.child.wait();
            }
        }
    }
}

fn content(file: &File) -> String {
    let length = file.metadata().map_or(0, |meta| meta.len());
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    // What was written can be read.
    let _ = file.read_exact_at(&mut bytes, 0);
    String::from_utf8_lossy(&bytes).into_owned()
}
