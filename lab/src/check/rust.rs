// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rust files as words, by the lexer of `proc_macro2`. Comments are gone and strings are single words, so that nothing in them
//! counts as code; what stands inside a macro call counts like any other code.

use std::str::FromStr;

use anyhow::{anyhow, Result};
use proc_macro2::{TokenStream, TokenTree};

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
            anyhow!(Trouble::new(
                format!("{path}:{}: not Rust: {error}", error.span().start().line),
                "mend the file"
            ))
        })?;
        let mut found = Self::default();
        found.add(stream);
        Ok(found)
    }

    fn add(&mut self, stream: TokenStream) {
        for tree in stream {
            let text = tree.to_string();
            match (self.words.last_mut(), &tree) {
                (_, TokenTree::Group(group)) => {
                    self.push(&text[..1], group.span_open().start().line);
                    self.add(group.stream());
                    self.push(&text[text.len() - 1..], group.span_close().start().line);
                }
                (Some(last), _) if matches!((&**last, &*text), (":", ":") | ("=", ">")) => {
                    *last += &text;
                }
                _ => self.push(&text, tree.span().start().line),
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
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        let ends = match word.as_str() {
            "}" | ";" => depth == 0,
            "," => depth == 0 && !generic,
            _ => false,
        };
        // The last of a list has no sign of its own.
        if ends || depth < 0 {
            return index + usize::from(ends);
        }
    }
    words.len()
}
