// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `docs/refusals.md`: every `Refusal` of core with its text, its error number and what to do.
//!
//! The name, the meaning and the remedy are the variant's doc comment: its first paragraph, and the one that begins with
//! `Remedy:`. A plain comment above a variant begins a section. Texts are those of `Display`, error numbers those of
//! glue's `errno()`. What is put into a text stands in italics.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::table;
use crate::check::repository::{Outcome, Repository};
use crate::check::rust::{end_of_item, Words};

const SOURCE: &str = "core/src/refusal.rs";
const GLUE: &str = "kernel/tree/drivers/hitless/";

/// What a file says about an enum.
struct Enum<'a> {
    variants: Vec<Variant<'a>>,
    /// What the words in italics in the texts stand for: the texts of the other enums of the file.
    italics: String,
}

struct Variant<'a> {
    name: &'a str,
    text: Option<String>,
    meaning: String,
    remedy: Option<String>,
    /// The type of its one field.
    takes: &'a str,
    /// The comment that begins a section with this variant.
    section: Option<&'a str>,
}

pub(super) fn render(repository: &Repository, outcome: &mut Outcome) -> Result<String> {
    let mut numbers = Texts::new();
    for (path, source) in repository.texts(GLUE, &[".rs"]) {
        for (_, body) in items(&Words::read(path, source)?.words, ["fn", "errno"]) {
            numbers.extend(arms(body, |word| word.starts_with(char::is_uppercase)));
        }
    }
    let Enum { variants, italics } = Enum::read(SOURCE, repository.text(SOURCE)?, "Refusal")?;
    let mut page = italics;
    for (index, variant) in variants.iter().enumerate() {
        let name = format!("`{}`", variant.name);
        if let Some(section) = variant.section {
            page += &format!("\n## {section}\n");
        }
        if variant.section.is_some() || index == 0 {
            let columns = ["log line", "error", "what it means", "what to do", "name"];
            page += &table::head(&columns);
        }
        let mut need = |found: Option<&String>, what: &str| {
            if found.is_none() {
                let problem = format!("{SOURCE}: {name} has no {what}");
                outcome.problems.push(problem);
            }
            found.map_or("?", String::as_str).to_owned()
        };
        let text = need(variant.text.as_ref(), "text in its Display");
        let number = format!("error number: give it one in `errno()` in {GLUE}");
        let number = format!("`{}`", need(numbers.get(variant.name), &number));
        let remedy = "paragraph that begins with `Remedy:`";
        let remedy = need(variant.remedy.as_ref(), remedy);
        page += &table::row(&[&text, &number, &variant.meaning, &remedy, &name]);
    }
    // A text that is a word in italics is that of another type, which has no error numbers of its own.
    for Variant { text, takes, .. } in variants {
        let text = text.unwrap_or_default();
        let is_word = text.starts_with('*') && text.find(' ').is_none();
        let is_source = |(path, source): &(&str, &str)| {
            is_word && *path != SOURCE && source.contains(&format!("pub enum {takes} {{"))
        };
        for (path, source) in repository.texts("core/src/", &[".rs"]).filter(is_source) {
            let Enum { variants, italics } = Enum::read(path, source, takes)?;
            page += &format!("\n## Texts that stand for {text}\n\n{italics}");
            page += &table::head(&["log line", "what it means", "name"]);
            for Variant {
                name,
                text,
                meaning,
                ..
            } in variants
            {
                let text = text.unwrap_or("?".to_owned());
                page += &table::row(&[&text, &meaning, &format!("`{name}`")]);
            }
        }
    }
    Ok(page)
}

impl<'a> Enum<'a> {
    /// Reads an enum in rustfmt's form, with what `Display` writes for it.
    fn read(path: &str, source: &'a str, wanted: &str) -> Result<Self> {
        let words = Words::read(path, source)?.words;
        let displays = items(&words, ["Display", "for"]);
        let displays =
            displays.map(|(name, body)| (name, arms(body, |word| word.starts_with('"'))));
        let mut displays: BTreeMap<&str, Texts> = displays.collect();
        let mut texts = displays.remove(wanted).unwrap_or_default();
        let italics = displays.into_iter().map(|(name, texts)| {
            let texts: Vec<String> = texts.into_values().collect();
            let name = name.to_lowercase();
            format!("- *{name}* is one of: {}.\n", texts.join(", "))
        });
        let italics = italics.collect();

        let (_, body) = source
            .split_once(&format!("pub enum {wanted} {{\n"))
            .with_context(|| format!("{path} has no enum `{wanted}`"))?;
        let mut variants = Vec::new();
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
                variants.push(Variant {
                    name,
                    text: texts.remove(name),
                    meaning: paragraphs.next().unwrap_or_default(),
                    remedy: paragraphs
                        .find_map(|text| Some(text.strip_prefix("Remedy:")?.to_owned())),
                    takes: field.rsplit("::").next().unwrap_or_default(),
                    section: section.take(),
                });
                docs.clear();
            }
        }
        Ok(Self { variants, italics })
    }
}

/// The items that begin with two words, each with the third.
fn items<'a>(
    words: &'a [String],
    begin: [&'a str; 2],
) -> impl Iterator<Item = (&'a str, &'a [String])> {
    let all = words.windows(3).enumerate();
    let found = all.filter(move |(_, three)| three[..2] == begin);
    found.map(|(at, three)| (three[2].as_str(), &words[at..end_of_item(words, at)]))
}

/// What the arms of a match say, by the names of the variants.
type Texts = BTreeMap<String, String>;

/// The arms of a match: each variant that a pattern names, with the first word of the arm that is `wanted`.
fn arms(words: &[String], wanted: impl Fn(&String) -> bool) -> Texts {
    let mut found = Texts::new();
    let parts: Vec<&[String]> = words.split(|word| word == "=>").collect();
    for pair in parts.windows(2) {
        // The pattern of an arm stands behind the body of the one before it.
        let names = pair[0].windows(3).filter(|three| three[1] == "::");
        let names = names.filter(|three| ["Self", "Refusal"].contains(&three[0].as_str()));
        if let Some(text) = pair[1].iter().find(|word| wanted(word)) {
            let text = text.trim_matches('"').replace(['{', '}'], "*");
            found.extend(names.map(|three| (three[2].clone(), text.clone())));
        }
    }
    found
}
