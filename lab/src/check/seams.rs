// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How much C there is of ours. Only lines of code count: blank lines and comments do not.

use std::collections::BTreeMap;

use anyhow::Result;

use super::c;
use super::repository::{Outcome, Repository};

/// Lines added to and removed from existing C files, in all patches together.
const CHANGED: usize = 1_000;
/// Lines in seam files: new C files and headers outside of [`GLUE`] and [`CONTRACT`].
const SEAMS: usize = 1_500;
/// Lines in the headers of the contract, which declare and do nothing.
const DECLARED: usize = 400;
/// Lines of one function of a seam file.
const FUNCTION: usize = 60;
const GLUE: &str = "kernel/tree/drivers/hitless/";
const CONTRACT: &str = "kernel/tree/include/linux/hitless/";

pub(super) fn run(repository: &Repository) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let patches =
        repository.texts(|path| path.starts_with("kernel/patches/") && path.ends_with(".patch"))?;
    let changed: Vec<(&str, usize)> = patches
        .iter()
        .map(|(path, text)| (*path, changed_lines(text)))
        .collect();
    let advice =
        "move what decides into glue or core, and what needs private headers into a seam file";
    outcome.limit("changed in existing C files", &changed, CHANGED, advice);

    let files = repository.texts(is_seam_file)?;
    let (declared, seams): (Vec<_>, Vec<_>) = files
        .iter()
        .map(|(path, text)| (*path, c::lines(text)))
        .partition(|(path, _)| path.starts_with(CONTRACT));
    let advice = "move what decides into glue or core";
    outcome.limit("in seam files", &seams, SEAMS, advice);
    let advice = "ask for more at once";
    outcome.limit(
        "in the headers of the contract",
        &declared,
        DECLARED,
        advice,
    );

    let functions = files.iter().flat_map(|(path, text)| {
        c::functions(text)
            .into_iter()
            .map(move |function| (*path, function))
    });
    if let Some((path, function)) = functions.max_by_key(|(_, function)| function.lines) {
        let told = format!("{} lines in the longest function of a seam file, of at most {FUNCTION}: {}() in {path}", function.lines, function.name);
        if function.lines > FUNCTION {
            outcome
                .problems
                .push(format!("{told}; split it, or let glue decide"));
        }
        outcome.notes.push(told);
    }
    Ok(outcome)
}

pub(super) fn is_seam_file(path: &str) -> bool {
    let is_c = path.ends_with(".c") || path.ends_with(".h");
    is_c && path.starts_with("kernel/tree/") && !path.starts_with(GLUE)
}

impl Outcome {
    /// Notes a count for each file, and refuses a sum above the limit.
    fn limit(&mut self, what: &str, counts: &[(&str, usize)], limit: usize, advice: &str) {
        let total: usize = counts.iter().map(|(_, count)| count).sum();
        for (path, count) in counts.iter().filter(|(_, count)| *count > 0) {
            self.notes.push(format!("{count:5} in {path}"));
        }
        self.notes
            .push(format!("{total:5} lines {what}, of at most {limit}"));
        if total > limit {
            self.problems.push(format!(
                "{total} lines {what}, of at most {limit}: {advice}"
            ));
        }
    }
}

/// Added and removed lines of code in `.c` and `.h` files that exist before the patch.
fn changed_lines(patch: &str) -> usize {
    let mut counted = false;
    let mut left = BTreeMap::from([('-', 0), ('+', 0)]);
    // What a hunk is before and after the change, each line with its sign.
    let mut sides = BTreeMap::from([('-', Vec::new()), ('+', Vec::new())]);
    let mut count = 0;
    for line in patch.lines() {
        if left.values().any(|left| *left > 0) {
            // Inside a hunk, where a line that looks like a header is none.
            let sign = line.chars().next().unwrap_or(' ');
            for (side, lines) in sides
                .iter_mut()
                .filter(|(side, _)| sign == ' ' || sign == **side)
            {
                lines.push((sign, line.get(1..).unwrap_or_default()));
                left.entry(*side).and_modify(|left| *left -= 1);
            }
        } else if let Some(header) = line.strip_prefix("@@ ") {
            count += code_lines(&mut sides);
            left = hunk(header).filter(|_| counted).unwrap_or_default();
        } else if let Some(path) = line.strip_prefix("--- ") {
            let path = path.split('\t').next().unwrap_or(path).trim_end();
            counted = path.ends_with(".c") || path.ends_with(".h");
        }
    }
    count + code_lines(&mut sides)
}

