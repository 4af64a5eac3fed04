// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks that need the Linux source: do the patches apply, and what does checkpatch say?

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::repository::{Outcome, Repository};
use crate::build::kernel::patches as series;
use crate::build::sources::tools::linux_source;

/// Kinds that do not apply: sums of the patches are no commits of a kernel tree.
const IGNORED: &str = "FILE_PATH_CHANGES";

pub(super) fn patches(repository: &Repository) -> Result<Outcome> {
    let source = linux_source()?;
    let list = series::list(&repository.root)?;
    let staging = tempfile::tempdir()?;
    let touched = series::copy_touched(&list, &source.path, staging.path())?;
    series::apply(&list, staging.path())?;
    Ok(Outcome {
        notes: vec![format!(
            "{} patches, {} files, Linux {}",
            list.len(),
            touched.len(),
            source.release
        )],
        ..Outcome::default()
    })
}

pub(super) fn checkpatch(repository: &Repository) -> Result<Outcome> {
    let source = linux_source()?;
    let mut outcome = Outcome::default();
    let (mut count, mut warnings) = (0, 0);
    let mut one = |path: &Path, as_file: bool| -> Result<()> {
        let report = report(&source.path, path, as_file)?;
        count += 1;
        for line in report.lines() {
            if line.contains("ERROR:") {
                outcome.problems.push(line.to_owned());
            }
            warnings += usize::from(line.contains("WARNING:"));
        }
        Ok(())
    };
    for patch in series::list(&repository.root)? {
        one(&patch, false)?;
    }
    let is_c = |path: &&String| {
        path.starts_with("kernel/tree/") && (path.ends_with(".c") || path.ends_with(".h"))
    };
    for path in repository.files.iter().filter(is_c) {
        one(&repository.root.join(path), true)?;
    }
    outcome.notes.push(format!(
        "{count} files, {} errors, {warnings} warnings",
        outcome.problems.len()
    ));
    Ok(outcome)
}

/// checkpatch's findings, one line each. Its status is 1 when there are any, which is no failure of the program.
fn report(tree: &Path, path: &Path, as_file: bool) -> Result<String> {
    let mut perl = Command::new("perl");
    perl.arg("scripts/checkpatch.pl").args([
        "--terse",
        "--show-types",
        "--no-summary",
        "--ignore",
        IGNORED,
    ]);
    if as_file {
        perl.arg("--file");
    }
    let result = perl
        .arg(path)
        .current_dir(tree)
        .output()
        .context("cannot start perl: install it, or run `cargo lab setup`")?;
    let text = String::from_utf8_lossy(&result.stdout).into_owned();
    if !result.status.success() && !text.contains(": ") {
        anyhow::bail!(
            "checkpatch.pl failed: {}",
            String::from_utf8_lossy(&result.stderr).trim_end()
        );
    }
    Ok(text)
}
