// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rust files as tokens, by the lexer of `proc_macro2`. Comments are gone and strings are literals, so no word in them
//! counts as code; what stands inside a macro call counts like any other code.

use std::str::FromStr;

use anyhow::{anyhow, Result};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::trouble::Trouble;

/// A path of at least two segments, or whatever a `use` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) line: usize,
    /// The inline modules (`mod x { ... }`) around it, outermost first.
    pub(super) inside: Vec<String>,
    /// Segments from the first; `*` stands for a glob.
    pub(super) segments: Vec<String>,
    /// The name that a `use` gives it.
    pub(super) name: Option<String>,
}

/// What a file says that matters to other files. Code of `#[cfg(test)]` is left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Code {
    pub(super) paths: Vec<Path>,
    /// Modules that it declares: the inline modules around the declaration, then the name.
    pub(super) files: Vec<Vec<String>>,
    /// Inline modules, each with those around it.
    pub(super) inline: Vec<Vec<String>>,
}

fn parse(path: &str, text: &str) -> Result<TokenStream> {
    TokenStream::from_str(text).map_err(|error| {
        anyhow!(Trouble::new(
            format!("{path}:{}: not Rust: {error}", error.span().start().line),
            "mend the file"
        ))
    })
}

/// The lines with a word in them, each with the token that follows the word there. Code of tests counts.
pub(super) fn lines_with(path: &str, text: &str, word: &str) -> Result<Vec<(usize, String)>> {
    fn search(stream: TokenStream, word: &str, found: &mut Vec<(usize, String)>) {
        let mut trees = stream.into_iter().peekable();
        while let Some(tree) = trees.next() {
            match tree {
                TokenTree::Group(group) => search(group.stream(), word, found),
                TokenTree::Ident(ident) if ident == word => {
                    let next = trees.peek().map(ToString::to_string);
                    found.push((ident.span().start().line, next.unwrap_or_default()));
                }
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    search(parse(path, text)?, word, &mut found);
    Ok(found)
}

/// The paths and modules of a file.
pub(super) fn code(path: &str, text: &str) -> Result<Code> {
    let mut found = Code::default();
    walk(parse(path, text)?, &[], &mut found);
    Ok(found)
}

fn walk(stream: TokenStream, inside: &[String], found: &mut Code) {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    let mut at = 0;
    while let Some(tree) = trees.get(at) {
        let next = trees.get(at + 1);
        match tree {
            TokenTree::Punct(punct) if punct.as_char() == '#' && is_for_tests(next) => {
                at = end_of_item(&trees, at + 2);
                continue;
            }
            TokenTree::Group(group) => walk(group.stream(), inside, found),
            TokenTree::Ident(word) if word == "mod" => {
                if let (Some(TokenTree::Ident(name)), Some(body)) = (next, trees.get(at + 2)) {
                    let module = [inside, &[name.to_string()]].concat();
                    match body {
                        TokenTree::Group(body) => {
                            walk(body.stream(), &module, found);
                            found.inline.push(module);
                        }
                        _ => found.files.push(module),
                    }
                    at += 2;
                }
            }
            // `use<'a>` in a type imports nothing.
            TokenTree::Ident(word) if word == "use" && !is(next, '<') => {
                at = imports(&trees, at + 1, &[], inside, found);
                continue;
            }
            TokenTree::Ident(_) if is(next, ':') && is(trees.get(at + 2), ':') => {
                // What follows generics, as in `Vec::<u8>::new`, is no path of its own.
                let begins = at < 2 || !is(trees.get(at - 1), ':') || !is(trees.get(at - 2), ':');
                let line = tree.span().start().line;
                let mut segments = vec![tree.to_string()];
                while let (true, true, Some(TokenTree::Ident(segment))) = (
                    is(trees.get(at + 1), ':'),
                    is(trees.get(at + 2), ':'),
                    trees.get(at + 3),
                ) {
                    segments.push(segment.to_string());
                    at += 3;
                }
                if segments.len() > 1 && begins {
                    found.paths.push(Path {
                        line,
                        inside: inside.to_vec(),
                        segments,
                        name: None,
                    });
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// Reads what a `use` names, after the segments `before`; returns where it ends.
fn imports(
    trees: &[TokenTree],
    mut at: usize,
    before: &[String],
    inside: &[String],
    found: &mut Code,
) -> usize {
    let mut segments = before.to_vec();
    let mut name = None;
    let begun = at;
    let mut line = 0;
    loop {
        match trees.get(at) {
            Some(TokenTree::Ident(word)) if word == "as" => {
                name = trees.get(at + 1).map(ToString::to_string);
                at += 1;
            }
            Some(TokenTree::Ident(segment)) => {
                line = segment.span().start().line;
                segments.push(segment.to_string());
            }
            Some(TokenTree::Punct(star)) if star.as_char() == '*' => {
                line = star.span().start().line;
                segments.push("*".to_owned());
            }
            Some(TokenTree::Punct(punct)) if punct.as_char() == ':' => {}
            Some(TokenTree::Group(group)) => {
                let members: Vec<TokenTree> = group.stream().into_iter().collect();
                let mut member = 0;
                while member < members.len() {
                    member = imports(&members, member, &segments, inside, found);
                }
                return at + 1;
            }
            _ => break,
        }
        at += 1;
    }
    if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
        segments.pop();
    }
    if at > begun {
        found.paths.push(Path {
            line,
            inside: inside.to_vec(),
            name: name.or_else(|| segments.last().cloned()),
            segments,
        });
    }
    at + 1
}

fn is(tree: Option<&TokenTree>, sign: char) -> bool {
    matches!(tree, Some(TokenTree::Punct(punct)) if punct.as_char() == sign)
}

/// Is this the bracket of `#[cfg(test)]` or `#[cfg(all(test, ...))]`?
fn is_for_tests(attribute: Option<&TokenTree>) -> bool {
    let text = attribute.map(ToString::to_string).unwrap_or_default();
    let inner = text.trim_start_matches('[').trim_start();
    let mut words = inner.split(|sign: char| !sign.is_alphanumeric() && sign != '_');
    inner.starts_with("cfg") && !inner.contains("not") && words.any(|word| word == "test")
}

/// Where the item ends whose first token is at `at`: after its body, or after the sign that ends it.
fn end_of_item(trees: &[TokenTree], at: usize) -> usize {
    let is_function = |tree: &TokenTree| matches!(tree, TokenTree::Ident(word) if word == "fn");
    let mut function = false;
    for (index, tree) in trees.iter().enumerate().skip(at) {
        function |= is_function(tree);
        let ends = match tree {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            TokenTree::Punct(punct) => {
                punct.as_char() == ';' || (punct.as_char() == ',' && !function)
            }
            _ => false,
        };
        if ends {
            return index + 1;
        }
    }
    trees.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let paths = code("x.rs", text).unwrap().paths;
        paths
            .into_iter()
            .map(|path| match path.name {
                Some(name) if path.segments.last() != Some(&name) => {
                    format!("{} as {name}", path.segments.join("::"))
                }
                _ => path.segments.join("::"),
            })
            .collect()
    }

    #[test]
    fn words_are_found_with_their_lines_and_not_in_comments_and_strings() {
        let text = "// unsafe\n/* unsafe */ /// unsafe\nfn f() { \"unsafe\"; r#\"unsafe\"#; '\\''; }\nfn g() { unsafe {} }";
        assert_eq!(
            lines_with("x.rs", text, "unsafe").unwrap(),
            [(4, "{ }".to_owned())]
        );
    }

    #[test]
    fn paths_are_found_in_imports_and_in_code() {
        assert_eq!(found("use crate::abi::pci::X;"), ["crate::abi::pci::X"]);
        assert_eq!(found("fn f(a: crate::P) -> u8 { a }"), ["crate::P"]);
        assert_eq!(
            found("use crate::{abi::{pci::{self, X}}, model::*, wire as w, b};"),
            [
                "crate::abi::pci",
                "crate::abi::pci::X",
                "crate::model::*",
                "crate::wire as w",
                "crate::b"
            ]
        );
        assert_eq!(
            found("fn f() { Vec::<crate::a::B>::new(); say!(\"{}\", a::b()) }"),
            ["crate::a::B", "a::b"]
        );
        assert_eq!(
            found("pub use inner::X; fn f() -> impl T + use<'_> {}"),
            ["inner::X"]
        );
    }

    #[test]
    fn modules_are_found_and_tests_left_out() {
        let text = "mod a; mod b { mod c; use super::d::E; } #[cfg(test)] mod t { use x::y; }\n\
            #[cfg(test)] #[allow(unused)] use x::y; struct S { #[cfg(test)] f: x::y, g: z::Z }\n\
            impl S { #[cfg(all(test, unix))] fn f<A, B>(a: x::y) { x::y() } } #[cfg(not(test))] use k::L;";
        let code = code("x.rs", text).unwrap();
        assert_eq!(code.files, [vec!["a"], vec!["b", "c"]]);
        assert_eq!(code.inline, [vec!["b"]]);
        assert_eq!(code.paths[0].inside, ["b"]);
        assert_eq!(found(text), ["super::d::E", "z::Z", "k::L"]);
    }

    #[test]
    fn what_is_no_rust_is_an_error_with_its_place() {
        let error = code("x.rs", "fn f() {\n\n").unwrap_err().to_string();
        assert!(error.contains("x.rs:"), "{error}");
    }
}
