// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel tree's own LUO selftests, unmodified and static.
//!
//! Compiled against the tree's nolibc and the built kernel's headers, the way the tree's `vmtest.sh` does it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::build::{prepare, Images};
use crate::command::logged;
use crate::fingerprint::made;
use crate::lock::lock;
use crate::paths;
use crate::progress::Step;

const FOLDER: &str = "tools/testing/selftests/liveupdate";
/// The flags of the tree's `init.c`.
const INIT: &str = "-s -Os -fno-asynchronous-unwind-tables -fno-ident -fno-stack-protector";

/// Those that are run.
pub const SELFTESTS: [&str; 4] = [
    "luo_kexec_simple",
    "luo_multi_session",
    "luo_stress_sessions",
    "luo_stress_files",
];

/// Compiles or finds the selftests of a kernel; returns their folder, which has each of [`SELFTESTS`] and `init`.
pub fn programs(images: &Images) -> Result<PathBuf> {
    let output = paths::output()?;
    let folder = output.join("selftests").join(images.config.name());
    let prepared = prepare(images.config)?;
    let _lock = lock(&output)?;
    made(&folder.join("stamp"), &images.fingerprint, &[], || {
        let step = Step::begin("Compiling the kernel tree's LUO selftests");
        logged(prepared.make().arg("headers"), &prepared.log(), |_| {})?;
        let tests = prepared.source.join(FOLDER);
        let compile = |name: &str, more: &mut dyn FnMut(&mut Command)| {
            let mut gcc = Command::new("gcc");
            gcc.args(["-static", "-nostdinc", "-nostdlib", "-I"])
                .arg(prepared.folder.join("usr/include"))
                .arg("-I")
                .arg(prepared.source.join("tools/include/nolibc"))
                .arg("-o")
                .arg(folder.join(name))
                .arg(tests.join(format!("{name}.c")));
            more(&mut gcc);
            logged(&mut gcc, &prepared.log(), |_| {})
        };
        for name in SELFTESTS {
            compile(name, &mut |gcc| {
                gcc.arg("-O2")
                    .arg("-I")
                    .arg(tests.join("lib/include"))
                    .arg(tests.join("lib/lu_utils.c"));
            })?;
        }
        compile("init", &mut |gcc| {
            gcc.args(INIT.split(' '));
        })?;
        step.done();
        Ok(())
    })?;
    Ok(folder)
}
