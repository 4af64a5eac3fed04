// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `docs/refusals.md`: every `Refusal` of core with its text, its error number and what to do.
//!
//! The name, the meaning and the remedy are the variant's doc comment: its first paragraph, and the one that begins with
//! `Remedy:`. A plain comment above a variant begins a section. Texts are those of `Display`, error numbers those of
//! glue's `errno()`. What is put into a text stands in italics.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result};

use super::table;
use crate::check::repository::{Outcome, Repository};
use crate::check::rust::{end_of_item, Words};

const SOURCE: &str = "core/src/refusal.rs";
const GLUE: &str = "kernel/tree/drivers/hitless/";

/// A variant of an enum.
#[derive(Default)]
struct Variant<'a> {
    name: &'a str,
    meaning: String,
    remedy: Option<String>,
    /// The type of its one field.
    takes: Option<&'a str>,
    /// The comment that begins a section with this variant.
    section: Option<&'a str>,
}

/// What matches say, by the names of the variants.
type Texts = BTreeMap<String, String>;

pub(super) fn render(repository: &Repository, outcome: &mut Outcome) -> Result<String> {
    let mut numbers = Texts::new();
    for (path, source) in repository.texts(GLUE, &[".rs"]) {
        if source.contains("fn errno(") {
            let is_number = |word: &String| word.starts_with(char::is_uppercase);
            numbers.extend(arms(&Words::read(path, source)?.words, is_number));
        }
    }
    let source = repository.text(SOURCE)?;
    let (texts, mut page) = displayed(SOURCE, source, "Refusal")?;
    let variants = variants(SOURCE, source, "Refusal")?;
    let columns = ["log line", "error", "what it means", "what to do", "name"];
    for (index, variant) in variants.iter().enumerate() {
        let name = format!("`{}`", variant.name);
        if let Some(section) = variant.section {
            page += &format!("\n## {section}\n");
        }
        if variant.section.is_some() || index == 0 {
            page += &table::head(&columns);
        }
        let mut need = |found: Option<&String>, what: &str| {
            if found.is_none() {
                let problem = format!("{SOURCE}: {name} has no {what}");
                outcome.problems.push(problem);
            }
            found.map_or("?", String::as_str).to_owned()
        };
        let text = need(texts.get(variant.name), "text in its Display");
        let number = format!("error number: give it one in `errno()` in {GLUE}");
        let number = format!("`{}`", need(numbers.get(variant.name), &number));
        let remedy = "paragraph that begins with `Remedy:`";
        let remedy = need(variant.remedy.as_ref(), remedy);
        page += &table::row(&[&text, &number, &variant.meaning, &remedy, &name]);
    }
    for variant in &variants {
        // A text in italics is that of another type, which has no error numbers of its own.
        let text = texts.get(variant.name).map_or("", String::as_str);
        let word = text
            .strip_prefix('*')
            .and_then(|text| text.strip_suffix('*'));
        let Some(kind) = variant
            .takes
            .filter(|_| word.is_some_and(|word| !word.contains('*')))
        else {
            continue;
        };
        for (path, source) in repository.texts("core/src/", &[".rs"]) {
            if path != SOURCE && source.contains(&format!("pub enum {kind} {{")) {
                page += &format!("\n## Texts that stand for {text}\n\n");
                page += &stands_for(path, source, kind)?;
            }
        }
    }
    Ok(page)
}

/// The table of an enum whose texts are those of a refusal.
fn stands_for(path: &str, source: &str, kind: &str) -> Result<String> {
    let (texts, mut page) = displayed(path, source, kind)?;
    page += &table::head(&["log line", "what it means", "name"]);
    for variant in variants(path, source, kind)? {
        let text = texts.get(variant.name).map_or("?", String::as_str);
        page += &table::row(&[text, &variant.meaning, &format!("`{}`", variant.name)]);
    }
    Ok(page)
}

/// The variants of an enum, in rustfmt's form.
fn variants<'a>(path: &str, source: &'a str, name: &str) -> Result<Vec<Variant<'a>>> {
    let (_, body) = source
        .split_once(&format!("pub enum {name} {{\n"))
        .with_context(|| format!("{path} has no enum `{name}`"))?;
    let mut found = Vec::new();
    let mut section = None;
    let mut docs = Vec::new();
    for line in body.lines().take_while(|line| !line.starts_with('}')) {
        let line = line.trim();
        if let Some(doc) = line.strip_prefix("///") {
            docs.push(doc.trim());
        } else if let Some(comment) = line.strip_prefix("// ") {
            section = Some(comment.trim_end_matches('.'));
        } else if line.starts_with(char::is_alphabetic) {
            let (name, fields) = line.split_once(['(', ',']).unwrap_or((line, ""));
            let field = fields.split([')', ',']).next().unwrap_or_default();
            let mut paragraphs = docs
                .split(|doc| doc.is_empty())
                .map(|lines| lines.join(" "));
            found.push(Variant {
                name,
                meaning: paragraphs.next().unwrap_or_default(),
                remedy: paragraphs.find_map(|text| Some(text.strip_prefix("Remedy:")?.to_owned())),
                takes: field.rsplit("::").next().filter(|field| !field.is_empty()),
                section: section.take(),
            });
            docs.clear();
        }
    }
    Ok(found)
}

/// What `Display` writes for an enum of a file, and what the words in italics stand for there: the texts of its other enums.
fn displayed(path: &str, source: &str, wanted: &str) -> Result<(Texts, String)> {
    let words = Words::read(path, source)?.words;
    let mut all = BTreeMap::new();
    for (at, three) in words.windows(3).enumerate() {
        if three[0] == "Display" && three[1] == "for" {
            let body = &words[at..end_of_item(&words, at)];
            all.insert(&three[2], arms(body, |word| word.starts_with('"')));
        }
    }
    let texts = all.remove(&wanted.to_owned()).unwrap_or_default();
    let mut italics = String::new();
    for (name, texts) in all {
        let texts: Vec<String> = texts.into_values().collect();
        let name = name.to_lowercase();
        writeln!(italics, "- *{name}* is one of: {}.", texts.join(", "))?;
    }
    Ok((texts, italics))
}

/// The arms of a match: each variant that a pattern names, with the first word of the arm that is `wanted`.
fn arms(words: &[String], wanted: impl Fn(&String) -> bool) -> Texts {
    let mut found = Texts::new();
    let parts: Vec<&[String]> = words.split(|word| word == "=>").collect();
    for pair in parts.windows(2) {
        // The pattern of an arm stands behind the body of the one before it.
        let names = pair[0]
            .windows(3)
            .filter(|three| ["Self", "Refusal"].contains(&three[0].as_str()) && three[1] == "::");
        if let Some(text) = pair[1].iter().find(|word| wanted(word)) {
            let text = text.trim_matches('"').replace(['{', '}'], "*");
            found.extend(names.map(|three| (three[2].clone(), text.clone())));
        }
    }
    found
}
