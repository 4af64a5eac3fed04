// SPDX-License-Identifier: Apache-2.0 OR MIT
//! rustfmt and clippy, by way of cargo.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::repository::{Outcome, Repository};
use crate::progress::Step;

/// At most so many lines of a tool's output are shown.
const SHOWN: usize = 60;

pub(super) fn format(repository: &Repository) -> Result<Outcome> {
    cargo(
        repository,
        &["fmt", "--all", "--", "--check", "--files-with-diff"],
        "cargo fmt --all",
    )
}

pub(super) fn clippy(repository: &Repository) -> Result<Outcome> {
    let step = Step::begin("Running clippy");
    let arguments = [
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ];
    let outcome = cargo(
        repository,
        &arguments,
        "mend each warning, or allow it with a reason",
    )?;
    step.done();
    Ok(outcome)
}

fn cargo(repository: &Repository, arguments: &[&str], remedy: &str) -> Result<Outcome> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let result = Command::new(cargo)
        .args(arguments)
        .current_dir(&repository.root)
        .env("CARGO_TERM_COLOR", "never")
        .stdin(Stdio::null())
        .output()
        .context("cannot start cargo")?;
    let mut outcome = Outcome::default();
    if !result.status.success() {
        let errors = String::from_utf8_lossy(&result.stderr);
        let missing = errors.contains("is not installed") || errors.contains("no such command");
        let text = String::from_utf8_lossy(&result.stdout) + errors;
        let shown: Vec<&str> = text.lines().take(SHOWN).collect();
        let remedy = if missing {
            "install the component with rustup"
        } else {
            remedy
        };
        outcome
            .problems
            .push(format!("{}\n  what to do: {remedy}", shown.join("\n")));
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::repository::pretend;

    #[test]
    fn a_failing_tool_is_a_problem() {
        let (_dir, repository) = pretend(&[("x", "")]);
        assert_eq!(
            cargo(&repository, &["no-such-verb"], "do")
                .unwrap()
                .problems
                .len(),
            1
        );
        assert!(cargo(&repository, &["--version"], "do")
            .unwrap()
            .problems
            .is_empty());
    }
}
