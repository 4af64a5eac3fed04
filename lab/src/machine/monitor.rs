// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU's machine protocol, as far as the lab needs it: reading physical memory and device registers.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{bail, Context, Result};
use serde_json::{json, Value};

/// A connection to QEMU's monitor. Clones use the same one, one after the other.
#[derive(Clone, Debug)]
pub struct Monitor(Arc<Mutex<Connection>>);

#[derive(Debug)]
struct Connection {
    socket: BufReader<UnixStream>,
    /// The number of the last command: an answer that came too late is not taken for that of the next command.
    number: u64,
}

impl Monitor {
    /// Reads the greeting and leaves negotiation mode. When this returns the machine is complete.
    pub fn new(socket: UnixStream) -> Result<Self> {
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .context("the monitor's socket takes no time limit")?;
        let mut connection = Connection {
            socket: BufReader::new(socket),
            number: 0,
        };
        connection.line().context("QEMU's monitor does not greet")?;
        connection.execute(json!({"execute": "qmp_capabilities"}))?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// What QEMU's human monitor answers to a command.
    pub fn human(&self, command_line: &str) -> Result<String> {
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = connection.execute(json!({
            "execute": "human-monitor-command",
            "arguments": {"command-line": command_line},
        }))?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    /// Reads `count` 32-bit words of physical memory or device registers.
    pub fn words(&self, address: u64, count: usize) -> Result<Vec<u32>> {
        let command_line = format!("xp /{count}xw {address:#x}");
        let answer = self.human(&command_line)?;
        let words = parse_words(&answer).unwrap_or_default();
        if words.len() != count {
            bail!("QEMU answers {answer} to `{command_line}`");
        }
        Ok(words)
    }
}

impl Connection {
    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        let count = self.socket.read_line(&mut line);
        if count.context("QEMU's monitor says nothing")? == 0 {
            bail!("QEMU has ended");
        }
        serde_json::from_str(&line).with_context(|| format!("QEMU's monitor says `{line}`"))
    }

    fn execute(&mut self, mut command: Value) -> Result<Value> {
        self.number += 1;
        command["id"] = json!(self.number);
        writeln!(self.socket.get_mut(), "{command}").context("QEMU's monitor takes no commands")?;
        loop {
            let mut line = self.line()?;
            if line.get("id") != command.get("id") {
                // An event, or an answer to a command that was given up.
                continue;
            }
            if let Some(answer) = line.get_mut("return") {
                return Ok(answer.take());
            }
            if let Some(error) = line.get("error") {
                bail!("QEMU refuses {command}: {error}");
            }
        }
    }
}

/// Reads lines such as `00000000fed90034: 0x00000000 0x00000001`.
fn parse_words(text: &str) -> Option<Vec<u32>> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let values = lines.map(|line| Some(line.split_once(':')?.1.split_whitespace()));
    let values: Option<Vec<_>> = values.collect();
    let word = |value: &str| u32::from_str_radix(value.strip_prefix("0x")?, 16).ok();
    values?.into_iter().flatten().map(word).collect()
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
            say(r#"{"return": "1: 0x00000007", "id": 2}"#);
        });
        let monitor = Monitor::new(ours).expect("a greeting");
        assert_eq!(monitor.words(1, 1).expect("an answer"), [7]);
        qemu.join().expect("no panic");
    }

    #[test]
    fn words_are_read() {
        let said = "0000fed90220: 0x00000001 0x00000000\r\n0000fed90230: 0xc0000102\r\n";
        assert_eq!(parse_words(said), Some(vec![1, 0, 0xc000_0102]));
        assert_eq!(parse_words("Cannot access memory"), None);
    }
}
