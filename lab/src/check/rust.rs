// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rust files as words, by the lexer of `proc_macro2`. Comments are gone and strings are single words, so that nothing in them
//! counts as code; what stands inside a macro call counts like any other code.

use std::str::FromStr;

use anyhow::Result;
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::trouble::Trouble;

/// The words of a file: names, literals, brackets and signs, of which `::` and `=>` are one each.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) words: Vec<String>,
    /// The line of each.
    pub(super) lines: Vec<usize>,
}

impl Words {
    pub(super) fn read(path: &str, text: &str) -> Result<Self> {
        let stream = TokenStream::from_str(text).map_err(|error| {
            let line = error.span().start().line;
            Trouble::new(format!("{path}:{line}: not Rust: {error}"), "mend the file")
        })?;
        let mut found = Self::default();
        found.add(stream);
        Ok(found)
    }

    /// Where a word stands: its number, and its line.
    pub(super) fn places<'a>(&'a self, word: &'a str) -> impl Iterator<Item = (usize, usize)> + 'a {
        let all = self.words.iter().zip(&self.lines).enumerate();
        all.filter_map(move |(at, (found, line))| (found == word).then_some((at, *line)))
    }

    fn add(&mut self, stream: TokenStream) {
        for tree in stream {
            let line = tree.span().start().line;
            if let TokenTree::Group(group) = tree {
                let (open, close) = match group.delimiter() {
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Parenthesis | Delimiter::None => ("(", ")"),
                };
                self.push(open, line);
                self.add(group.stream());
                self.push(close, group.span_close().start().line);
                continue;
            }
            let text = tree.to_string();
            match self.words.last_mut() {
                Some(last) if matches!((&**last, &*text), (":", ":") | ("=", ">")) => {
                    *last += &text;
                }
                _ => self.push(&text, line),
            }
        }
    }

    fn push(&mut self, word: &str, line: usize) {
        self.words.push(word.to_owned());
        self.lines.push(line);
    }
}

/// Where the item ends whose first word is at `at`: after its body, or after the sign that ends it.
pub(super) fn end_of_item(words: &[String], at: usize) -> usize {
    let mut depth = 0;
    let mut generic = false;
    for (index, word) in words.iter().enumerate().skip(at) {
        match word.as_str() {
            "fn" | "impl" => generic = true,
            "(" | "[" | "{" => depth += 1,
            "}" if depth == 1 => return index + 1,
            // The last of a list has no sign of its own.
            ")" | "]" | "}" if depth == 0 => return index,
            ")" | "]" | "}" => depth -= 1,
            ";" if depth == 0 => return index + 1,
            "," if depth == 0 && !generic => return index + 1,
            _ => {}
        }
    }
    words.len()
}
