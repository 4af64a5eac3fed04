// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `docs/refusals.md`: every `Refusal` of core with its text, its error number and what to do.
//!
//! The name, the meaning and the remedy are the variant's doc comment: its first paragraph, and the one that begins with
//! `Remedy:`. A plain comment above a variant begins a section. Texts are those of `Display`, error numbers those of
//! glue's `errno()`.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{anyhow, Context, Result};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Expr, Item, Meta, Pat, Token};

use super::rendered::{cell, Rendered};
use crate::check::repository::Repository;

const SOURCE: &str = "core/src/refusal.rs";
const GLUE: &str = "kernel/tree/drivers/hitless/";

struct Variant {
    name: String,
    meaning: String,
    remedy: Option<String>,
    /// The type of its one field.
    takes: Option<String>,
    /// The comment that begins a section with this variant.
    section: Option<String>,
}

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

fn parse(path: &str, source: &str) -> Result<syn::File> {
    syn::parse_file(source)
        .map_err(|error| anyhow!("{path}:{}: {error}", error.span().start().line))
}

/// What a file says about an enum.
struct Source {
    variants: Vec<Variant>,
    /// The text of each variant.
    texts: BTreeMap<String, String>,
    /// What the words in italics in the texts stand for: the texts of the other enums of the file.
    italics: String,
}

impl Source {
    fn read(path: &str, source: &str, name: &str) -> Result<Self> {
        let file = parse(path, source)?;
        let lines: Vec<&str> = source.lines().map(str::trim).collect();
        let found = file.items.iter().find_map(|item| match item {
            Item::Enum(item) if item.ident == name => Some(item),
            _ => None,
        });
        let found = found.with_context(|| format!("{path} has no enum `{name}`"))?;
        let mut displays = Arms::of(&file);
        let texts = displays.remove(name).unwrap_or_default();
        let mut italics = String::new();
        for (name, texts) in displays {
            let texts: Vec<String> = texts.into_values().collect();
            writeln!(
                italics,
                "- *{}* is one of: {}.",
                name.to_lowercase(),
                texts.join(", ")
            )?;
        }
        Ok(Self {
            variants: found
                .variants
                .iter()
                .map(|variant| Variant::read(variant, &lines))
                .collect(),
            texts,
            italics,
        })
    }
}

impl Variant {
    fn read(variant: &syn::Variant, lines: &[&str]) -> Self {
        let docs = variant
            .attrs
            .iter()
            .filter_map(|attribute| match &attribute.meta {
                Meta::NameValue(meta) if meta.path.is_ident("doc") => literal(&meta.value),
                _ => None,
            });
        let doc: Vec<String> = docs.map(|line| line.trim().to_owned()).collect();
        let mut paragraphs = doc.split(String::is_empty).map(|lines| lines.join(" "));
        let meaning = paragraphs.next().unwrap_or_default();
        let remedy = paragraphs
            .find_map(|paragraph| Some(paragraph.strip_prefix("Remedy:")?.trim().to_owned()));
        let first = variant
            .attrs
            .first()
            .map_or(variant.ident.span(), |doc| doc.pound_token.span)
            .start()
            .line;
        let above = lines[..first - 1]
            .iter()
            .rev()
            .find(|line| !line.is_empty());
        let comment = above.and_then(|line| line.strip_prefix("// "));
        Self {
            name: variant.ident.to_string(),
            meaning,
            remedy,
            takes: variant
                .fields
                .iter()
                .next()
                .and_then(|field| match &field.ty {
                    syn::Type::Path(of) => Some(last(&of.path)),
                    _ => None,
                }),
            section: comment.map(|comment| comment.trim_end_matches('.').to_owned()),
        }
    }
}

/// The arms of the matches in a file, by the type or function that they belong to: each variant that a pattern names, with the
/// first text of the arm or with the constant that it is. What is put into a text stands in italics.
#[derive(Default)]
struct Arms {
    owner: String,
    names: Vec<String>,
    found: BTreeMap<String, BTreeMap<String, String>>,
}

impl Arms {
    fn of(file: &syn::File) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut arms = Self::default();
        arms.visit_file(file);
        arms.found
    }

    fn says(&mut self, text: &str) {
        let found = self.found.entry(self.owner.clone()).or_default();
        for name in self.names.drain(..) {
            found.insert(name, text.replace(['{', '}'], "*"));
        }
    }
}

impl<'ast> Visit<'ast> for Arms {
    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let syn::Type::Path(of) = &*item.self_ty {
            self.owner = last(&of.path);
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.owner = item.sig.ident.to_string();
        visit::visit_item_fn(self, item);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        self.names = names(&arm.pat);
        if let Expr::Path(constant) = &*arm.body {
            self.says(&last(&constant.path));
        }
        self.visit_expr(&arm.body);
        self.names.clear();
    }

    fn visit_lit_str(&mut self, text: &'ast syn::LitStr) {
        if !self.names.is_empty() {
            self.says(&text.value());
        }
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let arguments = call.parse_body_with(Punctuated::<Expr, Token![,]>::parse_terminated);
        if let Some(text) = arguments.iter().flatten().find_map(literal) {
            self.says(&text);
        }
    }
}

fn literal(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Lit(literal) => match &literal.lit {
            syn::Lit::Str(text) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

fn names(pattern: &Pat) -> Vec<String> {
    match pattern {
        Pat::Or(or) => or.cases.iter().flat_map(names).collect(),
        Pat::Path(pattern) => vec![last(&pattern.path)],
        Pat::TupleStruct(pattern) => vec![last(&pattern.path)],
        _ => Vec::new(),
    }
}

fn last(path: &syn::Path) -> String {
    path.segments
        .last()
        .map(|segment| segment.ident.to_string())
        .unwrap_or_default()
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
