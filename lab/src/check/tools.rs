// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks by other programs: rustfmt, clippy, patch and checkpatch.pl. The last two need the Linux source.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{bail, Context, Result};

use super::repository::{Outcome, Repository};
use crate::build::kernel::patches as series;
use crate::build::sources::tools::linux_source;
use crate::progress::Step;

/// At most so many lines of a tool's output are shown.
const SHOWN: usize = 60;
const FORMAT: &str = "fmt --all -- --check --files-with-diff";
const CLIPPY: &str = "clippy --quiet --workspace --all-features --all-targets -- --deny warnings";
/// A kind does not apply: sums of the patches are no commits of a kernel tree.
const CHECKPATCH: &str =
    "scripts/checkpatch.pl --terse --show-types --no-summary --ignore FILE_PATH_CHANGES";

pub(super) fn format(repository: &Repository, outcome: &mut Outcome) -> Result<()> {
    cargo(repository, outcome, FORMAT, "cargo fmt --all")
}

pub(super) fn clippy(repository: &Repository, outcome: &mut Outcome) -> Result<()> {
    let step = Step::begin("Running clippy");
    let remedy = "mend each warning, or allow it with a reason";
    cargo(repository, outcome, CLIPPY, remedy)?;
    step.done();
    Ok(())
}

pub(super) fn cargo(
    repository: &Repository,
    outcome: &mut Outcome,
    arguments: &str,
    remedy: &str,
) -> Result<()> {
    let result = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(arguments.split(' '))
        .current_dir(&repository.root)
        .env("CARGO_TERM_COLOR", "never")
        .output()
        .context("cannot start cargo")?;
    if result.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&result.stderr);
    let missing = errors.contains("is not installed") || errors.contains("no such command");
    let remedy = match missing {
        true => "install the component with rustup",
        false => remedy,
    };
    let text = String::from_utf8_lossy(&result.stdout) + errors;
    let shown: Vec<&str> = text.lines().take(SHOWN).collect();
    let problem = format!("{}\n  what to do: {remedy}", shown.join("\n"));
    outcome.problems.push(problem);
    Ok(())
}

pub(super) fn patches(repository: &Repository, outcome: &mut Outcome) -> Result<()> {
    let source = linux_source()?;
    let staging = tempfile::tempdir()?;
    let list = series::list(&repository.root)?;
    let touched = series::copy_touched(&list, &source.path, staging.path())?;
    series::apply(&list, staging.path())?;
    let (patches, files, release) = (list.len(), touched.len(), source.release);
    let note = format!("{patches} patches, {files} files, Linux {release}");
    outcome.notes.push(note);
    Ok(())
}

pub(super) fn checkpatch(repository: &Repository, outcome: &mut Outcome) -> Result<()> {
    let source = linux_source()?;
    let (mut count, mut warnings) = (0, 0);
    let patches = series::list(&repository.root)?;
    let ours = repository.texts("kernel/tree/", &[".c", ".h"]);
    let ours: Vec<PathBuf> = ours.map(|(path, _)| repository.root.join(path)).collect();
    for (paths, option) in [(patches, None), (ours, Some("--file"))] {
        for path in paths {
            let result = Command::new("perl")
                .args(CHECKPATCH.split(' '))
                .args(option)
                .arg(path)
                .current_dir(&source.path)
                .output()
                .context("cannot start perl: install it, or run `cargo lab setup`")?;
            let report = String::from_utf8_lossy(&result.stdout);
            // Its status is 1 when it finds something, which is no failure of the program.
            if !result.status.success() && !report.contains(": ") {
                let errors = String::from_utf8_lossy(&result.stderr);
                bail!("checkpatch.pl failed: {}", errors.trim_end());
            }
            count += 1;
            let having = |word| report.lines().filter(move |line| line.contains(word));
            warnings += having("WARNING:").count();
            outcome.problems.extend(having("ERROR:").map(str::to_owned));
        }
    }
    let errors = outcome.problems.len();
    let note = format!("{count} files, {errors} errors, {warnings} warnings");
    outcome.notes.push(note);
    Ok(())
}
