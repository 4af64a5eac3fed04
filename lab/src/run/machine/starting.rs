// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU while it starts: it connects to the lab's sockets, or ends and says why.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};

/// How long QEMU may take to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// QEMU between its start and the moment when somebody owns it.
pub(super) struct Starting {
    pub(super) child: Option<Child>,
    pub(super) stderr: PathBuf,
}

impl Starting {
    pub(super) fn accept(&mut self, listener: &UnixListener, what: &str) -> Result<UnixStream> {
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
            if let Some(child) = &mut self.child {
                if let Some(status) = child.try_wait().context("QEMU's status")? {
                    let said = std::fs::read_to_string(&self.stderr).unwrap_or_default();
                    bail!("QEMU ended at once ({status}): {}", said.trim());
                }
            }
            if start.elapsed() > CONNECT_LIMIT {
                bail!("QEMU does not connect its {what} socket: is the host overloaded?");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Both fail only when it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
