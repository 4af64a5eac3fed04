// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The functions that a C header declares, each with the kernel-doc comment above it.

use std::collections::BTreeMap;

use crate::check::c;

/// A function of a header.
#[derive(Debug)]
pub(super) struct Declared<'a> {
    pub(super) name: String,
    /// Where the declaration begins, from 1.
    pub(super) line: usize,
    /// It stands in the header with its body.
    pub(super) inline: bool,
    /// What it lacks, if it is not fully described.
    pub(super) complaint: Option<&'static str>,
    /// Its comment: `summary`, `text`, `Context` (may it sleep, which locks are held?) and `Return`.
    sections: BTreeMap<&'a str, String>,
}

impl Declared<'_> {
    /// A section of its comment; empty if there is none.
    pub(super) fn section(&self, name: &str) -> &str {
        self.sections.get(name).map_or("", |text| text.trim())
    }
}

/// The functions of a header, in order.
pub(super) fn functions(text: &str) -> Vec<Declared<'_>> {
    let mut found: Vec<Declared<'_>> = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    let stripped = c::strip(text);
    let code: Vec<&str> = stripped.lines().collect();
    for (number, line) in code.iter().enumerate() {
        // Before its name a function has its type, and a macro has nothing.
        let is_function = |name: &&str| !line.starts_with(*name) && !line.starts_with("typedef");
        let Some(name) = c::declared(line).filter(is_function) else {
            continue;
        };
        // What stands in for a function when the kernel is built without hitless needs no second comment.
        if !found.iter().any(|known| known.name == name) {
            let mut signs = code[number..].iter().flat_map(|line| line.chars());
            found.push(Declared {
                line: number + 1,
                inline: signs.find(|sign| matches!(sign, ';' | '{')) == Some('{'),
                ..describe(name, comment(&lines[..number]))
            });
        }
    }
    found
}

/// The lines of the kernel-doc comment that ends above.
fn comment<'a, 'b>(above: &'b [&'a str]) -> Option<&'b [&'a str]> {
    let (last, lines) = above.split_last()?;
    let begin = lines.iter().rposition(|line| line.starts_with("/*"))?;
    (last.trim() == "*/" && lines[begin] == "/**").then(|| &lines[begin + 1..])
}

/// What a comment says about a function.
fn describe<'a>(name: &str, comment: Option<&[&'a str]>) -> Declared<'a> {
    let mut sections: BTreeMap<&str, String> = BTreeMap::new();
    let mut current = "title";
    for line in comment.into_iter().flatten() {
        let line = line.trim().trim_start_matches('*').trim();
        let (word, rest) = line.split_once(':').unwrap_or(("", line));
        let begins = matches!(word, "Context" | "Return" | "Returns");
        current = match word {
            _ if begins => word.trim_end_matches('s'),
            _ if line.starts_with('@') => "parameters",
            _ if line.is_empty() => "text",
            _ => current,
        };
        let text = sections.entry(current).or_default();
        *text += " ";
        *text += if begins { rest } else { line };
    }
    let title = sections.remove("title").unwrap_or_default();
    let title = title.split_once(" - ");
    let title = title.filter(|(of, _)| of.trim().trim_end_matches("()") == name);
    let complaint = if comment.is_none() {
        Some("has no kernel-doc comment above it")
    } else if title.is_none() {
        Some("has a comment that does not begin with `name() - what it is`")
    } else if !sections.contains_key("Context") {
        Some("has a comment without `Context:`: may the callee sleep, which locks are held?")
    } else {
        None
    };
    sections.extend(title.map(|(_, summary)| ("summary", summary.to_owned())));
    Declared {
        name: name.to_owned(),
        line: 0,
        inline: false,
        complaint,
        sections,
    }
}
