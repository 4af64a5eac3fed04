// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel tree's own LUO selftests, unmodified, on the kernel with hitless.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Result};

use crate::test::{Bench, End, Test};
use hitless_lab::build::initramfs::selftest;
use hitless_lab::build::kernel::config::Config;
use hitless_lab::build::kernel::selftests::SELFTESTS;
use hitless_lab::machine::console::Console;
use hitless_lab::machine::parts::Parts;
use hitless_lab::machine::profile::Profile;
use hitless_lab::machine::running::{command_line, Machine};

/// What the tree's own runner looks for.
const PASSED: &str = "TEST PASSED";
/// The last words of the tree's init after the jump.
const COMPLETED: &str = "Stage 2 completed successfully";
/// How long one may take.
const LIMIT: Duration = Duration::from_secs(360);
/// How long its last reboot may take.
const REBOOT: Duration = Duration::from_secs(15);
/// Between two looks at the console.
const LOOK: Duration = Duration::from_millis(20);

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
        initramfs: selftest(Config::Hitless, name)?,
        ..bench.parts.clone()
    };
    let profile = Profile::load("legacy")?;
    let line = command_line(&profile, "");
    let machine = Machine::start(name, &profile, &parts, &line)?;
    let ended = passes(&machine.console);
    let tail = machine.console.tail(20);
    let mut directory = machine.into_directory();
    if let Err(error) = ended {
        bail!(
            "{error}; the logs are in {}. The console's last lines:\n{tail}",
            directory.path().display()
        );
    }
    if !bench.keep {
        directory.discard();
    }
    Ok(End::Passed)
}

/// The test says that it has passed, and the kernel has nothing to say against it.
fn passes(console: &Console) -> Result<()> {
    let start = Instant::now();
    let passed = || console.says(PASSED) && console.says(COMPLETED);
    let goes_on = || !console.has_ended() && console.hang().is_none();
    while goes_on() && !passed() && start.elapsed() < LIMIT {
        std::thread::sleep(LOOK);
    }
    // It reboots then, which ends the machine; the console's end may come after that.
    let start = Instant::now();
    while !console.has_ended() && start.elapsed() < REBOOT {
        std::thread::sleep(LOOK);
    }
    if let Some(line) = console.hang().or(console.warnings().first().cloned()) {
        bail!("the kernel says: {line}");
    }
    ensure!(
        passed(),
        "the console does not say `{PASSED}` and `{COMPLETED}`"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_complains_does_not_pass() {
        let said = |lines: &[&str]| {
            let console = Console::default();
            for line in lines {
                console.add(1, (*line).to_owned());
            }
            console.end();
            passes(&console)
        };
        assert!(said(&[PASSED, COMPLETED]).is_ok());
        assert!(said(&[PASSED]).is_err());
        for line in [
            "WARNING: CPU: 0 at mm/x.c:1",
            "BUG: unable to handle",
            "Oops: 0002",
        ] {
            let error = said(&[PASSED, line, COMPLETED]).expect_err("it complains");
            assert!(error.to_string().contains(line), "{error}");
        }
    }
}
