// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is made from the sources.

/// What the sources say, and what they lack.
#[derive(Debug, Default)]
pub(super) struct Rendered {
    pub(super) text: String,
    pub(super) problems: Vec<String>,
}

/// A cell of a table: one line, in which a bar does not end the cell.
pub(super) fn cell(text: &str) -> String {
    let line: Vec<&str> = text.split_whitespace().collect();
    line.join(" ").replace('|', "\\|")
}
