// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU's machine protocol, as far as the lab needs it: reading physical memory and device registers.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{bail, Result};
use hitless_proto::qmp::Connection;
use serde_json::json;

/// A connection to QEMU's monitor. Clones use the same one, one after the other.
#[derive(Clone, Debug)]
pub struct Monitor(Arc<Mutex<Connection>>);

impl Monitor {
    /// Reads the greeting and leaves negotiation mode. When this returns the machine is complete.
    pub fn new(socket: UnixStream) -> Result<Self> {
        let connection = Connection::new(socket)?;
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
    fn words_are_read() {
        let said = "0000fed90220: 0x00000001 0x00000000\r\n0000fed90230: 0xc0000102\r\n";
        assert_eq!(parse_words(said), Some(vec![1, 0, 0xc000_0102]));
        assert_eq!(parse_words("Cannot access memory"), None);
    }
}
