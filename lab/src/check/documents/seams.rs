// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `docs/seams.md`: what crosses between the kernel's C and glue, from the headers, and what each patch is for.

use std::collections::BTreeSet;
use std::fmt::Write;

use anyhow::Result;

use super::calls::{callers, sources, uses, Callers, Source};
use super::headers::{self, Declared};
use super::rendered::{cell, Rendered};
use crate::check::repository::Repository;

/// How the paths of the headers begin that are the whole contract between C and glue.
const HEADERS: &str = "kernel/tree/include/linux/hitless";

/// Who asks whom.
const DIRECTIONS: &[(Direction, &str)] = &[
    (Direction::Seam, "What the kernel's C asks glue"),
    (Direction::Glue, "What glue asks the kernel's C"),
    (Direction::Between, "What one seam file asks another"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    /// Rust has the function.
    Seam,
    /// Rust calls the function.
    Glue,
    /// C has the function, and only C calls it.
    Between,
}

pub(super) fn render(repository: &Repository) -> Result<Rendered> {
    let mut rendered = Rendered::default();
    let sources = sources(repository)?;
    let headers: Vec<(&str, Vec<Declared>)> = repository
        .texts(|path| path.starts_with(HEADERS) && path.ends_with(".h"))?
        .into_iter()
        .map(|(path, text)| (path, headers::functions(&text)))
        .collect();
    let declared = headers.iter().flat_map(|(_, functions)| functions);
    let prototypes: BTreeSet<&str> = declared
        .filter(|one| !one.inline)
        .map(|one| one.name.as_str())
        .collect();
    for (direction, title) in DIRECTIONS {
        let mut begun = false;
        for (path, functions) in &headers {
            let mut rows = String::new();
            // With hitless compiled out a prototype has an inline stub of the same name.
            let stub = |one: &&Declared| one.inline && prototypes.contains(one.name.as_str());
            for function in functions.iter().filter(|one| !stub(one)) {
                if self::direction(&sources, function) != *direction {
                    continue;
                }
                let callers = callers(&sources, &function.name);
                let place = format!("{path}:{}: {}()", function.line, function.name);
                if let Some(complaint) = function.complaint {
                    rendered.problems.push(format!("{place} {complaint}"));
                }
                if callers.is_empty() {
                    rendered
                        .problems
                        .push(format!("{place} is called by nobody: remove it"));
                }
                rows += &row(function, &callers);
            }
            if rows.is_empty() {
                continue;
            }
            if !begun {
                write!(rendered.text, "\n## {title}\n")?;
                begun = true;
            }
            let name = path.trim_start_matches("kernel/tree/include/");
            write!(rendered.text, "\n### `{name}`\n\n| function | what it asks or does | context | called from |\n|---|---|---|---|\n{rows}")?;
        }
    }
    rendered.text += &patches(repository)?;
    rendered.text = rendered.text.trim().to_owned();
    Ok(rendered)
}

fn row(function: &Declared, callers: &Callers) -> String {
    let mut what = match function.summary.trim_end_matches('.') {
        "" => "Not described.".to_owned(),
        summary => format!("{summary}. {}", function.text),
    };
    if !function.returns.is_empty() {
        what += &format!(" Returns: {}", function.returns);
    }
    let callers = callers.iter().map(|(path, functions)| {
        let functions: Vec<String> = functions.iter().map(|name| format!("`{name}()`")).collect();
        match functions.is_empty() {
            true => format!("`{path}`"),
            false => format!("`{path}`: {}", functions.join(", ")),
        }
    });
    let callers: Vec<String> = callers.collect();
    format!(
        "| `{}()` | {} | {} | {} |\n",
        function.name,
        cell(&what),
        cell(&function.context),
        callers.join("; ")
    )
}

fn direction(sources: &[Source<'_>], function: &Declared) -> Direction {
    let rust = || sources.iter().filter(|source| source.path.ends_with(".rs"));
    let said = |words: &str| rust().any(|source| !uses(&source.text, words).is_empty());
    if said(&format!("fn {}", function.name)) {
        Direction::Seam
    } else if said(&format!("bindings::{}", function.name)) {
        Direction::Glue
    } else if function.inline {
        // A question of glue's in another form.
        Direction::Seam
    } else {
        Direction::Between
    }
}

/// What each patch is for: its subject and message, and the files that it changes.
fn patches(repository: &Repository) -> Result<String> {
    let mut text =
        "\n## What each patch changes\n\n| patch | why | files |\n|---|---|---|\n".to_owned();
    let series =
        repository.texts(|path| path.starts_with("kernel/patches/") && path.ends_with(".patch"))?;
    for (path, patch) in &series {
        let number = path
            .trim_start_matches("kernel/patches/")
            .split('-')
            .next()
            .unwrap_or(path);
        let (head, rest) = patch.split_once("\n---\n").unwrap_or((patch, ""));
        let mut paragraphs = head.split("\n\n");
        let subject = paragraphs
            .next()
            .and_then(|head| head.split_once("Subject: "));
        let subject = subject.map_or("", |(_, subject)| subject.trim_start_matches("[PATCH]"));
        let message: Vec<&str> = paragraphs
            .filter(|text| !text.starts_with("Signed-off-by:"))
            .collect();
        let files: BTreeSet<&str> = rest
            .lines()
            .filter_map(|line| line.strip_prefix("+++ b/"))
            .collect();
        let files: Vec<String> = files.iter().map(|file| format!("`{file}`")).collect();
        let why = message.join(" ");
        let why = why.split("Signed-off-by:").next().unwrap_or_default();
        writeln!(
            text,
            "| {number}: {} | {} | {} |",
            cell(subject),
            cell(why),
            files.join(", ")
        )?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::repository::pretend;

    const COMMENT: &str =
        " - one question\n *\n * Context: May sleep.\n * Return: true or false.\n */\n";
    const PATCH: &str = "From 0\nSubject: [PATCH] mm: ask\n twice\n\nBecause it has to.\n\nSigned-off-by: A <a@b>\n---\n mm/a.c | 1 +\n\n\
        --- a/mm/a.c\n+++ b/mm/a.c\n@@ -1,2 +1,3 @@ static int first(void)\n \tx();\n+\tif (hitless_asked(1))\n \ty();\n\
        @@ -9,3 +10,4 @@ static int first(void)\n }\n int second(void)\n {\n+\thitless_asked(2);\n-\thitless_old(2);\n";

    fn rendered(header: &str) -> Rendered {
        let (_dir, repository) = pretend(&[
            ("kernel/tree/include/linux/hitless/mm.h", header),
            ("kernel/tree/drivers/hitless/entry/mm.rs", "pub unsafe extern \"C\" fn hitless_asked(a: u32) -> bool { true }"),
            ("kernel/tree/drivers/hitless/seam/mm.rs", "fn f() { unsafe { bindings::hitless_told() } }"),
            ("kernel/tree/mm/hitless.c", "bool hitless_told(void)\n{\n\treturn hitless_between();\n}\n\nbool hitless_between(void)\n{\n\treturn 0;\n}\n"),
            ("kernel/patches/0001-mm.patch", PATCH),
        ]);
        render(&repository).unwrap()
    }

    #[test]
    fn functions_are_told_with_direction_context_and_callers() {
        let names = ["hitless_asked", "hitless_told", "hitless_between"];
        let header: Vec<String> = names
            .iter()
            .map(|name| format!("/**\n * {name}(){COMMENT}bool {name}(void);\n"))
            .collect();
        let stub = "static inline bool hitless_asked(void) { return false; }\n";
        let found = rendered(&(header.concat() + stub));
        assert!(found.problems.is_empty(), "{found:?}");
        let row = |name: &str, callers: &str| {
            format!(
                "| `{name}()` | one question. Returns: true or false. | May sleep. | {callers} |\n"
            )
        };
        let expected = [
            "## What the kernel's C asks glue\n\n### `linux/hitless/mm.h`\n".to_owned(),
            row("hitless_asked", "`mm/a.c`: `first()`, `second()`"),
            row("hitless_told", "`drivers/hitless/seam/mm.rs`"),
            row("hitless_between", "`mm/hitless.c`: `hitless_told()`"),
            "| 0001: mm: ask twice | Because it has to. | `mm/a.c` |".to_owned(),
        ];
        for text in expected {
            assert!(found.text.contains(&text), "{text}\n{}", found.text);
        }
    }

    #[test]
    fn what_is_not_described_or_not_called_is_a_problem() {
        let problems =
            rendered("bool hitless_told(void);\nint hitless_forgotten(void);\n").problems;
        let expected = [
            "mm.h:1: hitless_told() has no kernel-doc comment",
            "mm.h:2: hitless_forgotten() has no kernel-doc comment",
            "mm.h:2: hitless_forgotten() is called by nobody",
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, words) in problems.iter().zip(expected) {
            assert!(problem.contains(words), "{problem}");
        }
    }
}
