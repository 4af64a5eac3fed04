// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The words of one kind of IOMMU stand in its own places, so that a second kind is a new folder and nothing else.

use anyhow::Result;

use super::repository::{ours, Outcome, Repository};

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

pub(super) fn run(repository: &Repository, outcome: &mut Outcome) -> Result<()> {
    let is_free = |path: &str| {
        OWN.iter().any(|part| path.contains(part))
            || LISTS.contains(&path)
            || OTHERS.iter().any(|place| path.starts_with(place))
    };
    let mut count = 0;
    let all = repository.texts("", &[""]);
    for (path, text) in all.filter(|(path, _)| !is_free(path)) {
        count += 1;
        if path.ends_with(".patch") && text.contains("\n+++ b/drivers/iommu/intel/") {
            continue;
        }
        let mut lines = ours(path, text).filter(|(_, line)| speaks(line));
        if let Some((number, line)) = lines.next() {
            outcome.problems.push(format!(
                "{path}: {} lines with a word of VT-d's, the first is line {number}: {}",
                lines.count() + 1,
                line.trim()
            ));
        }
    }
    let note = format!("{count} files that are for every kind of IOMMU");
    outcome.notes.push(note);
    Ok(())
}

fn speaks(line: &str) -> bool {
    let line = line.to_lowercase();
    // The module of the folder has to be declared somewhere.
    if line.trim_end().ends_with("mod vtd;") {
        return false;
    }
    let everybodys = EVERYBODYS.iter();
    let line = everybodys.fold(line, |line, word| line.replace(word, ""));
    WORDS.iter().any(|word| line.contains(word))
}
