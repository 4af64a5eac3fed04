// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rust files as tokens. Comments are gone and strings are literals, so no word in them counts as code.

use std::str::FromStr;

use anyhow::{anyhow, Result};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::trouble::Trouble;

/// A piece of code, with what is needed to say where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// An identifier, `::`, or one other character. Literals are `"`.
    pub(super) text: String,
    /// From 1.
    pub(super) line: usize,
    /// How many inline modules (`mod x { ... }`) are around it.
    pub(super) modules: usize,
}

/// All words of a file in order, brackets included.
pub(super) fn words(path: &str, text: &str) -> Result<Vec<Word>> {
    // A shebang or byte order mark is no token; kernel sources have neither.
    let stream = TokenStream::from_str(text).map_err(|error| {
        anyhow!(Trouble::new(
            format!("{path}:{}: not Rust: {error}", error.span().start().line),
            "mend the file"
        ))
    })?;
    let mut found = Vec::new();
    flatten(stream, 0, &mut found);
    Ok(found)
}

fn flatten(stream: TokenStream, modules: usize, found: &mut Vec<Word>) {
    for tree in stream {
        let line = tree.span().start().line;
        let mut push = |text: String, line: usize| {
            found.push(Word {
                text,
                line,
                modules,
            })
        };
        match tree {
            TokenTree::Ident(ident) => push(ident.to_string(), line),
            TokenTree::Literal(_) => push("\"".to_owned(), line),
            TokenTree::Punct(punct) => {
                let double =
                    punct.as_char() == ':' && found.last().is_some_and(|last| last.text == ":");
                if double {
                    found.pop();
                    found.push(Word {
                        text: "::".to_owned(),
                        line,
                        modules,
                    });
                } else {
                    found.push(Word {
                        text: punct.as_char().to_string(),
                        line,
                        modules,
                    });
                }
            }
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                let inline_module = open == "{"
                    && found.len() >= 2
                    && found[found.len() - 2].text == "mod"
                    && found[found.len() - 1]
                        .text
                        .chars()
                        .all(|c| c.is_alphanumeric() || c == '_');
                found.push(Word {
                    text: open.to_owned(),
                    line,
                    modules,
                });
                flatten(group.stream(), modules + usize::from(inline_module), found);
                found.push(Word {
                    text: close.to_owned(),
                    line: group.span_close().start().line,
                    modules,
                });
            }
        }
    }
}

/// A path in the code: where it is and its first segments, as far as they are plain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) line: usize,
    pub(super) modules: usize,
    /// Segments from the first; `*` stands for a glob.
    pub(super) segments: Vec<String>,
}

/// All paths of at least two segments. A group in braces (`a::{b, c::d}`) gives one path for each member.
pub(super) fn paths(words: &[Word]) -> Vec<Path> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let starts = is_name(&words[at]) && words.get(at + 1).is_some_and(|next| next.text == "::");
        if starts && (at == 0 || words[at - 1].text != "::") {
            at = follow(words, at, Vec::new(), &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one path that begins at `at`, after the segments `before`; returns where it ends.
fn follow(words: &[Word], mut at: usize, before: Vec<String>, found: &mut Vec<Path>) -> usize {
    let (line, modules) = (words[at].line, words[at].modules);
    let mut segments = before;
    loop {
        match words.get(at) {
            Some(word) if is_name(word) || word.text == "*" => segments.push(word.text.clone()),
            Some(word) if word.text == "{" => return group(words, at + 1, &segments, found),
            // Generics, as in `Vec::<u8>`: the path that matters has ended.
            _ => break,
        }
        at += 1;
        if words.get(at).is_none_or(|word| word.text != "::") {
            break;
        }
        at += 1;
    }
    if segments.len() > 1 {
        found.push(Path {
            line,
            modules,
            segments,
        });
    }
    at
}

fn group(words: &[Word], mut at: usize, before: &[String], found: &mut Vec<Path>) -> usize {
    while let Some(word) = words.get(at) {
        match word.text.as_str() {
            "}" => return at + 1,
            "as" => at += 2,
            "*" | "{" => at = follow(words, at, before.to_vec(), found).max(at + 1),
            _ if is_name(word) => at = follow(words, at, before.to_vec(), found),
            _ => at += 1,
        }
    }
    at
}

fn is_name(word: &Word) -> bool {
    word.text
        .chars()
        .next()
        .is_some_and(|first| first.is_alphabetic() || first == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        paths(&words("x.rs", text).unwrap())
            .into_iter()
            .map(|path| path.segments.join("::"))
            .collect()
    }

    #[test]
    fn comments_and_strings_are_no_code() {
        let words = words(
            "x.rs",
            "// unsafe\n/* unsafe */ /// unsafe\nfn f() { \"unsafe\"; r#\"unsafe\"#; '\\''; }",
        )
        .unwrap();
        assert!(!words.iter().any(|word| word.text == "unsafe"));
    }

    #[test]
    fn lines_are_counted_from_one() {
        let words = words("x.rs", "\n\nfn f() {\n unsafe {}\n}\n").unwrap();
        assert_eq!(
            words
                .iter()
                .find(|word| word.text == "unsafe")
                .unwrap()
                .line,
            4
        );
    }

    #[test]
    fn paths_are_found_in_imports_and_in_code() {
        assert_eq!(found("use crate::abi::pci::X;"), ["crate::abi::pci::X"]);
        assert_eq!(
            found("fn f(a: crate::abi::P) -> u8 { a }"),
            ["crate::abi::P"]
        );
        assert_eq!(
            found("use crate::{abi::pci::{self, X}, model::*, wire as w};"),
            [
                "crate::abi::pci::self",
                "crate::abi::pci::X",
                "crate::model::*",
                "crate::wire"
            ]
        );
        assert_eq!(found("let x = Vec::<crate::a::B>::new();"), ["crate::a::B"]);
    }

    #[test]
    fn inline_modules_are_counted() {
        let words = words("x.rs", "use a::b; mod tests { use super::c; }").unwrap();
        let depths: Vec<usize> = paths(&words).iter().map(|path| path.modules).collect();
        assert_eq!(depths, [0, 1]);
    }

    #[test]
    fn what_is_no_rust_is_an_error_with_its_place() {
        let error = words("x.rs", "fn f() {\n\n").unwrap_err().to_string();
        assert!(error.contains("x.rs:"), "{error}");
    }
}