type Sides<'a> = BTreeMap<char, Vec<(char, &'a str)>>;

/// The changed lines of code on both sides of a hunk, which are forgotten.
fn code_lines(sides: &mut Sides<'_>) -> usize {
    let mut count = 0;
    for lines in sides.values_mut() {
        let text: Vec<&str> = lines.iter().map(|(_, line)| *line).collect();
        let stripped = c::strip(&text.join("\n"));
        let changed = lines
            .iter()
            .zip(stripped.lines())
            .filter(|((sign, _), line)| *sign != ' ' && c::is_code(line));
        count += changed.count();
        lines.clear();
    }
    count
}

/// The lines that a hunk takes and gives: `-1,3 +1,4 @@`.
fn hunk(header: &str) -> Option<BTreeMap<char, i64>> {
    let mut parts = header.split(' ');
    let mut length = |sign: char| {
        let (_, length) = parts
            .next()?
            .strip_prefix(sign)?
            .split_once(',')
            .unwrap_or(("", "1"));
        Some((sign, length.parse().ok()?))
    };
    Some(BTreeMap::from([length('-')?, length('+')?]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::repository::pretend;

    const PATCH: &str = "From x\n---\n a.c | 2 +-\n\ndiff --git a/a.c b/a.c\n--- a/a.c\n+++ b/a.c\n@@ -1,3 +1,8 @@ f\n one\n-two\n+zwei\n+-- b/x.c\n+/* why\n+\n+ */\n+\n three\n\
        @@ -9,2 +14,3 @@\n * a comment\n+ * that grows\n */\n\
        diff --git a/new.c b/new.c\n--- /dev/null\n+++ b/new.c\n@@ -0,0 +1,2 @@\n+a\n+b\n\
        diff --git a/Kconfig b/Kconfig\n--- a/Kconfig\n+++ b/Kconfig\n@@ -1 +1 @@\n-a\n+b\n-- \n2.40\n";

    fn problems(path: &str, text: &str) -> Vec<String> {
        let (_dir, repository) = pretend(&[(path, text)]);
        run(&repository).unwrap().problems
    }

    #[test]
    fn only_code_of_existing_c_is_counted() {
        assert_eq!(changed_lines(PATCH), 3);
        assert!(problems("kernel/patches/0001-x.patch", PATCH).is_empty());
    }

    #[test]
    fn too_much_is_refused() {
        let more = CHANGED + 1;
        let patch = format!(
            "--- a/a.c\n+++ b/a.c\n@@ -1,0 +1,{more} @@\n{}",
            "+x\n".repeat(more)
        );
        assert_eq!(problems("kernel/patches/0001-x.patch", &patch).len(), 1);
        let header = "int x;\n".repeat(SEAMS + 1);
        assert_eq!(
            problems("kernel/tree/include/linux/hitless/a.h", &header).len(),
            1
        );
        assert!(problems("kernel/tree/drivers/hitless/a.h", &header).is_empty());
        let function = format!(
            "int long_one(void)\n{{\n{}}}\n",
            "\tx();\n".repeat(FUNCTION + 1)
        );
        let problems = problems("kernel/tree/mm/a.c", &function);
        assert!(
            problems.len() == 1 && problems[0].contains("long_one() in kernel/tree/mm/a.c"),
            "{problems:?}"
        );
    }
}
