// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU while it starts: it connects to the lab's sockets, or ends and says why.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::machine::process::Process;
use crate::machine::profile::Profile;
use crate::machine::qemu::{missing_events, names};
use crate::trouble::{trouble, Trouble};

/// How long QEMU may take to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(60);

/// The sockets on which the lab waits for QEMU.
pub(super) struct Listeners {
    pub(super) console: UnixListener,
    pub(super) control: UnixListener,
    pub(super) monitor: UnixListener,
    pub(super) nets: Vec<UnixListener>,
}

impl Listeners {
    /// All of them, in a folder.
    pub(super) fn bind(profile: &Profile, folder: &Path) -> Result<Self> {
        let listen = |name: &str| -> Result<UnixListener> {
            let path = folder.join(name);
            let listener = UnixListener::bind(&path)
                .with_context(|| format!("no socket at {}", path.display()))?;
            listener
                .set_nonblocking(true)
                .context("a socket does not wait")?;
            Ok(listener)
        };
        let nets = profile
            .cards
            .iter()
            .map(|card| listen(&names::net(card.number)));
        Ok(Self {
            console: listen(names::CONSOLE)?,
            control: listen(names::CONTROL)?,
            monitor: listen(names::MONITOR)?,
            nets: nets.collect::<Result<_>>()?,
        })
    }
}

/// QEMU between its start and the moment when somebody owns it. It ends when this is dropped before.
pub(super) struct Starting {
    process: Process,
    stderr: PathBuf,
    is_done: bool,
}

impl Starting {
    pub(super) fn new(process: Process, stderr: PathBuf) -> Self {
        Self {
            process,
            stderr,
            is_done: false,
        }
    }

    /// QEMU is complete, and somebody else ends it.
    pub(super) fn done(mut self) -> Result<()> {
        let said = self.said();
        let missing = missing_events(&said);
        if !missing.is_empty() {
            return trouble(
                format!(
                    "this QEMU can not trace {}: nothing would tell what is done to the device",
                    missing.join(", ")
                ),
                "use the QEMU that `cargo lab setup` installs, or one that was built with the log trace backend",
            );
        }
        self.is_done = true;
        Ok(())
    }

    /// The same error, or the reason for it if QEMU has ended.
    pub(super) fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        match self.process.ended() {
            Some(status) => at_once(&status.to_string(), &self.said()).into(),
            None => error,
        }
    }

    fn said(&self) -> String {
        // What it says is worth less than that it ended.
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    pub(super) fn accept(&self, listener: &UnixListener, what: &str) -> Result<UnixStream> {
        let start = Instant::now();
        loop {
            match listener.accept() {
                Ok((socket, _)) => {
                    socket
                        .set_nonblocking(false)
                        .context("a socket does not wait")?;
                    return Ok(socket);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context(format!("QEMU's {what} socket")),
            }
            if let Some(status) = self.process.ended() {
                return Err(at_once(&status.to_string(), &self.said()).into());
            }
            if start.elapsed() > CONNECT_LIMIT {
                return trouble(
                    format!(
                        "QEMU has not connected its {what} socket in {} s",
                        CONNECT_LIMIT.as_secs()
                    ),
                    "run again when the host has less to do",
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn at_once(status: &str, said: &str) -> Trouble {
    let said = match said.trim() {
        "" => "it said nothing",
        said => said,
    };
    let remedy = if said.contains("memory") {
        "free memory on the host, or use a profile with less memory_mib"
    } else {
        "`cargo lab setup` checks QEMU and names what it lacks; a profile of your own may ask for what it does not know"
    };
    Trouble::new(format!("QEMU ended at once ({status}): {said}"), remedy)
}

impl Drop for Starting {
    fn drop(&mut self) {
        if !self.is_done {
            self.process.kill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qemu_that_ends_at_once_is_told_with_its_words_and_what_to_do() {
        let told = at_once("exit status: 1", "").to_string();
        assert!(told.contains("said nothing") && told.contains("cargo lab setup"));
        let told = at_once("exit status: 1", "cannot set up guest memory 'ram'").to_string();
        assert!(
            told.contains("'ram'") && told.contains("memory_mib"),
            "{told}"
        );
    }
}
