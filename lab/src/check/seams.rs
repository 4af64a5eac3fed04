// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How much C there is of ours, and how much lab. Of C only lines of code count: blank lines and comments do not.

use anyhow::Result;

use super::c;
use super::repository::{Outcome, Repository};

/// Lines added to and removed from existing C files, in all patches together.
const CHANGED: usize = 1_000;
/// Lines in seam files: new C files and headers outside of [`GLUE`] and [`CONTRACT`].
const SEAMS: usize = 1_700;
/// Lines in the headers of the contract, which declare and do nothing.
const DECLARED: usize = 500;
/// Lines of one function of a seam file.
const FUNCTION: usize = 60;
/// Lines of the lab, comments and tests included: a tool is smaller than what it serves.
const LAB: usize = 18_000;
const GLUE: &str = "kernel/tree/drivers/hitless/";
const CONTRACT: &str = "kernel/tree/include/linux/hitless/";

pub(super) fn run(repository: &Repository, outcome: &mut Outcome) -> Result<()> {
    let changed = repository.patches();
    let changed = changed.map(|(path, text)| (path, c::changed_lines(text)));
    let files = repository.texts("kernel/tree/", &[".c", ".h"]);
    let files: Vec<_> = files.filter(|(path, _)| !path.starts_with(GLUE)).collect();
    let (declared, seams): (Vec<_>, Vec<_>) = files
        .iter()
        .map(|(path, text)| (*path, c::lines(text)))
        .partition(|(path, _)| path.starts_with(CONTRACT));
    let changed = (
        "changed in existing C files",
        changed.collect(),
        CHANGED,
        "move what decides into glue or core, and what needs private headers into a seam file",
    );
    let advice = "move what decides into glue or core";
    let seams = ("in seam files", seams, SEAMS, advice);
    let advice = "ask for more at once";
    let declared = ("in the headers of the contract", declared, DECLARED, advice);
    for (what, counts, limit, advice) in [changed, seams, declared] {
        let counted = counts.iter().filter(|(_, count)| *count > 0);
        let counted = counted.map(|(path, count)| format!("{count:5} in {path}"));
        outcome.notes.extend(counted);
        let total = counts.iter().map(|(_, count)| count).sum();
        outcome.limit(total, &format!("lines {what}"), limit, "", advice);
    }

    let functions = files.iter().flat_map(|(path, text)| {
        let functions = c::functions(text).into_iter();
        functions.map(move |(name, lines)| (lines, format!(": {name}() in {path}")))
    });
    if let Some((lines, place)) = functions.max() {
        let what = "lines in the longest function of a seam file";
        let advice = "split it, or let glue decide";
        outcome.limit(lines, what, FUNCTION, &place, advice);
    }

    let lab = repository.texts("lab/", &[".rs"]);
    let lab = lab.map(|(_, text)| text.lines().count()).sum();
    let advice = "remove what nobody needs, or let a crate or another tool do it";
    outcome.limit(lab, "lines of Rust in the lab", LAB, "", advice);
    Ok(())
}

impl Outcome {
    /// Notes a count, and refuses one above the limit.
    fn limit(&mut self, count: usize, what: &str, limit: usize, place: &str, advice: &str) {
        let told = format!("{count:5} {what}, of at most {limit}{place}");
        if count > limit {
            self.problems.push(format!("{}; {advice}", told.trim()));
        }
        self.notes.push(told);
    }
}
