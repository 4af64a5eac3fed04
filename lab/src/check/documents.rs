// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Documents whose tables are made from the sources, and the page of words.
//!
//! The prose of such a document is written by hand, in the document. What stands between the two marks is written by
//! `cargo lab check --write`, and compared by `cargo lab check documents`.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

use super::repository::{Outcome, Repository};
use crate::trouble::trouble;

mod headers;
mod refusals;
mod seams;
mod table;

const BEGIN: &str =
    "<!-- From here to the end mark this page is made from the sources by `cargo lab check --write`. -->\n";
const END: &str = "<!-- End of what is made from the sources. -->\n";
const WORDS: &str = "docs/words.md";

/// Returns what the sources say; what they lack is a problem.
type Render = fn(&Repository, &mut Outcome) -> Result<String>;

const DOCUMENTS: &[(&str, Render)] = &[
    ("docs/refusals.md", refusals::render),
    ("docs/seams.md", seams::render),
];

/// Compares the documents with the sources.
pub(super) fn run(repository: &Repository, outcome: &mut Outcome) -> Result<()> {
    for (path, render) in DOCUMENTS {
        let text = repository.text(path)?;
        if text != fill(path, text, &render(repository, outcome)?)? {
            outcome.problems.push(format!(
                "{path}: is not what the sources say: run `cargo lab check --write`"
            ));
        }
    }
    outcome.problems.extend(repeated(repository.text(WORDS)?));
    Ok(())
}

/// Writes the documents anew; what the sources lack is a problem all the same.
pub(super) fn write(repository: &Repository, outcome: &mut Outcome) -> Result<()> {
    for (path, render) in DOCUMENTS {
        let text = render(repository, outcome)?;
        let text = fill(path, repository.text(path)?, &text)?;
        fs::write(repository.root.join(path), text)
            .with_context(|| format!("cannot write {path}"))?;
        outcome.notes.push((*path).to_owned());
    }
    Ok(())
}

/// A document with other text between its marks.
fn fill(path: &str, document: &str, text: &str) -> Result<String> {
    let parts = document
        .split_once(BEGIN)
        .and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    match parts {
        Some((before, after)) => Ok(format!("{before}{BEGIN}\n{text}\n{END}{after}")),
        None => trouble(
            format!("{path} does not have both marks"),
            format!("put these two lines where the tables belong:\n{BEGIN}{END}"),
        ),
    }
}

/// The entries of the page of words that stand there twice. An entry is a line that begins with its word in bold.
fn repeated(words: &str) -> Vec<String> {
    let mut lines: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (number, line) in (1..).zip(words.lines()) {
        let entry = line
            .strip_prefix("**")
            .and_then(|line| line.split_once("**"));
        for word in entry.iter().flat_map(|(words, _)| words.split([',', '/'])) {
            let places = lines.entry(word.trim().to_lowercase()).or_default();
            places.push(number);
        }
    }
    if lines.is_empty() {
        return vec![format!(
            "{WORDS}: has no entry; one is a line that begins with its word in bold"
        )];
    }
    lines.retain(|_, places| places.len() > 1);
    lines
        .into_iter()
        .map(|(word, places)| format!("{WORDS}: `{word}` is explained in lines {places:?}: a word has one meaning and one entry"))
        .collect()
}
