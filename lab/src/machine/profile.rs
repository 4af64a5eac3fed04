// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Machines as data: the TOML files in `lab/profiles`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{bail, ensure, Context, Result};
use serde::Deserialize;

use crate::machine::ram::MOST_MIB;
use crate::machine::topology::{place, Card, Crowd, Device};
use crate::machine::vtd;

/// Each profile's name and text.
macro_rules! built_in {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../profiles/", $name, ".toml")))),*]
    };
}

/// The profiles that come with the lab. The first is the default.
const BUILT_IN: &[(&str, &str)] = built_in!(
    "legacy"
    "scalable-second-stage"
    "scalable-first-stage"
    "legacy-aw39"
    "legacy-caching-mode"
    "legacy-switch"
    "legacy-functions"
    "crowd"
    "tenants"
    "vm"
    "scalable-vm"
);

/// The profiles with different table formats: what has to work in each of them is tried in each of them.
pub const TABLE_FORMATS: [&str; 3] = ["legacy", "scalable-second-stage", "scalable-first-stage"];

/// A machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The file's name without its ending.
    #[serde(skip)]
    pub name: String,
    /// One sentence.
    pub about: String,
    /// Size.
    pub machine: Size,
    /// The IOMMU.
    pub iommu: Iommu,
    /// Words appended to the kernel's command line.
    #[serde(default)]
    pub command_line: String,
    /// What is between the root and the cards.
    #[serde(default, rename = "bridge")]
    pub bridges: Vec<Device>,
    /// The cards as the file has them, and after them the members of the crowd.
    #[serde(rename = "card")]
    pub functions: Vec<Device>,
    /// The cards with their places.
    #[serde(skip)]
    pub cards: Vec<Card>,
    /// Many more functions.
    pub crowd: Option<Crowd>,
    /// The virtual machine inside it.
    pub vm: Option<Vm>,
    /// The addresses of the crowd's functions as the guest names them.
    #[serde(skip)]
    pub plain: Vec<String>,
}

/// A machine's size.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// MiB of memory.
    pub memory_mib: u64,
    /// Virtual processors.
    pub processors: u32,
}

/// A virtual machine inside a machine, which has a disk with a VMM for it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vm {
    /// MiB of memory.
    pub memory_mib: u64,
}

/// The IOMMU.
#[derive(Clone, Debug, Deserialize)]
pub struct Iommu {
    /// Which.
    pub kind: IommuKind,
    /// Its properties, by the names that the newest QEMU has for them.
    #[serde(flatten)]
    pub properties: BTreeMap<String, String>,
}

/// The IOMMUs that the lab knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum IommuKind {
    /// VT-d.
    #[serde(rename = "intel-iommu")]
    Intel,
}

/// What one kind of IOMMU is called.
#[derive(Debug)]
pub struct Names {
    /// QEMU's name of it.
    pub device: &'static str,
    /// Word of the kernel's command line that switches it on.
    pub command_line: &'static str,
    /// What QEMU is to trace of it.
    pub trace_events: &'static [&'static str],
    /// The one that is traced while requests for interrupts are watched.
    pub request: &'static str,
}

impl IommuKind {
    /// What it is called.
    pub fn names(self) -> Names {
        match self {
            Self::Intel => Names {
                device: vtd::DEVICE,
                command_line: vtd::COMMAND_LINE,
                trace_events: &vtd::TRACE_EVENTS,
                request: vtd::REQUEST,
            },
        }
    }
}

impl Profile {
    /// The names of the built-in profiles, the default first.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// A built-in profile by its name, or any other by the path of its file.
    pub fn load(name: &str) -> Result<Self> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
            return Self::parse(name, text);
        }
        let path = Path::new(name);
        if path.extension().is_none_or(|ending| ending != "toml") {
            let known = Self::names().collect::<Vec<_>>().join(", ");
            bail!("there is no profile `{name}`: use one of {known} or the path of a .toml file like those in lab/profiles");
        }
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the profile {name} can not be read"))?;
        let stem = path.file_stem().unwrap_or_default();
        Self::parse(&stem.to_string_lossy(), &text)
    }

    fn parse(name: &str, text: &str) -> Result<Self> {
        let wrong = || format!("{name} is not a profile: compare it with lab/profiles/legacy.toml");
        let mut profile: Self = toml::from_str(text).with_context(wrong)?;
        ensure!(
            profile.machine.memory_mib <= MOST_MIB,
            "{name} has more than {MOST_MIB} MiB of memory: the lab sees no more from outside, so use less memory_mib"
        );
        let own = profile.functions.len();
        if let Some(crowd) = &profile.crowd {
            let (ports, members) = crowd.devices();
            profile.bridges.extend(ports);
            profile.functions.extend(members);
        }
        let mut cards = place(&profile.bridges, &profile.functions).with_context(wrong)?;
        let members = cards.split_off(own);
        Ok(Self {
            name: name.to_owned(),
            cards,
            plain: members.into_iter().map(|member| member.bdf).collect(),
            ..profile
        })
    }

    /// The card of this name.
    pub fn card(&self, name: &str) -> Result<&Card> {
        let card = self.cards.iter().find(|card| card.name == name);
        card.with_context(|| {
            let names: Vec<_> = self.cards.iter().map(|card| card.name.as_str()).collect();
            let names = names.join(", ");
            format!(
                "the profile {} has no card `{name}`, only {names}",
                self.name
            )
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
            let scalable = profile.iommu.properties.contains_key("scalable-mode");
            assert_eq!(scalable, name.starts_with("scalable"));
            for card in ["first", "second"] {
                profile.card(card).expect(name);
            }
        }
    }

    #[test]
    fn an_unknown_name_is_told_with_the_known_ones() {
        let error = Profile::load("lagacy").expect_err("no such profile");
        assert!(error.to_string().contains("legacy, scalable-second-stage"));
        let legacy = Profile::load("legacy").expect("built in");
        let error = legacy.card("third").expect_err("no such card").to_string();
        assert!(error.ends_with("only first, second"), "{error}");
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        let (_, legacy) = BUILT_IN[0];
        for (right, wrong) in [
            ("memory_mib", "memory_mb"),
            ("chassis", "chasis"),
            ("= 768", "= 4096"),
            ("on = \"port2\"", "on = \"port3\""),
        ] {
            assert!(legacy.contains(right));
            Profile::parse("x", &legacy.replace(right, wrong)).expect_err(wrong);
        }
    }
}
