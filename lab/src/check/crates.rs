// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which of our crates may depend on which, read from the manifests.

use anyhow::{Context, Result};

use super::repository::{Outcome, Repository};

/// A manifest's folder, and those of our crates which it may depend on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("sim", &["hitless_core"]),
    ("user/uapi", &[]),
    ("lab", &["hitless_proto"]),
    ("lab/proto", &[]),
    ("tests", &["hitless_lab", "hitless_proto"]),
    ("lab/guest", &["hitless_proto", "hitless_uapi"]),
];

pub(super) fn run(repository: &Repository, outcome: &mut Outcome) -> Result<()> {
    for (folder, text) in repository.manifests() {
        let manifest: toml::Table = text
            .parse()
            .with_context(|| format!("{folder}/Cargo.toml is no manifest"))?;
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == folder) else {
            outcome.problems.push(format!(
                "{folder}: give this crate a line in lab/src/check/crates.rs"
            ));
            continue;
        };
        // Tests may use more.
        let sections = ["dependencies", "build-dependencies"];
        let tables = sections
            .iter()
            .filter_map(|name| manifest.get(*name)?.as_table());
        let mut names: Vec<&String> = tables.flat_map(toml::Table::keys).collect();
        names.retain(|name| name.starts_with("hitless_") && !allowed.contains(&name.as_str()));
        outcome.problems.extend(
            names
                .iter()
                .map(|name| format!("{folder}/Cargo.toml: must not depend on {name}")),
        );
    }
    Ok(())
}
