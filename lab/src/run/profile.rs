// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Machines as data: the TOML files in `lab/profiles`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{anyhow, Context, Result};
use serde::Deserialize;

/// The profiles that come with the lab. The first is the default.
const BUILT_IN: [(&str, &str); 5] = [
    ("legacy", include_str!("../../profiles/legacy.toml")),
    (
        "scalable-second-stage",
        include_str!("../../profiles/scalable-second-stage.toml"),
    ),
    (
        "scalable-first-stage",
        include_str!("../../profiles/scalable-first-stage.toml"),
    ),
    (
        "legacy-aw39",
        include_str!("../../profiles/legacy-aw39.toml"),
    ),
    (
        "legacy-caching-mode",
        include_str!("../../profiles/legacy-caching-mode.toml"),
    ),
];

/// The profiles with different table formats: what has to work in each of them is tried in each of them.
pub(crate) const TABLE_FORMATS: [&str; 3] =
    ["legacy", "scalable-second-stage", "scalable-first-stage"];

/// A machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    /// The file's name without its ending.
    #[serde(skip)]
    pub(crate) name: String,
    /// One sentence.
    pub(crate) about: String,
    /// Size.
    pub(crate) machine: Size,
    /// Properties of the `intel-iommu` device.
    #[serde(default)]
    pub(crate) iommu: BTreeMap<String, String>,
    /// Words appended to the kernel's command line.
    #[serde(default)]
    pub(crate) command_line: String,
}

/// A machine's size.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Size {
    /// MiB of memory.
    pub(crate) memory_mib: u64,
    /// Virtual processors.
    pub(crate) processors: u32,
}

impl Profile {
    /// The names of the built-in profiles, the default first.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// A built-in profile by its name, or any other by the path of its file.
    ///
    /// # Errors
    ///
    /// An unknown name, an unreadable file, or TOML that is not a profile.
    pub(crate) fn load(name: &str) -> Result<Self> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
            return Self::parse(name, text);
        }
        let path = Path::new(name);
        if path.extension().is_none_or(|ending| ending != "toml") {
            let known: Vec<_> = Self::names().collect();
            return Err(anyhow!(
                "there is no profile `{name}`: use one of {} or the path of a .toml file like those in lab/profiles",
                known.join(", ")
            ));
        }
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the profile {name} can not be read"))?;
        let stem = path
            .file_stem()
            .map_or_else(|| name.into(), |stem| stem.to_string_lossy());
        Self::parse(&stem, &text)
    }

    fn parse(name: &str, text: &str) -> Result<Self> {
        let profile: Self = toml::from_str(text).with_context(|| {
            format!("{name} is not a profile: compare it with lab/profiles/legacy.toml")
        })?;
        Ok(Self {
            name: name.to_owned(),
            ..profile
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_profile_loads() {
        for name in Profile::names() {
            let profile = Profile::load(name).expect(name);
            assert_eq!(profile.name, name);
            let scalable = profile.iommu.contains_key("x-scalable-mode");
            assert_eq!(scalable, name.starts_with("scalable"));
        }
        for name in TABLE_FORMATS {
            Profile::load(name).expect(name);
        }
    }

    #[test]
    fn an_unknown_name_is_told_with_the_known_ones() {
        let error = Profile::load("lagacy").expect_err("no such profile");
        assert!(error.to_string().contains("legacy, scalable-second-stage"));
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        assert!(Profile::parse("x", "about = \"\"\n[machine]\nmemory_mb = 1\n").is_err());
    }
}
