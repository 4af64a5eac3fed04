// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The words of one kind of IOMMU stand in its own places, so that a second kind is a new folder and nothing else.

use anyhow::Result;

use super::repository::{Outcome, Repository};

/// Words of VT-d, in lower case.
const WORDS: &[&str] = &["vtd", "intel", "dmar"];

/// Words that have one of them in it and are everybody's: `vtdss` is the name that Linux's generic page tables have for a
/// format.
const EVERYBODYS: &[&str] = &["vtdss", "intell"];

/// VT-d's own folders and files, and tests of it, by what their paths contain.
const OWN: &[&str] = &["/vtd", "/intel/", "/profiles/", "/tests/"];

/// Where kinds of hardware are listed, so that the rest does not have to name them.
const LISTS: &[&str] = &[
    "core/Cargo.toml",
    "core/src/abi.rs",
    "kernel/patches/0003-hitless-hook-up-drivers-hitless.patch",
    "kernel/tree/drivers/hitless/Kconfig",
    "kernel/tree/drivers/hitless/hardware.rs",
    "kernel/tree/drivers/hitless/kinds.rs",
    "lab/src/evidence/iommu.rs",
];

/// Beginnings of the paths of what speaks of all kinds of hardware: documents, configurations, the pretend machine, the
/// machines of the lab, this check, and tests.
const OTHERS: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "docs/",
    "kernel/config/",
    "lab/src/check/",
    "lab/src/machine",
    "sim/",
    "tests/",
];

pub(super) fn run(repository: &Repository) -> Result<Outcome> {
    let is_free = |path: &str| {
        OWN.iter().any(|part| path.contains(part))
            || LISTS.contains(&path)
            || OTHERS.iter().any(|place| path.starts_with(place))
    };
    let mut outcome = Outcome::default();
    let mut count = 0;
    for (path, text) in repository.texts(|path| !is_free(path))? {
        count += 1;
        if path.ends_with(".patch") && text.contains("\n+++ b/drivers/iommu/intel/") {
            continue;
        }
        // Of a patch only what it adds is ours.
        let is_ours = |line: &str| !path.ends_with(".patch") || line.starts_with('+');
        let mut lines = (1..)
            .zip(text.lines())
            .filter(|(_, line)| is_ours(line) && speaks(line));
        if let Some((number, line)) = lines.next() {
            outcome.problems.push(format!(
                "{path}: {} lines with a word of VT-d's, the first is line {number}: {}",
                lines.count() + 1,
                line.trim()
            ));
        }
    }
    outcome
        .notes
        .push(format!("{count} files that are for every kind of IOMMU"));
    Ok(outcome)
}

fn speaks(line: &str) -> bool {
    let line = line.to_lowercase();
    // The module of the folder has to be declared somewhere.
    if line.trim_end().ends_with("mod vtd;") {
        return false;
    }
    let mut line = line;
    for word in EVERYBODYS {
        line = line.replace(word, "");
    }
    WORDS.iter().any(|word| line.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::repository::pretend;

    #[test]
    fn a_word_of_one_kind_stands_in_its_own_places() {
        let (_dir, repository) = pretend(&[
            ("core/src/iommu/vtd/root.rs", "// Intel"),
            ("core/src/iommu.rs", "pub mod vtd;\n// intelligent"),
            (
                "core/src/refusal.rs",
                "enum R {\n    NotVtd,\n}\nuse x::dmar;",
            ),
            (
                "kernel/patches/0001-a.patch",
                "--- a/x\n+++ b/drivers/iommu/intel/iommu.c\n+int vtd;",
            ),
            (
                "kernel/patches/0002-b.patch",
                "--- a/x\n+++ b/drivers/iommu/iommu.c\n  * Intel\n+int vtd;",
            ),
            ("lab/profiles/legacy.toml", "intel-iommu"),
            ("docs/a.md", "VT-d"),
        ]);
        assert_eq!(
            run(&repository).unwrap().problems,
            [
                "core/src/refusal.rs: 2 lines with a word of VT-d's, the first is line 2: NotVtd,",
                "kernel/patches/0002-b.patch: 1 lines with a word of VT-d's, the first is line 4: +int vtd;"
            ]
        );
    }
}
