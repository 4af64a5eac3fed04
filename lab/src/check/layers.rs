// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The border between glue and the kernel's C, from both sides.

use anyhow::Result;

use super::repository::{Outcome, Repository};
use super::rust::Words;

const GLUE: &str = "kernel/tree/drivers/hitless/";
/// The border to C in both directions, and core, which is linked in.
const BORDER: &[&str] = &["entry", "seam", "core"];

pub(super) fn run(repository: &Repository, outcome: &mut Outcome) -> Result<()> {
    for (path, text) in repository.texts(GLUE, &[".rs"]) {
        let module = path.trim_start_matches(GLUE).split(['/', '.']).next();
        if BORDER.contains(&module.unwrap_or_default()) {
            continue;
        }
        let found = Words::read(path, text)?;
        let bindings = found
            .lines
            .iter()
            .zip(&found.words)
            .filter(|(_, word)| *word == "bindings");
        outcome.problems.extend(bindings.map(|(line, word)| {
            format!(
                "{path}:{line}: glue calls C by way of entry, seam or rust/kernel, never `{word}`"
            )
        }));
    }
    for (path, text) in repository.texts("kernel/tree/", &[".c", ".h"]) {
        let lines = (1..).zip(text.lines());
        let foreign = lines.filter(|(_, line)| is_foreign(line));
        outcome.problems.extend(foreign.map(|(number, line)| {
            format!("{path}:{number}: a seam includes <linux/hitless/*.h> and private headers beside it, not {line}")
        }));
    }
    Ok(())
}

/// A C file may include headers below `linux/`, and of hitless nothing else but what lies beside it.
fn is_foreign(line: &str) -> bool {
    let rest = line.trim().strip_prefix('#').unwrap_or_default().trim();
    let what = rest.strip_prefix("include").unwrap_or_default().trim();
    let is_ours = what.starts_with("<linux/hitless");
    what.contains("hitless") && !is_ours && (what.starts_with('<') || what.contains('/'))
}
