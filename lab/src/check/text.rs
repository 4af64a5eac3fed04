// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks on plain text: licences, and work put off in comments.

use anyhow::Result;

use super::repository::{Outcome, Repository};

const TAG: &str = "SPDX-License-Identifier: ";
const DUAL: &str = "Apache-2.0 OR MIT";
const CORE: &str = "GPL-2.0-only OR MIT";
const KERNEL: &str = "GPL-2.0-only";
/// As the kernel has it for headers that user space compiles.
const KERNEL_UAPI: &str = "GPL-2.0-only WITH Linux-syscall-note";

/// Words that stand for work put off. Split, so that this file passes.
const LEFT_OVERS: [&str; 3] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

pub(super) fn licences(repository: &Repository) -> Result<Outcome> {
    let mut problems = Vec::new();
    for (path, text) in repository.texts(has_licence_line)? {
        let head = text.lines().take(2).find_map(|line| line.split_once(TAG));
        let found = head.map(|(_, licence)| licence.trim_end_matches("*/").trim());
        let wanted = licences_of(path);
        match found {
            None => problems.push(format!(
                "{path}: the first line does not say `{TAG}{}`",
                wanted[0]
            )),
            Some(found) if !wanted.contains(&found) => {
                problems.push(format!(
                    "{path}: the licence is `{found}`, but here it is `{}`",
                    wanted[0]
                ));
            }
            Some(_) => {}
        }
    }
    for name in ["Apache-2.0", "MIT", "GPL-2.0-only"] {
        let path = format!("LICENSES/{name}.txt");
        if !repository.files.contains(&path) {
            problems.push(format!(
                "{path} is missing: the text of every licence in use is in LICENSES"
            ));
        }
    }
    Ok(Outcome {
        problems,
        ..Outcome::default()
    })
}

/// Files whose format has comments, and that people write.
fn has_licence_line(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    path == ".ci/run"
        || matches!(ending, "rs" | "c" | "h" | "S" | "config")
        || matches!(name, "Makefile" | "Kconfig" | "Kbuild")
}

fn licences_of(path: &str) -> &'static [&'static str] {
    if path.starts_with("core/") {
        &[CORE]
    } else if path.starts_with("kernel/tree/") && path.contains("/uapi/") {
        &[KERNEL_UAPI]
    } else if path.starts_with("kernel/tree/") {
        &[KERNEL]
    } else {
        &[DUAL]
    }
}

pub(super) fn left_overs(repository: &Repository) -> Result<Outcome> {
    let ours = |path: &str| !path.starts_with("LICENSES/") && path != "Cargo.lock";
    let mut problems = Vec::new();
    for (path, text) in repository.texts(ours)? {
        let is_patch = path.ends_with(".patch");
        for (number, line) in text.lines().enumerate() {
            // The context lines of a patch are not ours.
            if is_patch && !line.starts_with('+') {
                continue;
            }
            let words = line.split(|c: char| !c.is_ascii_alphanumeric());
            if let Some(word) = words.into_iter().find(|word| LEFT_OVERS.contains(word)) {
                problems.push(format!(
                    "{path}:{}: {word}: do it, or open an issue",
                    number + 1
                ));
            }
        }
    }
    Ok(Outcome {
        problems,
        ..Outcome::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::repository::pretend;

    const TEXTS: [(&str, &str); 3] = [
        ("LICENSES/Apache-2.0.txt", ""),
        ("LICENSES/MIT.txt", ""),
        ("LICENSES/GPL-2.0-only.txt", ""),
    ];

    fn problems_with(path: &str, text: &str) -> Vec<String> {
        let mut files = TEXTS.to_vec();
        files.push((path, text));
        let (_dir, repository) = pretend(&files);
        licences(&repository).unwrap().problems
    }

    #[test]
    fn each_folder_has_its_licence() {
        let line = |licence: &str| format!("// {TAG}{licence}\n");
        assert!(problems_with("lab/src/a.rs", &line(DUAL)).is_empty());
        assert!(problems_with("core/src/a.rs", &line(CORE)).is_empty());
        assert!(problems_with("kernel/tree/a.c", &line(KERNEL)).is_empty());
        assert!(problems_with(
            "kernel/tree/a.h",
            "/* SPDX-License-Identifier: GPL-2.0-only */\n"
        )
        .is_empty());
        assert!(problems_with(".ci/run", &format!("#!/bin/bash\n# {TAG}{DUAL}\n")).is_empty());
        assert_eq!(problems_with("core/src/a.rs", &line(DUAL)).len(), 1);
        assert_eq!(problems_with("lab/src/a.rs", "//! text\n").len(), 1);
        assert!(problems_with("README.md", "# x\n").is_empty());
    }

    #[test]
    fn licence_texts_have_to_be_there() {
        let (_dir, repository) = pretend(&TEXTS[..2]);
        assert_eq!(licences(&repository).unwrap().problems.len(), 1);
    }

    #[test]
    fn what_is_put_off_is_found() {
        let word = LEFT_OVERS[0];
        let (_dir, repository) = pretend(&[
            ("a.rs", &format!("// {word}: later\n")),
            ("b.patch", &format!(" // {word}\n+// fine\n")),
            ("c.md", "todo!() in lower case is clippy's\n"),
        ]);
        assert_eq!(
            left_overs(&repository).unwrap().problems,
            [format!("a.rs:1: {word}: do it, or open an issue")]
        );
    }
}
