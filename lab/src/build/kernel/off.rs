// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel without CONFIG_HITLESS: whatever the patches touch compiles without a warning, and nothing in it has a
//! name of hitless.
//!
//! The image is not built, which would take minutes: what no patch touches can not tell the difference.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use walkdir::WalkDir;

use super::build::{self, Prepared};
use super::config::Config;
use super::patches;
use crate::lock::lock;
use crate::progress::Step;
use crate::trouble::trouble;
use crate::{command, paths};

/// What no symbol and no object may be called.
const NAME: &str = "hitless";
/// A rule that prints what kbuild's lists in a Makefile name.
const LIST: &str =
    "listed-objects: ; @echo $(foreach v,$(filter %-y %-m %-objs,$(.VARIABLES)),$($(v)))";
/// Directories of programs that run on the host.
const HOST: [&str; 2] = ["scripts", "tools"];

/// Compiles what the patches touch, with hitless off.
pub fn check() -> Result<()> {
    let prepared = build::prepare(Config::Off)?;
    let _lock = lock(&paths::output()?)?;
    let mut touched = BTreeSet::new();
    for patch in patches::list(&paths::repository()?)? {
        touched.extend(patches::touched(&fs::read_to_string(patch)?));
    }
    compile(&prepared, &touched)?;
    let objects = objects(&prepared.folder)?;
    let mut left: Vec<String> = objects
        .iter()
        .filter(|path| path.to_string_lossy().contains(NAME))
        .map(|path| path.display().to_string())
        .collect();
    let mut nm = Command::new("nm");
    nm.arg("-A").args(&objects).current_dir(&prepared.folder);
    left.extend(named(&command::output(&mut nm)?));
    if left.is_empty() {
        return Ok(());
    }
    trouble(
        format!(
            "a kernel without CONFIG_HITLESS still has:\n{}",
            left.join("\n")
        ),
        "put it under the symbol, or give the header an inline function that does nothing",
    )
}

fn compile(prepared: &Prepared, touched: &BTreeSet<String>) -> Result<()> {
    let step = Step::begin(format!(
        "Compiling what the patches touch ({})",
        Config::Off
    ));
    // What all objects need: headers, and the crate that the Rust patches touch.
    let mut make = prepared.make();
    build::kbuild(Config::Off, prepared, make.arg("prepare"), |_| {})?;
    let mut targets = targets(touched);
    let mut absent = Vec::new();
    for target in targets.clone() {
        if target.ends_with(".o") && !is_configured(prepared, &target)? {
            targets.retain(|other| *other != target);
            absent.push(target);
        }
    }
    let mut make = prepared.make();
    build::kbuild(
        Config::Off,
        prepared,
        make.args(outermost(&targets)),
        |_| {},
    )?;
    step.done();
    if !absent.is_empty() {
        eprintln!("  not in this configuration: {}", absent.join(" "));
    }
    Ok(())
}

/// Whether the Makefile beside an object names it, with this configuration: kbuild compiles whatever it is told to.
fn is_configured(prepared: &Prepared, object: &str) -> Result<bool> {
    let (folder, name) = object.rsplit_once('/').unwrap_or((".", object));
    let configuration = prepared.folder.join("include/config/auto.conf");
    let source = prepared.source.join(folder);
    let mut make = Command::new("make");
    make.args(["-rR", "--no-print-directory", "-f"])
        .arg(source.join("Makefile"))
        .arg(format!("--eval=include {}", configuration.display()))
        .arg(format!("--eval={LIST}"))
        .arg(format!("srctree={}", prepared.source.display()))
        .arg(format!("src={}", source.display()))
        .arg("listed-objects")
        .env_remove("MAKEFLAGS");
    let listed = command::output(&mut make)?;
    Ok(listed.split_whitespace().any(|other| other == name))
}

/// An object for each C file, and all that a Makefile deep enough not to be half of the kernel decides about.
fn targets(touched: &BTreeSet<String>) -> Vec<String> {
    let mut targets = BTreeSet::new();
    for path in touched {
        if let Some(stem) = path.strip_suffix(".c") {
            // Helpers for Rust are compiled in one, which `prepare` makes.
            if !path.starts_with("rust/") {
                targets.insert(format!("{stem}.o"));
            }
        } else if let Some(folder) = path.strip_suffix("Makefile") {
            if folder.matches('/').count() > 1 {
                targets.insert(folder.to_owned());
            }
        }
    }
    targets.into_iter().collect()
}

