// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Orders and reports are lines of JSON, on the serial port and on the pipes between two processes.

use std::io::Write;

use anyhow::{Context, Result};
use serde::Serialize;

/// Sends an order or a report.
pub(crate) fn send(port: &mut impl Write, message: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(message).context("writing a message as JSON")?;
    line.push(b'\n');
    port.write_all(&line).context("sending a message")?;
    port.flush().context("sending a message")
}
