// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a Rust file says about an enum: the comments of its variants, and the text that a match has for each.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{anyhow, Context, Result};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Expr, Item, Meta, Pat, Token};

/// A variant of an enum.
pub(super) struct Variant {
    pub(super) name: String,
    pub(super) meaning: String,
    pub(super) remedy: Option<String>,
    /// The type of its one field.
    pub(super) takes: Option<String>,
    /// The comment that begins a section with this variant.
    pub(super) section: Option<String>,
}

pub(super) fn parse(path: &str, source: &str) -> Result<syn::File> {
    syn::parse_file(source)
        .map_err(|error| anyhow!("{path}:{}: {error}", error.span().start().line))
}

/// What a file says about an enum.
pub(super) struct Source {
    pub(super) variants: Vec<Variant>,
    /// The text of each variant.
    pub(super) texts: BTreeMap<String, String>,
    /// What the words in italics in the texts stand for: the texts of the other enums of the file.
    pub(super) italics: String,
}

impl Source {
    pub(super) fn read(path: &str, source: &str, name: &str) -> Result<Self> {
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
pub(super) struct Arms {
    owner: String,
    names: Vec<String>,
    found: BTreeMap<String, BTreeMap<String, String>>,
}

impl Arms {
    pub(super) fn of(file: &syn::File) -> BTreeMap<String, BTreeMap<String, String>> {
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
