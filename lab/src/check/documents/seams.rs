// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `docs/seams.md`: what crosses between the kernel's C and glue, from the headers, and what each patch is for.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::headers::{self, Declared};
use super::table::{self, row};
use crate::check::c;
use crate::check::repository::{Outcome, Repository};

/// How the paths of the headers begin that are the whole contract between C and glue.
const HEADERS: &str = "kernel/tree/include/linux/hitless";

/// Who asks whom, in the order of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    /// Rust has the function.
    Seam,
    /// Rust calls the function.
    Glue,
    /// C has the function, and only C calls it.
    Between,
}

pub(super) fn render(repository: &Repository, outcome: &mut Outcome) -> Result<String> {
    let sources = sources(repository);
    let mut tables: BTreeMap<(Direction, &str), String> = BTreeMap::new();
    for (path, text) in repository.texts(HEADERS, &[".h"]) {
        for function in headers::functions(text) {
            let callers = callers(&sources, &function.name);
            let place = format!("{path}:{}: {}()", function.line, function.name);
            let none = callers.is_empty();
            let uncalled = none.then_some("is called by nobody: remove it");
            let complaints = [function.complaint, uncalled].into_iter().flatten();
            let complaints = complaints.map(|what| format!("{place} {what}"));
            outcome.problems.extend(complaints);
            let direction = direction(&sources, &function);
            *tables.entry((direction, path)).or_default() += &described(&function, &callers);
        }
    }
    let mut page = String::new();
    let mut begun = None;
    for ((direction, path), rows) in tables {
        if begun.replace(direction) != Some(direction) {
            let title = match direction {
                Direction::Seam => "What the kernel's C asks glue",
                Direction::Glue => "What glue asks the kernel's C",
                Direction::Between => "What one seam file asks another",
            };
            page += &format!("\n## {title}\n");
        }
        let name = path.trim_start_matches("kernel/tree/include/");
        let head = table::head(&["function", "what it asks or does", "context", "called from"]);
        page += &format!("\n### `{name}`\n{head}{rows}");
    }
    page += &patches(repository);
    Ok(page.trim().to_owned())
}

fn described(function: &Declared<'_>, callers: &Callers<'_>) -> String {
    let mut what = match function.section("summary").trim_end_matches('.') {
        "" => "Not described.".to_owned(),
        summary => format!("{summary}. {}", function.section("text")),
    };
    let returns = function.section("Return");
    if !returns.is_empty() {
        what += &format!(" Returns: {returns}");
    }
    let callers = callers.iter().map(|(path, functions)| {
        let functions: Vec<&str> = functions.iter().map(String::as_str).collect();
        let text = format!("`{path}`: {}", functions.join(", "));
        text.trim_end_matches(": ").to_owned()
    });
    let callers: Vec<String> = callers.collect();
    let (name, context) = (&function.name, function.section("Context"));
    row(&[&format!("`{name}()`"), &what, context, &callers.join("; ")])
}

fn direction(sources: &[Source<'_>], function: &Declared<'_>) -> Direction {
    let said = |words: &str| {
        let mut rust = sources.iter().filter(|source| source.is_rust());
        rust.any(|source| source.lines.iter().any(|(_, line)| calls(line, words)))
    };
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

/// A file, or what a hunk of a patch leaves of one.
struct Source<'a> {
    path: &'a str,
    /// Each line, and whether it is ours.
    lines: Vec<(bool, String)>,
}

impl Source<'_> {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// The code of ours in the kernel: files of C, headers and glue, and what patches leave of the C files that they change.
fn sources(repository: &Repository) -> Vec<Source<'_>> {
    let mut sources = Vec::new();
    for (path, text) in repository.texts("kernel/tree/", &[".c", ".h", ".rs"]) {
        let stripped = match path.ends_with(".rs") {
            true => text.to_owned(),
            false => c::strip(text),
        };
        sources.push(Source {
            path: path.trim_start_matches("kernel/tree/"),
            lines: stripped
                .lines()
                .map(|line| (true, line.to_owned()))
                .collect(),
        });
    }
    let hunks = repository.patches().flat_map(|(_, patch)| c::hunks(patch));
    for hunk in hunks.filter(c::Hunk::is_c) {
        let mut lines = vec![(false, hunk.head().to_owned())];
        lines.extend(hunk.side('+'));
        let path = hunk.path;
        sources.push(Source { path, lines });
    }
    sources
}

/// Files, and the functions in each that call something; none in Rust, where the file is enough.
type Callers<'a> = BTreeMap<&'a str, BTreeSet<String>>;

fn callers<'a>(sources: &'a [Source<'a>], name: &str) -> Callers<'a> {
    let mut found = Callers::new();
    for source in sources {
        let words = match source.is_rust() {
            true => format!("bindings::{name}"),
            false => name.to_owned(),
        };
        for (number, (ours, line)) in source.lines.iter().enumerate() {
            // What stands in the first column of C is no call.
            let inside = source.is_rust() || line.starts_with(['\t', ' ']);
            if *ours && inside && c::is_code(line) && calls(line, &words) {
                let mut above = source.lines[..number].iter().rev();
                let function = above.find_map(|(_, line)| c::head(line));
                let function = function.filter(|_| !source.is_rust());
                let names = found.entry(source.path).or_default();
                names.extend(function.map(|name| format!("`{name}()`")));
            }
        }
    }
    found
}

/// Do some words stand in a line as whole words before a bracket?
fn calls(line: &str, words: &str) -> bool {
    let is_name = |sign: char| sign.is_alphanumeric() || sign == '_';
    line.match_indices(words).any(|(at, _)| {
        !line[..at].ends_with(is_name) && line[at + words.len()..].trim_start().starts_with('(')
    })
}

/// What each patch is for: its subject and message, and the files that it changes.
fn patches(repository: &Repository) -> String {
    let mut text = "\n## What each patch changes\n".to_owned();
    text += &table::head(&["patch", "why", "files"]);
    for (path, patch) in repository.patches() {
        let name = path.trim_start_matches("kernel/patches/");
        let number = name.split('-').next().unwrap_or(name);
        let (head, _) = patch.split_once("\n---\n").unwrap_or((patch, ""));
        let (head, message) = head.split_once("\n\n").unwrap_or((head, ""));
        let (_, subject) = head.split_once("Subject: ").unwrap_or_default();
        let what = format!("{number}: {}", subject.trim_start_matches("[PATCH]"));
        let why = message.split("Signed-off-by:").next().unwrap_or_default();
        let files: BTreeSet<&str> = c::hunks(patch).map(|hunk| hunk.path).collect();
        let files: Vec<String> = files.iter().map(|file| format!("`{file}`")).collect();
        text += &row(&[&what, why, &files.join(", ")]);
    }
    text
}
