// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who calls a function of a header, in the kernel's C and in glue.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::check::c;
use crate::check::repository::Repository;

/// A piece of C or Rust that may call something.
pub(super) struct Source<'a> {
    pub(super) path: &'a str,
    pub(super) text: String,
}

/// The code of ours in the kernel: files of C, headers and glue, and what patches leave of the files that they change.
pub(super) fn sources(repository: &Repository) -> Result<Vec<Source<'_>>> {
    let is_code = |path: &str| {
        path.starts_with("kernel/tree/")
            && [".c", ".h", ".rs"].iter().any(|end| path.ends_with(end))
    };
    let mut sources: Vec<Source<'_>> = repository
        .texts(is_code)?
        .into_iter()
        .map(|(path, text)| Source {
            text: if path.ends_with(".rs") {
                text
            } else {
                c::strip(&text)
            },
            path,
        })
        .collect();
    for (path, text) in repository.texts(|path| path.ends_with(".patch"))? {
        sources.push(Source { path, text });
    }
    Ok(sources)
}

/// The lines of a text in which some words stand as whole words before a bracket, from 0.
pub(super) fn uses(text: &str, words: &str) -> Vec<usize> {
    let is_name = |sign: char| sign.is_alphanumeric() || sign == '_';
    let used = |line: &str| {
        line.match_indices(words).any(|(at, _)| {
            !line[..at].ends_with(is_name) && line[at + words.len()..].trim_start().starts_with('(')
        })
    };
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| used(line))
        .map(|(number, _)| number)
        .collect()
}

/// Files, and the functions in each that call something; none in Rust, where the file is enough.
pub(super) type Callers = BTreeMap<String, BTreeSet<String>>;

pub(super) fn callers(sources: &[Source<'_>], name: &str) -> Callers {
    let mut found = Callers::new();
    for source in sources {
        let path = source.path.trim_start_matches("kernel/tree/");
        if source.path.ends_with(".rs") {
            if !uses(&source.text, &format!("bindings::{name}")).is_empty() {
                found.entry(path.to_owned()).or_default();
            }
            continue;
        }
        let lines: Vec<&str> = source.text.lines().collect();
        for number in uses(&source.text, name) {
            let call = match path.ends_with(".patch") {
                true => patched(&lines[..=number]),
                false => called(&lines[..=number]).map(|function| (path, Some(function))),
            };
            if let Some((path, function)) = call {
                found.entry(path.to_owned()).or_default().extend(function);
            }
        }
    }
    found
}

/// The function with a call in a C file; the last of these lines has the call.
fn called(lines: &[&str]) -> Option<String> {
    let (line, before) = lines.split_last()?;
    let head = before.iter().rev().find(|line| is_head(line))?;
    line.starts_with(['\t', ' ']).then(|| function_name(head))
}

/// The file and function with a call that a patch adds; the last of these lines has the call.
fn patched<'a>(lines: &[&'a str]) -> Option<(&'a str, Option<String>)> {
    let (line, before) = lines.split_last()?;
    let mut above = before.iter().rev();
    let path = above.clone().find_map(|line| line.strip_prefix("+++ b/"))?;
    let code = line.strip_prefix('+')?;
    let is_call = code.starts_with(['\t', ' ']) && c::is_code(code);
    // In the hunk, or in its header, which names the function in which it begins, or a label.
    let head = above.find_map(|line| match line.split_once(" @@") {
        Some((range, head)) if range.starts_with("@@ ") => Some(head.trim()),
        _ => line
            .get(1..)
            .filter(|code| !line.starts_with('-') && is_head(code)),
    })?;
    let is_c = path.ends_with(".c") || path.ends_with(".h");
    (is_c && is_call).then(|| (path, is_head(head).then(|| function_name(head))))
}

/// Does a function begin here? In kernel style its name stands in the first column, or behind its type there.
fn is_head(line: &str) -> bool {
    let ended = line.trim_end();
    line.starts_with(|first: char| first.is_alphabetic() || first == '_')
        && line.contains('(')
        && !ended.ends_with([';', ':'])
}

fn function_name(head: &str) -> String {
    let before = head.split('(').next().unwrap_or(head);
    before
        .rsplit([' ', '*', '\t'])
        .next()
        .unwrap_or(before)
        .to_owned()
}
