// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel tree's own selftests of iommufd and VFIO, unmodified and static.
//!
//! They are ordinary programs on the C library and the tree's `kselftest_harness.h`, compiled against the built kernel's
//! headers with what the tree's makefiles give the compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::build::{prepare, Images, Prepared};
use crate::build::sources::tools::selftest_libraries;
use crate::command;
use crate::fingerprint::made;
use crate::lock::lock;
use crate::paths;
use crate::progress::Step;

const FOLDER: &str = "tools/testing/selftests";

/// Folder and name of each.
pub const PROGRAMS: [(&str, &str); 9] = [
    ("iommu", "iommufd"),
    ("iommu", "iommufd_fail_nth"),
    ("vfio", "vfio_dma_mapping_mmio_test"),
    ("vfio", "vfio_dma_mapping_test"),
    ("vfio", "vfio_iommufd_setup_test"),
    ("vfio", "vfio_pci_device_init_perf_test"),
    ("vfio", "vfio_pci_device_test"),
    ("vfio", "vfio_pci_driver_test"),
    ("vfio", "vfio_pci_sriov_uapi_test"),
];

/// Compiles or finds the programs; the folder that they are in.
pub fn programs(images: &Images) -> Result<PathBuf> {
    let output = paths::output()?;
    let folder = output
        .join("selftests")
        .join(images.config.name())
        .join("harness");
    selftest_libraries()?;
    let prepared = prepare(images.config)?;
    let _lock = lock(&output)?;
    made(&folder.join("stamp"), &images.fingerprint, &[], || {
        let step = Step::begin("Compiling the kernel tree's selftests of iommufd and VFIO");
        command::logged(prepared.make().arg("headers"), &prepared.log(), |_| {})?;
        for (part, name) in PROGRAMS {
            compile(&prepared, part, name, &folder.join(name))?;
        }
        step.done();
        Ok(())
    })?;
    Ok(folder)
}

fn compile(prepared: &Prepared, folder: &str, name: &str, program: &Path) -> Result<()> {
    let tests = prepared.source.join(FOLDER);
    let folder = tests.join(folder);
    let library = folder.join("lib");
    let mut gcc = Command::new("gcc");
    gcc.args([
        "-O2",
        "-static",
        "-s",
        "-pthread",
        "-D_GNU_SOURCE=",
        "-isystem",
    ])
    .arg(prepared.folder.join("usr/include"));
    gcc.arg("-I").arg(&tests);
    gcc.arg("-o").arg(program);
    gcc.arg(folder.join(format!("{name}.c")));
    if library.is_dir() {
        gcc.arg("-I").arg(library.join("include"));
        gcc.arg("-I").arg(prepared.source.join("tools/include"));
        gcc.args(sources(&library)?);
        for driver in entries(&library.join("drivers"))? {
            gcc.args(sources(&driver)?);
        }
        gcc.arg("-luuid");
    } else {
        gcc.arg("-lcap");
    }
    command::logged(&mut gcc, &prepared.log(), |_| {})
}

fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut all = entries(folder)?;
    all.retain(|path| path.extension().is_some_and(|end| end == "c"));
    Ok(all)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = || format!("cannot read {}", folder.display());
    let entries = fs::read_dir(folder).with_context(unreadable)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths
        .collect::<Result<Vec<_>, _>>()
        .with_context(unreadable)?;
    paths.sort_unstable();
    Ok(paths)
}
