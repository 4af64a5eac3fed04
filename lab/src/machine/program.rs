// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The QEMU that plays the machines: asked what it calls the properties of its IOMMU.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;

use crate::build::sources::qemu::{ask, OLDEST, PACKAGE, PROGRAM};
use crate::build::sources::tools::emulator;
use crate::machine::profile::Profile;
use crate::trouble::trouble;

/// Properties that have another name in older releases than in the newest, which is what profiles call them by: VT-d's
/// lost their marks of the experimental in 11.1.
const OLDER_NAMES: [(&str, &str); 2] = [("scalable-mode", "x-scalable-mode"), ("fsts", "x-flts")];

/// A QEMU that is recent enough.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program.
    pub path: PathBuf,
    /// The properties of the profile's IOMMU.
    properties: BTreeSet<String>,
}

impl Program {
    /// Finds or installs one, and asks it for what this profile needs.
    pub fn for_profile(profile: &Profile) -> Result<Self> {
        let path = emulator()?;
        let device = format!("{},help", profile.iommu.kind.names().device);
        let properties = properties(&ask(&path, &["-device", &device])?);
        let program = Self { path, properties };
        program.check(profile)?;
        Ok(program)
    }

    /// Finds or installs one that can play all built-in profiles.
    ///
    /// # Errors
    ///
    /// As [`Program::for_profile`].
    pub fn for_all() -> Result<Self> {
        let profiles = Profile::names().map(Profile::load);
        let profiles = profiles.collect::<Result<Vec<_>>>()?;
        let program = Self::for_profile(&profiles[0])?;
        profiles.iter().try_for_each(|one| program.check(one))?;
        Ok(program)
    }

    /// What this QEMU calls a property of the IOMMU.
    pub fn spelling<'a>(&self, property: &'a str) -> Option<&'a str> {
        let all = OLDER_NAMES.iter();
        let older = all.filter(|(newest, _)| *newest == property);
        std::iter::once(property)
            .chain(older.map(|(_, older)| *older))
            .find(|name| self.properties.contains(*name))
    }

    /// Refuses a profile that this QEMU can not play.
    pub fn check(&self, profile: &Profile) -> Result<()> {
        let iommu = profile.iommu.kind.names().device;
        let mut wanted = profile.iommu.properties.keys();
        let Some(property) = wanted.find(|name| self.spelling(name).is_none()) else {
            return Ok(());
        };
        let remedy = format!(
            "use another QEMU: Debian's {PACKAGE} {OLDEST} or newer; in a profile of your own, correct [iommu]: \
             `{PROGRAM} -device {iommu},help` lists what there is"
        );
        trouble(
            format!(
                "{}: the device {iommu} has no property `{property}`, which the profile {} needs",
                self.path.display(),
                profile.name
            ),
            remedy,
        )
    }
}

/// From lines such as `  intremap=<OnOffAuto> - on/off/auto`.
fn properties(help: &str) -> BTreeSet<String> {
    help.lines()
        .filter_map(|line| line.trim_start().split_once('='))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// A program for tests of what stands on it.
#[cfg(test)]
pub mod recorded {
    use super::*;

    /// What QEMU 10.0.2 says of its VT-d, shortened.
    pub const OLD: &str = "intel-iommu options:\n  aw-bits=<uint8>        -  (default: 48)\n  \
        caching-mode=<bool>    - on/off (default: off)\n  intremap=<OnOffAuto>   - on/off/auto (default: auto)\n  \
        x-flts=<bool>          - on/off (default: off)\n  x-pasid-mode=<bool>    - on/off (default: off)\n  \
        x-scalable-mode=<bool> - on/off (default: off)\n";
    /// And QEMU 11.1.3.
    pub const NEW: &str = "intel-iommu options:\n  aw-bits=<uint8>        -  (default: 48)\n  \
        caching-mode=<bool>    - on/off (default: off)\n  fsts=<bool>            - on/off (default: off)\n  \
        intremap=<OnOffAuto>   - on/off/auto (default: auto)\n  pasid-bits=<uint8>     -  (default: 0)\n  \
        scalable-mode=<bool>   - on/off (default: off)\n  svm=<bool>             - on/off (default: off)\n";

    /// A program whose IOMMU has these properties.
    pub fn program(list: &str) -> Program {
        Program {
            path: "/x/qemu".into(),
            properties: properties(list),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::recorded::{program, NEW, OLD};
    use super::*;

    #[test]
    fn a_property_is_called_what_this_qemu_calls_it() {
        for (list, mode) in [(OLD, "x-scalable-mode"), (NEW, "scalable-mode")] {
            let qemu = program(list);
            assert_eq!(qemu.spelling("scalable-mode"), Some(mode));
            assert_eq!(qemu.spelling("intremap"), Some("intremap"));
            assert_eq!(qemu.spelling("magic"), None);
            for name in Profile::names() {
                qemu.check(&Profile::load(name).unwrap()).unwrap();
            }
        }
    }

    #[test]
    fn what_it_lacks_is_named() {
        let profile = Profile::load("scalable-first-stage").unwrap();
        let qemu = program(&OLD.replace("x-flts", "x-other"));
        let error = qemu.check(&profile).unwrap_err().to_string();
        for words in ["no property `fsts`", "Debian's", "help` lists"] {
            assert!(error.contains(words), "{error}");
        }
    }
}
