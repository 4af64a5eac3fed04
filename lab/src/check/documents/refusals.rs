// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `docs/refusals.md`: every `Refusal` of core with its text, its error number and what to do.
//!
//! The name, the meaning and the remedy are the variant's doc comment: its first paragraph, and the one that begins with
//! `Remedy:`. A plain comment above a variant begins a section. Texts are those of `Display`, error numbers those of
//! glue's `errno()`.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;

use super::enums::{parse, Arms, Source};
use super::rendered::{cell, Rendered};
use crate::check::repository::Repository;

const SOURCE: &str = "core/src/refusal.rs";
const GLUE: &str = "kernel/tree/drivers/hitless/";

pub(super) fn render(repository: &Repository) -> Result<Rendered> {
    let mut rendered = Rendered::default();
    let mut numbers = BTreeMap::new();
    for (path, source) in repository.rust(GLUE)? {
        numbers.extend(
            Arms::of(&parse(path, &source)?)
                .remove("errno")
                .unwrap_or_default(),
        );
    }
    let core = Source::read(SOURCE, &repository.text(SOURCE)?, "Refusal")?;
    rendered.text += &core.italics;
    for (index, variant) in core.variants.iter().enumerate() {
        let name = &variant.name;
        if let Some(section) = &variant.section {
            write!(rendered.text, "\n## {section}\n")?;
        }
        if variant.section.is_some() || index == 0 {
            rendered.text += "\n| log line | error | what it means | what to do | name |\n|---|---|---|---|---|\n";
        }
        let mut need = |found: Option<&String>, what: &str| {
            if found.is_none() {
                rendered
                    .problems
                    .push(format!("{SOURCE}: `{name}` has no {what}"));
            }
            cell(found.map_or("?", String::as_str))
        };
        let text = need(core.texts.get(name), "text in its Display");
        let number = need(
            numbers.get(name),
            &format!("error number: give it one in `errno()` in {GLUE}"),
        );
        let remedy = need(
            variant.remedy.as_ref(),
            "paragraph that begins with `Remedy:`",
        );
        let meaning = cell(&variant.meaning);
        writeln!(
            rendered.text,
            "| {text} | `{number}` | {meaning} | {remedy} | `{name}` |"
        )?;
    }
    for variant in &core.variants {
        let text = core.texts.get(&variant.name).map_or("", String::as_str);
        let Some((kind, _)) = variant.takes.as_ref().zip(whole(text)) else {
            continue;
        };
        // The text is that of another type, which has no error numbers of its own.
        let is_source =
            |path: &str| path.starts_with("core/src/") && path.ends_with(".rs") && path != SOURCE;
        for (path, source) in repository.texts(is_source)? {
            if !source.contains(&format!("pub enum {kind} {{")) {
                continue;
            }
            let source = Source::read(path, &source, kind)?;
            let begin = "| log line | what it means | name |\n|---|---|---|";
            write!(
                rendered.text,
                "\n## Texts that stand for {text}\n\n{}\n{begin}\n",
                source.italics
            )?;
            for variant in &source.variants {
                let text = source.texts.get(&variant.name).map_or("?", String::as_str);
                writeln!(
                    rendered.text,
                    "| {} | {} | `{}` |",
                    cell(text),
                    cell(&variant.meaning),
                    variant.name
                )?;
            }
        }
    }
    Ok(rendered)
}

/// The word in italics that a text consists of, if it does.
fn whole(text: &str) -> Option<&str> {
    let word = text.strip_prefix('*')?.strip_suffix('*')?;
    (!word.contains('*')).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::repository::pretend;

    const ENUM: &str = "pub enum Family { A, B }
        impl fmt::Display for Family { fn fmt(&self) { f.write_str(match self { Self::A => \"a records\", Self::B => \"b records\" }) } }
        pub enum Refusal {
            // At any time.
            /// The record is none.
            ///
            /// Remedy: update the
            /// kernel.
            NotARecord(Family),

            // At the jump
            /// No | nothing.
            ///
            /// Remedy: wait.
            NothingMarked,
            /// A table is wrong.
            ///
            /// Remedy: report it.
            Table(pt::Flaw),
        }
        impl fmt::Display for Refusal { fn fmt(&self) { f.write_str(match self {
            Self::NotARecord(family) => { return write!(f, \"{family}: none\") }
            Self::NothingMarked => \"nothing is marked\",
            Self::Table(flaw) => return write!(f, \"{flaw}\"),
        }) } }";
    const ERRNO: &str = "fn errno(refusal: Refusal) -> Error { match refusal { Refusal::NotARecord(_) | Refusal::NothingMarked | Refusal::Table(_) => EIO } }";

    const FLAW: &str = "pub enum Flaw {\n/// A bit is set.\nReserved }
        impl fmt::Display for Flaw { fn fmt(&self) { match self { Self::Reserved => write!(f, \"reserved bit\") } } }";

    fn rendered(source: &str, errno: &str) -> Rendered {
        let (_dir, repository) = pretend(&[
            (SOURCE, source),
            ("core/src/iommu/flaw.rs", FLAW),
            ("kernel/tree/drivers/hitless/failure.rs", errno),
        ]);
        render(&repository).unwrap()
    }

    #[test]
    fn a_refusal_is_a_row() {
        let found = rendered(ENUM, ERRNO);
        assert!(found.problems.is_empty(), "{found:?}");
        for line in [
            "*family* is one of: a records, b records.",
            "## At any time\n",
            "| *family*: none | `EIO` | The record is none. | update the kernel. | `NotARecord` |\n",
            "## At the jump\n",
            "## Texts that stand for *flaw*\n",
            "| reserved bit | A bit is set. | `Reserved` |\n",
            "| nothing is marked | `EIO` | No \\| nothing. | wait. | `NothingMarked` |\n",
        ] {
            assert!(found.text.contains(line), "{line}: {}", found.text);
        }
    }

    #[test]
    fn what_is_missing_is_told_by_name() {
        let source = ENUM
            .replace("Remedy: wait.", "Wait.")
            .replace("Self::NothingMarked =>", "_ =>");
        let problems = rendered(&source, &ERRNO.replace("| Refusal::NothingMarked", "")).problems;
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems
            .iter()
            .all(|problem| problem.contains("`NothingMarked`")));
    }
}
