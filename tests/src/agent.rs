// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The agent with real QEMUs on this machine: they hand a VM over that has no guest and no device.

use std::env;
use std::path::PathBuf;

use anyhow::{ensure, Result};
use hitless_lab::build::sources::qemu;
use hitless_lab::command;

use crate::host;
use crate::test::{End, Test};

/// The first release whose state has a part for VFIO devices.
const OLDEST: (u32, u32) = (10, 1);
/// How many tests of the agent are left out where there is no such release.
const TESTS: u64 = 3;

pub(crate) fn tests() -> Vec<Test> {
    vec![Test::alone(
        "agent::qemu",
        "a VM goes from QEMU to QEMU by way of the agent, is refused, and survives that its next QEMU fails",
        live,
    )]
}

fn live() -> Result<End> {
    let (oldest, minor) = OLDEST;
    let named = env::var_os("HITLESS_QEMU").filter(|name| !name.is_empty());
    let found = named
        .map(PathBuf::from)
        .or_else(|| command::find(qemu::PROGRAM));
    let Some(program) = found else {
        return Ok(End::Skipped(format!(
            "there is no {} on PATH",
            qemu::PROGRAM
        )));
    };
    let said = qemu::ask(&program, &["--version"])?;
    let said = said.lines().next().unwrap_or_default();
    if version(said).is_none_or(|version| version < OLDEST) {
        return Ok(End::Skipped(format!(
            "{} is {said}, and {oldest}.{minor} or newer is needed: name one by HITLESS_QEMU",
            program.display()
        )));
    }
    let count = host::run_ignored(
        "hitless_agent",
        "live_",
        ("HITLESS_AGENT_QEMU", program.as_os_str()),
    )?;
    ensure!(
        (count.passed, count.failed) == (TESTS, 0),
        "{} of {TESTS} tests passed; `HITLESS_AGENT_QEMU={} cargo test -p hitless_agent -- --ignored` tells why",
        count.passed,
        program.display()
    );
    Ok(End::Passed)
}

/// The first two numbers of a release.
fn version(said: &str) -> Option<(u32, u32)> {
    let rest = said.strip_prefix("QEMU emulator version ")?;
    let mut numbers = rest
        .split(['.', ' '])
        .map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn releases_are_told_apart() {
        let debian = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)";
        assert_eq!(version(debian), Some((10, 0)));
        assert_eq!(version("QEMU emulator version 11.1.3"), Some((11, 1)));
        assert_eq!(version("QEMU emulator version x"), None);
    }
}
