// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel without CONFIG_HITLESS: the folders that the patches touch compile without a warning, and nothing in them has
//! a name of hitless.
//!
//! The image is not built, which would take minutes: what no patch touches can not tell the difference.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use walkdir::WalkDir;

use super::build::{kbuild, prepare};
use super::config::Config;
use super::patches;
use crate::lock::lock;
use crate::progress::Step;
use crate::trouble::trouble;
use crate::{command, paths};

/// What no symbol and no object may be called.
const NAME: &str = "hitless";
/// Directories of programs that run on the host.
const HOST: [&str; 2] = ["scripts", "tools"];

/// Compiles what the patches touch, with hitless off.
pub fn check() -> Result<()> {
    let config = Config::Off;
    let prepared = prepare(config)?;
    let _lock = lock(&paths::output()?)?;
    let touched = patches::touched(&patches::list(&paths::repository()?)?)?;
    let step = Step::begin(format!("Compiling what the patches touch ({config})"));
    // What all objects need: headers, and the crate that the Rust patches touch.
    kbuild(config, &prepared, prepared.make().arg("prepare"), |_| {})?;
    let mut make = prepared.make();
    kbuild(config, &prepared, make.args(targets(&touched)), |_| {})?;
    step.done();
    let objects = objects(&prepared.folder)?;
    let mut nm = Command::new("nm");
    nm.arg("-A").args(&objects).current_dir(&prepared.folder);
    let mut left = named(&command::output(&mut nm)?);
    let names = objects.iter().map(|path| path.to_string_lossy());
    left.extend(names.filter(|path| path.contains(NAME)).map(Into::into));
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

/// The folders of C files and Makefiles, and the C files of folders that are half of the kernel. A folder that lies in
/// another is not among them: that one brings it, and from a folder kbuild goes down into nothing but its other targets,
/// whose lists it then misses.
fn targets(touched: &BTreeSet<String>) -> Vec<String> {
    let target = |path: &String| {
        let (folder, name) = path.rsplit_once('/')?;
        let stem = name.strip_suffix(".c");
        // Helpers for Rust are compiled in one, which `prepare` makes.
        if folder.starts_with("rust") || stem.is_none() && name != "Makefile" {
            None
        } else if folder.contains('/') {
            Some(format!("{folder}/"))
        } else {
            stem.map(|stem| format!("{folder}/{stem}.o"))
        }
    };
    let mut outermost: Vec<String> = Vec::new();
    // A folder comes before what lies in it.
    for target in touched.iter().filter_map(target).collect::<BTreeSet<_>>() {
        let brings = |outer: &String| outer.ends_with('/') && target.starts_with(outer);
        if !outermost.iter().any(brings) {
            outermost.push(target);
        }
    }
    outermost
}

/// The kernel's objects in a build folder, as paths in it.
fn objects(folder: &Path) -> Result<Vec<PathBuf>> {
    let is_kernel = |path: &Path| !HOST.iter().any(|name| path == folder.join(name));
    let walk = WalkDir::new(folder)
        .into_iter()
        .filter_entry(|entry| is_kernel(entry.path()));
    let mut found = Vec::new();
    for entry in walk {
        let entry = entry?;
        let is_object = entry.path().extension().is_some_and(|ending| ending == "o");
        if is_object && entry.file_type().is_file() {
            found.push(entry.path().strip_prefix(folder)?.to_owned());
        }
    }
    found.sort();
    Ok(found)
}

/// The lines of `nm -A` whose symbol has the name in it.
fn named(symbols: &str) -> Vec<String> {
    let has_name = |line: &&str| {
        let symbol = line.rsplit(' ').next().unwrap_or_default();
        symbol.to_ascii_lowercase().contains(NAME)
    };
    let lines = symbols.lines().filter(has_name);
    lines.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn folders_bring_what_is_in_them() {
        let touched = [
            "mm/shmem.c",
            "drivers/Makefile",
            "drivers/pci/Makefile",
            "drivers/pci/pcie/portdrv.c",
            "drivers/pcicore/x.c",
            "include/linux/iommu.h",
            "rust/helpers/helpers.c",
        ];
        let touched = touched.map(str::to_owned).into_iter().collect();
        let expected = ["drivers/pci/", "drivers/pcicore/", "mm/shmem.o"];
        assert_eq!(targets(&touched), expected);
    }

    #[test]
    fn symbols_are_found_by_name_in_the_kernels_objects() {
        let symbols =
            "a/hitless.o:0000 T other\nmm/shmem.o:     U hitless_token\nb.o:00 T x_Hitless\n";
        assert_eq!(
            named(symbols),
            ["mm/shmem.o:     U hitless_token", "b.o:00 T x_Hitless"]
        );
        let dir = tempfile::tempdir().unwrap();
        for path in ["mm/a.o", "scripts/mod/b.o", "drivers/tools/c.o", "mm/a.c"] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = objects(dir.path()).unwrap();
        assert_eq!(found, [Path::new("drivers/tools/c.o"), Path::new("mm/a.o")]);
    }
}
