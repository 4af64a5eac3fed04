// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs that go on while other orders are obeyed, and the monitors of those that are QEMU.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command as Program, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use hitless_proto::qmp::Connection;
use hitless_proto::Answer;
use serde_json::Value;

/// From its start until its monitor's socket is there QEMU takes some seconds.
const START: Duration = Duration::from_secs(50);
const LOOK: Duration = Duration::from_millis(20);

/// Those that were started, by name. They end with this process only if somebody kills them.
#[derive(Debug, Default)]
pub(super) struct Programs(BTreeMap<String, Child>);

impl Programs {
    /// Starts one.
    pub(super) fn spawn(
        &mut self,
        name: String,
        program: &str,
        arguments: &[String],
    ) -> Result<()> {
        ensure!(!self.0.contains_key(&name), "{name} was started already");
        let path = format!("/tmp/{name}.said");
        let said = File::create(&path).with_context(|| format!("making {path}"))?;
        let child = Program::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(said.try_clone().context("duplicating a descriptor")?)
            .stderr(said)
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        self.0.insert(name, child);
        Ok(())
    }

    /// Kills one, and waits for its end.
    pub(super) fn kill(&mut self, name: &str) -> Result<()> {
        let child = self.0.remove(name);
        let mut child = child.with_context(|| format!("{name} was not started"))?;
        child.kill().with_context(|| format!("killing {name}"))?;
        child.wait().with_context(|| format!("the end of {name}"))?;
        Ok(())
    }

    /// Gives a command to the monitor behind a socket.
    pub(super) fn monitor(&mut self, socket: &str, command: Value) -> Result<Answer> {
        let mut connection = Connection::new(self.connect(socket)?)?;
        let value = connection.execute(command)?;
        Ok(Answer::Json { value })
    }

    /// Waits for whoever listens, but not for one that has ended.
    fn connect(&mut self, socket: &str) -> Result<UnixStream> {
        let until = Instant::now() + START;
        loop {
            let error = match UnixStream::connect(socket) {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            for (name, child) in &mut self.0 {
                if let Some(status) = child.try_wait().context("a program's state")? {
                    let said = std::fs::read_to_string(format!("/tmp/{name}.said"));
                    let said = said.unwrap_or_default();
                    bail!("{name} has ended ({status}): {}", said.trim());
                }
            }
            if Instant::now() > until {
                return Err(error).with_context(|| format!("nobody listens on {socket}"));
            }
            std::thread::sleep(LOOK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_has_ended_is_told_with_what_it_said() {
        let mut programs = Programs::default();
        let arguments = ["-c", "echo why >&2; exit 3"].map(str::to_owned);
        let name = format!("hitless-test-{}", std::process::id());
        programs
            .spawn(name.clone(), "/bin/sh", &arguments)
            .expect("started");
        assert!(programs.spawn(name.clone(), "/bin/sh", &arguments).is_err());
        let error = programs
            .monitor("/no/such/socket", Value::Null)
            .expect_err("it ended");
        let error = error.to_string();
        assert!(
            error.contains("status: 3") && error.ends_with("why"),
            "{error}"
        );
        programs.kill(&name).expect("it was there");
        assert!(programs.kill(&name).is_err());
        let _ = std::fs::remove_file(format!("/tmp/{name}.said"));
    }
}