/// Without what lies in a folder that is a target itself: the folder brings it, and from a folder kbuild goes down into
/// nothing but its other targets, whose lists it then misses.
fn outermost(targets: &[String]) -> Vec<&String> {
    let is_inside = |target: &str| {
        let holds = |folder: &String| folder != target && folder.ends_with('/');
        targets
            .iter()
            .any(|folder| holds(folder) && target.starts_with(folder.as_str()))
    };
    targets.iter().filter(|target| !is_inside(target)).collect()
}

/// The kernel's objects in a build folder, as paths in it.
fn objects(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let walk = WalkDir::new(folder)
        .min_depth(1)
        .into_iter()
        .filter_entry(|entry| {
            entry.depth() > 1 || !HOST.iter().any(|name| entry.file_name() == *name)
        });
    for entry in walk {
        let entry = entry?;
        let is_object = entry.path().extension().is_some_and(|ending| ending == "o");
        if is_object && entry.file_type().is_file() {
            found.push(entry.path().strip_prefix(folder)?.to_owned());
        }
    }
    Ok(found)
}

/// The lines of `nm -A` whose symbol has the name in it.
fn named(symbols: &str) -> Vec<String> {
    let has_name = |line: &&str| {
        line.rsplit(' ')
            .next()
            .is_some_and(|symbol| symbol.to_ascii_lowercase().contains(NAME))
    };
    symbols
        .lines()
        .filter(has_name)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_objects_and_the_folders_of_makefiles() {
        let touched = [
            "mm/shmem.c",
            "drivers/Makefile",
            "drivers/vfio/Makefile",
            "include/linux/iommu.h",
            "rust/helpers/helpers.c",
        ];
        let touched = touched.map(str::to_owned).into_iter().collect();
        assert_eq!(targets(&touched), ["drivers/vfio/", "mm/shmem.o"]);
    }

    #[test]
    fn a_folder_brings_what_is_in_it() {
        let all = [
            "drivers/pci/",
            "drivers/pci/pcie/",
            "drivers/pci/pcie/portdrv.o",
            "drivers/pcicore.o",
        ];
        let all = all.map(str::to_owned);
        assert_eq!(outermost(&all), ["drivers/pci/", "drivers/pcicore.o"]);
    }

    #[test]
    fn what_is_not_configured_is_not_compiled() {
        let dir = tempfile::tempdir().unwrap();
        let prepared = build::pretended(dir.path());
        let configuration = prepared.folder.join("include/config/auto.conf");
        fs::create_dir_all(configuration.parent().unwrap()).unwrap();
        fs::write(configuration, "CONFIG_A=y\n").unwrap();
        let makefile = "obj-$(CONFIG_A) += a.o x/\na-y := part.o\nobj-$(CONFIG_B) += b.o\n";
        fs::write(prepared.source.join("dir/Makefile"), makefile).unwrap();
        let is_configured = |object| is_configured(&prepared, object).unwrap();
        assert!(is_configured("dir/a.o") && is_configured("dir/part.o"));
        assert!(!is_configured("dir/b.o"));
    }

    #[test]
    fn a_symbol_is_found_by_its_name_and_not_by_its_file() {
        let symbols = "a/hitless.o:0000 T other\nmm/shmem.o:                 U hitless_token\nb.o:00 T x_Hitless\n";
        assert_eq!(
            named(symbols),
            [
                "mm/shmem.o:                 U hitless_token",
                "b.o:00 T x_Hitless"
            ]
        );
    }

    #[test]
    fn objects_are_those_of_the_kernel() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["mm/a.o", "scripts/mod/b.o", "drivers/tools/c.o", "mm/a.c"] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let mut found = objects(dir.path()).unwrap();
        found.sort();
        assert_eq!(found, [Path::new("drivers/tools/c.o"), Path::new("mm/a.o")]);
    }
}
