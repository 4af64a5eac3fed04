// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who may use whom: at the border between glue and the kernel's C, from both sides, and among our crates.

use anyhow::{Context, Result};

use super::repository::{Outcome, Repository};
use super::rust::Words;

const GLUE: &str = "kernel/tree/drivers/hitless/";
/// The border to C in both directions, and core, which is linked in.
const BORDER: &[&str] = &["entry", "seam", "core"];
/// A manifest's folder, and those of our crates which it may depend on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("sim", &["hitless_core"]),
    ("user/uapi", &["hitless_core"]),
    ("user/vmm", &["hitless_core", "hitless_uapi"]),
    ("user/agent", &["hitless_uapi", "hitless_vmm"]),
    ("lab", &["hitless_proto"]),
    ("lab/proto", &[]),
    ("tests", &["hitless_lab", "hitless_proto"]),
    (
        "lab/guest",
        &["hitless_proto", "hitless_uapi", "hitless_vmm"],
    ),
    ("tests/counter", &["hitless_proto"]),
];

pub(super) fn layers(repository: &Repository, outcome: &mut Outcome) -> Result<()> {
    for (path, text) in repository.texts(GLUE, &[".rs"]) {
        let module = path.trim_start_matches(GLUE).split(['/', '.']).next();
        if BORDER.contains(&module.unwrap_or_default()) {
            continue;
        }
        let found = Words::read(path, text)?;
        outcome.problems.extend(found.places("bindings").map(|(_, line)| {
            format!("{path}:{line}: glue calls C by way of entry, seam or rust/kernel, never by `bindings`")
        }));
    }
    for (path, text) in repository.texts("kernel/tree/", &[".c", ".h"]) {
        let lines = (1..).zip(text.lines());
        let foreign = lines.filter(|(_, line)| is_foreign(line));
        outcome.problems.extend(foreign.map(|(number, line)| {
            format!("{path}:{number}: a seam includes <linux/hitless/*.h> and private headers beside it, not {line}")
        }));
    }
    Ok(())
}

/// A C file may include headers below `linux/`, and of hitless nothing else but what lies beside it.
fn is_foreign(line: &str) -> bool {
    let rest = line.trim().strip_prefix('#').unwrap_or_default().trim();
    let what = rest.strip_prefix("include").unwrap_or_default().trim();
    let is_ours = what.starts_with("<linux/hitless");
    what.contains("hitless") && !is_ours && (what.starts_with('<') || what.contains('/'))
}

pub(super) fn crates(repository: &Repository, outcome: &mut Outcome) -> Result<()> {
    for (folder, text) in repository.manifests() {
        let manifest: toml::Table = text
            .parse()
            .with_context(|| format!("{folder}/Cargo.toml is no manifest"))?;
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == folder) else {
            outcome.problems.push(format!(
                "{folder}: give this crate a line in lab/src/check/borders.rs"
            ));
            continue;
        };
        // Tests may use more.
        let sections = ["dependencies", "build-dependencies"].into_iter();
        let tables = sections.filter_map(|name| manifest.get(name)?.as_table());
        for name in tables.flat_map(toml::Table::keys) {
            if name.starts_with("hitless_") && !allowed.contains(&name.as_str()) {
                let problem = format!("{folder}/Cargo.toml: must not depend on {name}");
                outcome.problems.push(problem);
            }
        }
    }
    Ok(())
}
