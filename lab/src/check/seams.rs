// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How much of the kernel's C we change, and how long the functions are that we add to it.

use anyhow::Result;

use super::repository::{Outcome, Repository};

/// Changed lines (added and removed) of existing C files in all patches together stay below this.
const LINES: usize = 600;
/// A function of a seam asks or reports; longer ones are shown, to be looked at.
const FUNCTION: usize = 10;

pub(super) fn run(repository: &Repository) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut total = 0;
    for (path, text) in
        repository.texts(|path| path.starts_with("kernel/patches/") && path.ends_with(".patch"))?
    {
        let changed = changed_c_lines(&text);
        total += changed;
        outcome.notes.push(format!(
            "{changed:4} lines in {}",
            path.trim_start_matches("kernel/patches/")
        ));
    }
    outcome.notes.push(format!(
        "{total:4} lines of existing C in all, of fewer than {LINES}"
    ));
    if total >= LINES {
        outcome.problems.push(format!("the patches change {total} lines of existing C: move what decides into glue or core, the rest into new files"));
    }
    let is_seam = |path: &str| {
        path.starts_with("kernel/tree/") && path.ends_with(".c") && path.contains("seam")
    };
    for (path, text) in repository.texts(is_seam)? {
        let functions = functions(&text);
        let long: Vec<String> = functions
            .iter()
            .filter(|function| function.lines >= FUNCTION)
            .map(|function| format!("{} ({})", function.name, function.lines))
            .collect();
        outcome.notes.push(match long.as_slice() {
            [] => format!(
                "{path}: {} functions, all shorter than {FUNCTION} lines",
                functions.len()
            ),
            _ => format!(
                "{path}: {} functions; {FUNCTION} lines or longer: {}",
                functions.len(),
                long.join(", ")
            ),
        });
    }
    Ok(outcome)
}

/// Added and removed lines of `.c` and `.h` files that exist before the patch.
fn changed_c_lines(patch: &str) -> usize {
    let mut counted = false;
    let mut left = (0, 0);
    let mut count = 0;
    for line in patch.lines() {
        if left != (0, 0) {
            // Inside a hunk, where a line that looks like a header is none.
            match line.as_bytes().first() {
                Some(b'+') => left.1 -= 1,
                Some(b'-') => left.0 -= 1,
                Some(b'\\') => continue,
                _ => left = (left.0 - 1, left.1 - 1),
            }
            count += usize::from(counted && matches!(line.as_bytes().first(), Some(b'+' | b'-')));
        } else if let Some(path) = line.strip_prefix("--- ") {
            let path = path.split('\t').next().unwrap_or(path).trim_end();
            counted = path.ends_with(".c") || path.ends_with(".h");
        } else if let Some(header) = line.strip_prefix("@@ ") {
            left = hunk(header).unwrap_or((0, 0));
        }
    }
    count
}

/// The lines that a hunk takes and gives: `-1,3 +1,4 @@`.
fn hunk(header: &str) -> Option<(i64, i64)> {
    let mut parts = header.split(' ');
    let mut length = |sign: char| {
        let (_, length) = parts
            .next()?
            .strip_prefix(sign)?
            .split_once(',')
            .unwrap_or(("", "1"));
        length.parse().ok()
    };
    Some((length('-')?, length('+')?))
}

struct Function {
    name: String,
    /// Between the braces.
    lines: usize,
}

/// The functions of a C file in kernel style: the braces of a body stand in the first column.
fn functions(text: &str) -> Vec<Function> {
    let mut found = Vec::new();
    let mut begun = None;
    let mut head = String::new();
    for (number, line) in text.lines().enumerate() {
        match line {
            "{" => begun = Some(number),
            "}" => {
                if let Some(first) = begun.take() {
                    let name = head.split('(').next().unwrap_or_default();
                    let name = name
                        .rsplit([' ', '*'])
                        .next()
                        .unwrap_or_default()
                        .to_owned();
                    found.push(Function {
                        name,
                        lines: number - first - 1,
                    });
                }
            }
            _ if begun.is_none()
                && line.contains('(')
                && line.starts_with(|c: char| c.is_alphabetic()) =>
            {
                line.clone_into(&mut head)
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::repository::pretend;

    const PATCH: &str = "From x\n---\n a.c | 2 +-\n\ndiff --git a/a.c b/a.c\n--- a/a.c\n+++ b/a.c\n@@ -1,3 +1,4 @@ f\n one\n-two\n+zwei\n+-- b/x.c\n three\n\
        diff --git a/new.c b/new.c\n--- /dev/null\n+++ b/new.c\n@@ -0,0 +1,2 @@\n+a\n+b\n\
        diff --git a/Kconfig b/Kconfig\n--- a/Kconfig\n+++ b/Kconfig\n@@ -1 +1 @@\n-a\n+b\n-- \n2.40\n";

    #[test]
    fn only_existing_c_is_counted() {
        assert_eq!(changed_c_lines(PATCH), 3);
    }

    #[test]
    fn too_much_is_refused() {
        let lines = "+x\n".repeat(LINES);
        let patch = format!("--- a/a.c\n+++ b/a.c\n@@ -1,0 +1,{LINES} @@\n{lines}");
        let (_dir, repository) = pretend(&[("kernel/patches/0001-x.patch", &patch)]);
        assert_eq!(run(&repository).unwrap().problems.len(), 1);
        let (_dir, repository) = pretend(&[("kernel/patches/0001-x.patch", PATCH)]);
        assert!(run(&repository).unwrap().problems.is_empty());
    }

    #[test]
    fn functions_are_measured() {
        let found = functions("static int *a(int x,\n\t       int y)\n{\n\treturn 0;\n}\n\nstruct s {\n\tint x;\n};\n\nbool b(void)\n{\n\tx();\n\n\treturn 1;\n}\n");
        let figures: Vec<(&str, usize)> = found
            .iter()
            .map(|function| (function.name.as_str(), function.lines))
            .collect();
        assert_eq!(figures, [("a", 1), ("b", 3)]);
    }
}
