// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU: recent enough, and with the devices of our machines.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::apt::Apt;
use super::platform::{debian, need_root};
use crate::command::{find, output};
use crate::paths;
use crate::run::profile::Profile;
use crate::run::qemu::missing_property;
use crate::trouble::{trouble, Trouble};
use crate::upstream::Release;

/// QEMU's name on PATH.
pub(crate) const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";
/// The first release whose emulated VT-d and igb do what the machines need: it has first-stage tables.
const OLDEST: Release = Release {
    version: 10,
    patchlevel: 0,
    sublevel: 0,
};
/// The device whose properties the profiles set.
const IOMMU: &str = "intel-iommu";
/// What the machines are made of.
const DEVICES: [&str; 3] = ["igb", IOMMU, "pcie-root-port"];

/// The QEMU on PATH when it is good; none when it is absent or too old.
///
/// # Errors
///
/// A QEMU of a good version that lacks a device, or a property of it, is refused: installing ours would not replace it.
pub fn found() -> Result<Option<PathBuf>> {
    let Some(path) = find(PROGRAM) else {
        return Ok(None);
    };
    if is_known_good(&path) {
        return Ok(Some(path));
    }
    if version(&ask(&path, &["--version"])?).is_none_or(|version| version < OLDEST) {
        return Ok(None);
    }
    check_devices(&ask(&path, &["-device", "help"])?, &path)?;
    for profile in Profile::names() {
        let better = format!("use another QEMU: Debian's {PACKAGE} {OLDEST} or newer");
        check_properties(&Profile::load(profile)?, &path, &better)?;
    }
    remember(&path);
    Ok(Some(path))
}

/// Refuses a profile that this QEMU, which [`found`] has found good, can not play. Only one of the user's own can be.
///
/// # Errors
///
/// It has a property of the IOMMU that QEMU does not know.
pub(crate) fn can_play(profile: &Profile, path: &Path) -> Result<()> {
    let known = checked_properties()?;
    if profile.iommu.keys().all(|name| known.contains(name)) {
        return Ok(());
    }
    let correct = format!(
        "correct the profile's [iommu]: `{PROGRAM} -device {IOMMU},help` lists what there is"
    );
    check_properties(profile, path, &correct)
}

/// The properties that the lab's own profiles have.
fn checked_properties() -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for profile in Profile::names() {
        all.extend(Profile::load(profile)?.iommu.into_keys());
    }
    Ok(all)
}

fn check_properties(profile: &Profile, path: &Path, remedy: &str) -> Result<()> {
    match missing_property(profile, path)? {
        None => Ok(()),
        Some(property) => trouble(
            format!(
                "{}: the device {IOMMU} has no property `{property}`, which the profile {} needs",
                path.display(),
                profile.name
            ),
            remedy,
        ),
    }
}

fn ask(path: &Path, what: &[&str]) -> Result<String> {
    let answer = output(Command::new(path).args(what));
    answer.map_err(|error| {
        Trouble::new(
            format!("{} does not run: {error:#}", path.display()),
            format!("mend it (`apt-get install --reinstall {PACKAGE}`), or take its folder out of PATH if it is not Debian's"),
        )
        .into()
    })
}

/// Why none was found, in words.
fn lack() -> String {
    let Some(path) = find(PROGRAM) else {
        return format!("there is no {PROGRAM} on PATH");
    };
    let text = ask(&path, &["--version"]).unwrap_or_default();
    let name = match version(&text) {
        Some(version) => format!("QEMU {version}"),
        None => "of an unknown version".to_owned(),
    };
    format!("{} is {name}", path.display())
}

/// Installs QEMU, from backports where the release's own is too old.
pub fn install(cache: &Path) -> Result<PathBuf> {
    // Another process may have done it while this one waited.
    if let Some(path) = found()? {
        return Ok(path);
    }
    let lack = lack();
    let debian = debian(&format!("{PACKAGE} {OLDEST} or newer ({lack})"))?;
    let backports = debian.backports();
    let from = (debian.codename == "bookworm").then_some(backports.as_str());
    let source = from.map_or(String::new(), |suite| format!("-t {suite} "));
    need_root(
        &format!("{lack}, the machines need {OLDEST} or newer, and only root may install it"),
        &format!("{source}{PACKAGE}"),
    )?;
    Apt::of_release(cache, &debian)?.install(&[PACKAGE], from)?;
    match found()? {
        Some(path) => Ok(path),
        None => trouble(
            format!(
                "{PACKAGE} was installed, but {}, and the machines need {OLDEST} or newer",
                self::lack()
            ),
            "remove that one, or put /usr/bin before its folder in PATH",
        ),
    }
}

fn version(text: &str) -> Option<Release> {
    let rest = text.strip_prefix("QEMU emulator version ")?;
    Release::parse(rest.split([' ', '\n', '(', '-']).next()?)
}

fn check_devices(help: &str, path: &Path) -> Result<(), Trouble> {
    let missing: Vec<&str> = DEVICES
        .into_iter()
        .filter(|device| !help.contains(&format!("name \"{device}\"")))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Trouble::new(
        format!("{} has no device {}", path.display(), missing.join(", ")),
        format!("use a QEMU that was built with it: Debian's {PACKAGE} {OLDEST} or newer"),
    ))
}

/// Asking QEMU costs a quarter of a second; the answer is kept with the file's size and date, and what was asked for.
fn identity(path: &Path) -> Option<String> {
    let meta = fs::metadata(path).ok()?;
    let wanted: Vec<String> = checked_properties().ok()?.into_iter().collect();
    Some(format!(
        "{} {} {}.{} {OLDEST} {} {}",
        path.display(),
        meta.len(),
        meta.mtime(),
        meta.mtime_nsec(),
        DEVICES.join(","),
        wanted.join(","),
    ))
}

fn stamp() -> Option<PathBuf> {
    Some(paths::output().ok()?.join("qemu.checked"))
}

fn is_known_good(path: &Path) -> bool {
    let known = stamp().and_then(|stamp| fs::read_to_string(stamp).ok());
    known.is_some() && known == identity(path)
}

fn remember(path: &Path) {
    // Only a shortcut: without it the next run asks again.
    if let (Some(stamp), Some(identity)) = (stamp(), identity(path)) {
        let _ = stamp.parent().map(fs::create_dir_all);
        let _ = fs::write(stamp, identity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let new = version(
            "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\nCopyright",
        )
        .unwrap();
        assert!(new >= OLDEST);
        assert!(version("QEMU emulator version 7.2.17 (Debian)\n").unwrap() < OLDEST);
        assert_eq!(version("something"), None);
    }

    #[test]
    fn the_table_formats_properties_are_among_those_that_are_checked() {
        let all = checked_properties().unwrap();
        assert!(["x-scalable-mode", "x-flts"]
            .iter()
            .all(|name| all.contains(*name)));
    }

    #[test]
    fn a_missing_device_is_named() {
        let help = "name \"intel-iommu\", bus System\nname \"pcie-root-port\", bus PCI\nname \"igbvf\", bus PCI\n";
        let error = check_devices(help, Path::new("/x/qemu"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no device igb") && error.contains("/x/qemu"),
            "{error}"
        );
        check_devices(
            &format!("{help}name \"igb\", bus PCI\n"),
            Path::new("/x/qemu"),
        )
        .unwrap();
    }
}
