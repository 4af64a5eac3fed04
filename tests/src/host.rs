// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The host's tests: `cargo test` over the workspace, counted.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// How many tests ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Passed.
    pub(crate) passed: u64,
    /// Failed.
    pub(crate) failed: u64,
    /// Skipped.
    pub(crate) skipped: u64,
}

impl Count {
    /// The last line.
    pub(crate) fn line(self) -> String {
        format!(
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// `cargo test` of this package, or of all.
fn cargo(package: Option<&str>) -> Result<Command> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(hitless_lab::paths::repository()?)
        .args(["test", "--quiet", "--all-features"])
        .stdin(Stdio::null());
    match package {
        Some(package) => command.args(["--package", package]),
        None => command.arg("--workspace"),
    };
    // The inner cargo finds its own manifest and flags.
    command.env_remove("CARGO_MANIFEST_DIR");
    Ok(command)
}

/// The names of the host's tests.
pub(crate) fn list(filters: &[String]) -> Result<Vec<String>> {
    let output = cargo(None)?
        .arg("--")
        .args(filters)
        .arg("--list")
        .stderr(Stdio::inherit())
        .output()
        .context("cargo can not be started")?;
    anyhow::ensure!(output.status.success(), "the host's tests do not build");
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect())
}

/// Runs a crate's tests of this name that are left out otherwise, with a variable set.
pub(crate) fn run_ignored(
    package: &str,
    name: &str,
    (variable, value): (&str, &OsStr),
) -> Result<Count> {
    let mut command = cargo(Some(package))?;
    command
        .args(["--lib", "--", "--ignored", name])
        .env(variable, value);
    count(&mut command)
}

/// Runs them. A test that does not build counts as one that failed.
pub(crate) fn run(filters: &[String]) -> Result<Count> {
    let mut command = cargo(None)?;
    let count = count(command.args(["--no-fail-fast", "--"]).args(filters))?;
    println!("host: {} passed, {} failed", count.passed, count.failed);
    Ok(count)
}

fn count(command: &mut Command) -> Result<Count> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo can not be started")?;
    let mut count = Count::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.context("cargo's output")?;
            match parse(&line) {
                Some(part) => {
                    count.passed += part.passed;
                    count.failed += part.failed;
                    count.skipped += part.skipped;
                }
                // What is not a row of dots is about a failure.
                None if !is_progress(&line) => println!("{line}"),
                None => {}
            }
        }
    }
    let status = child.wait().context("cargo's status")?;
    if !status.success() && count.failed == 0 {
        println!("FAIL host tests: cargo test ended with {status} before it could count");
        count.failed = 1;
    }
    Ok(count)
}

fn is_progress(line: &str) -> bool {
    let line = line.trim();
    line.is_empty()
        || line.starts_with("running ")
        || line
            .trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '/')
            .trim_end()
            .chars()
            .all(|letter| letter == '.' || letter == 'i')
}

/// Reads `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; ...`.
fn parse(line: &str) -> Option<Count> {
    let (_, figures) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let figure = |word: &str| {
        figures.split("; ").find_map(|part| {
            let number = part.strip_suffix(word)?;
            number.trim().parse::<u64>().ok()
        })
    };
    Some(Count {
        passed: figure(" passed")?,
        failed: figure(" failed")?,
        skipped: figure(" ignored")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let line = "test result: FAILED. 12 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(
            parse(line),
            Some(Count {
                passed: 12,
                failed: 2,
                skipped: 1
            })
        );
        assert_eq!(parse("test result: ok."), None);
        assert_eq!(parse("running 4 tests"), None);
    }

    #[test]
    fn dots_are_progress_and_a_panic_is_not() {
        for line in ["running 4 tests", "....i 5/5", "", "..."] {
            assert!(is_progress(line), "{line}");
        }
        assert!(!is_progress("thread 'x' panicked at src/lib.rs:1:1:"));
    }
}
