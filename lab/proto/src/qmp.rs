// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU's machine protocol: commands and their answers as lines of JSON.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{json, Value};
use thiserror::Error;

/// How long QEMU may take for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a command has no answer.
#[derive(Debug, Error)]
pub enum Error {
    /// The socket, within a minute.
    #[error("QEMU's monitor says nothing: {0}")]
    Silent(#[from] io::Error),
    /// The other end is closed.
    #[error("QEMU has ended")]
    Ended,
    /// No JSON.
    #[error("QEMU's monitor says `{0}`")]
    Strange(String),
    /// The command was understood, or not, and not carried out.
    #[error("QEMU refuses {0}: {1}")]
    Refused(Value, Value),
}

/// A connection to QEMU's monitor, ready for commands.
#[derive(Debug)]
pub struct Connection {
    socket: BufReader<UnixStream>,
    /// The number of the last command: an answer that came too late is not taken for that of the next command.
    number: u64,
}

impl Connection {
    /// Reads the greeting and leaves negotiation mode. When this returns the machine is complete.
    ///
    /// # Errors
    ///
    /// Any of [`enum@Error`].
    pub fn new(socket: UnixStream) -> Result<Self, Error> {
        socket.set_read_timeout(Some(PATIENCE))?;
        let socket = BufReader::new(socket);
        let mut connection = Self { socket, number: 0 };
        connection.line()?;
        connection.execute(json!({"execute": "qmp_capabilities"}))?;
        Ok(connection)
    }

    /// Gives a command, `{"execute": ..., "arguments": ...}`, and waits for its answer.
    ///
    /// # Errors
    ///
    /// Any of [`enum@Error`].
    pub fn execute(&mut self, mut command: Value) -> Result<Value, Error> {
        self.number += 1;
        command["id"] = json!(self.number);
        writeln!(self.socket.get_mut(), "{command}")?;
        loop {
            let mut line = self.line()?;
            if line.get("id") != command.get("id") {
                // An event, or an answer to a command that was given up.
                continue;
            }
            if let Some(answer) = line.get_mut("return") {
                return Ok(answer.take());
            }
            if let Some(error) = line.get_mut("error") {
                return Err(Error::Refused(command, error.take()));
            }
        }
    }

    fn line(&mut self) -> Result<Value, Error> {
        let mut line = String::new();
        if self.socket.read_line(&mut line)? == 0 {
            return Err(Error::Ended);
        }
        serde_json::from_str(&line).map_err(|_| Error::Strange(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_belongs_to_its_command() {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let qemu = std::thread::spawn(move || {
            let mut writer = theirs.try_clone().expect("a duplicate");
            let mut commands = BufReader::new(theirs).lines();
            let mut say = |line: &str| writeln!(writer, "{line}").expect("written");
            say(r#"{"QMP": {}}"#);
            commands.next();
            say(r#"{"return": {}, "id": 1}"#);
            commands.next();
            say(r#"{"event": "STOP"}"#);
            say(r#"{"return": "too late", "id": 1}"#);
            say(r#"{"return": 7, "id": 2}"#);
            commands.next();
            say(r#"{"error": {"desc": "no"}, "id": 3}"#);
        });
        let mut monitor = Connection::new(ours).expect("a greeting");
        let mut ask = || monitor.execute(json!({"execute": "x"}));
        assert_eq!(ask().expect("an answer"), json!(7));
        let error = ask().expect_err("refused").to_string();
        assert!(error.ends_with(r#": {"desc":"no"}"#), "{error}");
        qemu.join().expect("no panic");
        assert!(matches!(ask(), Err(Error::Ended | Error::Silent(_))));
    }
}
