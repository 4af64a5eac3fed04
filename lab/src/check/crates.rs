// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which of our crates may depend on which, read from the manifests.

use anyhow::{Context, Result};

use super::repository::{Outcome, Repository};

/// A manifest's folder, and those of our crates which it may depend on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("sim", &["hitless_core"]),
    ("user/uapi", &["hitless_core"]),
    ("lab", &["hitless_proto"]),
    ("lab/proto", &[]),
    ("tests", &["hitless_lab", "hitless_proto"]),
    ("lab/guest", &["hitless_proto", "hitless_uapi"]),
];

pub(super) fn run(repository: &Repository) -> Result<Outcome> {
    let mut problems = Vec::new();
    for (path, text) in repository.texts(|path| path.ends_with("/Cargo.toml"))? {
        let folder = path.trim_end_matches("/Cargo.toml");
        problems.extend(manifest(folder, &text).with_context(|| format!("{path} is no manifest"))?);
    }
    Ok(Outcome {
        problems,
        ..Outcome::default()
    })
}

fn manifest(folder: &str, text: &str) -> Result<Vec<String>> {
    let manifest: toml::Table = text.parse()?;
    let ours: Vec<&String> = ["dependencies", "build-dependencies"]
        .iter()
        .filter_map(|section| manifest.get(*section)?.as_table())
        .flat_map(toml::Table::keys)
        .filter(|name| name.starts_with("hitless_"))
        .collect();
    let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == folder) else {
        return Ok(vec![format!(
            "{folder}: give this crate a line in lab/src/check/crates.rs"
        )]);
    };
    Ok(ours
        .into_iter()
        .filter(|name| !allowed.contains(&name.as_str()))
        .map(|name| format!("{folder}/Cargo.toml: must not depend on {name}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lab_links_neither_core_nor_sim() {
        let text = "[dependencies]\nhitless_proto = \"1\"\nhitless_core = { workspace = true }\n";
        assert_eq!(
            manifest("lab", text).unwrap(),
            ["lab/Cargo.toml: must not depend on hitless_core"]
        );
    }

    #[test]
    fn tests_may_use_more() {
        assert!(
            manifest("core", "[dev-dependencies]\nhitless_sim = \"1\"\n")
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_new_crate_has_to_be_placed() {
        assert_eq!(manifest("user/new", "").unwrap().len(), 1);
        assert!(manifest("lab", "[dependencies").is_err());
    }
}
