// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks on plain text: licences, and work put off in comments.

use anyhow::Result;

use super::repository::{ours, Outcome, Repository};

const TAG: &str = "SPDX-License-Identifier: ";

/// Words that stand for work put off. Split, so that this file passes.
const LEFT_OVERS: [&str; 3] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

pub(super) fn licences(repository: &Repository, outcome: &mut Outcome) -> Result<()> {
    for (path, text) in repository
        .texts("", &[""])
        .filter(|(path, _)| has_licence_line(path))
    {
        let head = text.lines().take(2).find_map(|line| line.split_once(TAG));
        let found = head.map(|(_, licence)| licence.trim_end_matches("*/").trim());
        let wanted = licence_of(path);
        let problem = match found {
            None => format!("the first line does not say `{TAG}{wanted}`"),
            Some(found) if found != wanted => {
                format!("the licence is `{found}`, but here it is `{wanted}`")
            }
            Some(_) => continue,
        };
        outcome.problems.push(format!("{path}: {problem}"));
    }
    for name in ["Apache-2.0", "MIT", "GPL-2.0-only"] {
        let path = format!("LICENSES/{name}.txt");
        if !repository.files.contains_key(&path) {
            outcome.problems.push(format!(
                "{path} is missing: the text of every licence in use is in LICENSES"
            ));
        }
    }
    Ok(())
}

/// Files whose format has comments, and that people write.
fn has_licence_line(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    path == ".ci/run"
        || matches!(ending, "rs" | "c" | "h" | "S" | "config")
        || matches!(name, "Makefile" | "Kconfig" | "Kbuild")
}

fn licence_of(path: &str) -> &'static str {
    match path {
        _ if path.starts_with("core/") => "GPL-2.0-only OR MIT",
        // As the kernel has it for headers that user space compiles.
        _ if path.starts_with("kernel/tree/") && path.contains("/uapi/") => {
            "GPL-2.0-only WITH Linux-syscall-note"
        }
        _ if path.starts_with("kernel/tree/") => "GPL-2.0-only",
        _ => "Apache-2.0 OR MIT",
    }
}

pub(super) fn left_overs(repository: &Repository, outcome: &mut Outcome) -> Result<()> {
    for (path, text) in repository.texts("", &[""]) {
        if path.starts_with("LICENSES/") || path == "Cargo.lock" {
            continue;
        }
        for (number, line) in ours(path, text) {
            let mut words = line.split(|sign: char| !sign.is_ascii_alphanumeric());
            if let Some(word) = words.find(|word| LEFT_OVERS.contains(word)) {
                let problem = format!("{path}:{number}: {word}: do it, or open an issue");
                outcome.problems.push(problem);
            }
        }
    }
    Ok(())
}
