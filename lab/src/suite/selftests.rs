// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel tree's own LUO selftests, unmodified, on the kernel with hitless.

use std::time::{Duration, Instant};

use anyhow::{bail, Result};

use crate::artifacts::{self, Config, SELFTESTS};
use crate::run::machine::{command_line, Machine};
use crate::run::parts::Parts;
use crate::run::profile::Profile;
use crate::suite::{Bench, End, Test};

/// What the tree's own runner looks for.
const PASSED: &str = "TEST PASSED";
/// The last words of the tree's init after the jump.
const COMPLETED: &str = "Stage 2 completed successfully";
/// How long one may take.
const LIMIT: Duration = Duration::from_secs(90);

pub(crate) fn tests() -> Vec<Test> {
    SELFTESTS
        .iter()
        .map(|name| {
            Test::new(
                format!("selftest::{name}"),
                "legacy",
                "the kernel tree's own test passes unmodified",
                move |bench| run(bench, name),
            )
        })
        .collect()
}

fn run(bench: &Bench, name: &str) -> Result<End> {
    let parts = Parts {
        initramfs: artifacts::selftest_initramfs(Config::Hitless, name)?,
        ..bench.parts.clone()
    };
    let profile = Profile::load("legacy")?;
    let line = command_line(&profile, "");
    let machine = Machine::start(name, &profile, &parts, &line)?;
    let start = Instant::now();
    let console = machine.console.clone();
    while !console.has_ended() && start.elapsed() < LIMIT {
        if console.says(PASSED) && console.says(COMPLETED) {
            let mut directory = machine.into_directory();
            if !bench.keep {
                directory.discard();
            }
            return Ok(End::Passed);
        }
        if console.hang().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // The end of the console may come after the machine's.
    std::thread::sleep(Duration::from_millis(100));
    let passed = console.says(PASSED) && console.says(COMPLETED);
    let mut directory = machine.into_directory();
    if passed {
        if !bench.keep {
            directory.discard();
        }
        return Ok(End::Passed);
    }
    bail!(
        "the console does not say `{PASSED}` and `{COMPLETED}`; the logs are in {}. Its last lines:\n{}",
        directory.path().display(),
        console.tail(20)
    )
}
