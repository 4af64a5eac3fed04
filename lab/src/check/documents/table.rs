// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tables in Markdown.

/// The head of a table, after an empty line.
pub(super) fn head(columns: &[&str]) -> String {
    format!("\n{}|{}\n", row(columns), "---|".repeat(columns.len()))
}

/// A row: each cell is one line, in which a bar does not end the cell.
pub(super) fn row(cells: &[&str]) -> String {
    let cells = cells.iter().map(|cell| {
        let words: Vec<&str> = cell.split_whitespace().collect();
        format!("| {} ", words.join(" ").replace('|', "\\|"))
    });
    cells.collect::<String>() + "|\n"
}
