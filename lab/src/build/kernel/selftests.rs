// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel tree's own LUO selftests, unmodified and static.
//!
//! Compiled against the tree's nolibc and the built kernel's headers, the way the tree's `vmtest.sh` does it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::build::{self, Prepared};
use super::config::Images;
use crate::command;
use crate::fingerprint::Stamp;
use crate::lock::lock;
use crate::paths;
use crate::progress::Step;

const FOLDER: &str = "tools/testing/selftests/liveupdate";

/// Those that are run.
pub const SELFTESTS: [&str; 4] = [
    "luo_kexec_simple",
    "luo_multi_session",
    "luo_stress_sessions",
    "luo_stress_files",
];

/// The compiled programs of one configuration.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The tree's `init.c`.
    pub init: PathBuf,
    /// Name and path of each of [`SELFTESTS`].
    pub tests: Vec<(&'static str, PathBuf)>,
}

/// Compiles or finds the selftests.
pub fn programs(images: &Images) -> Result<Programs> {
    let output = paths::output()?
        .join("selftests")
        .join(images.config.name());
    let programs = Programs {
        init: output.join("init"),
        tests: SELFTESTS
            .iter()
            .map(|name| (*name, output.join(name)))
            .collect(),
    };
    let stamp = Stamp::at(output.join("stamp"));
    if stamp.says(&images.fingerprint) {
        return Ok(programs);
    }
    let prepared = build::prepare(images.config)?;
    let _lock = lock(&paths::output()?)?;
    let step = Step::begin("Compiling the kernel tree's LUO selftests");
    fs::create_dir_all(&output)?;
    stamp.renew(|| {
        compile(&prepared, &programs)?;
        Ok(images.fingerprint.clone())
    })?;
    step.done();
    Ok(programs)
}

fn compile(prepared: &Prepared, programs: &Programs) -> Result<()> {
    command::logged(prepared.make().arg("headers"), &prepared.log(), |_| {})?;
    let tests = prepared.source.join(FOLDER);
    for (name, program) in &programs.tests {
        let mut gcc = compiler(&prepared.source, &prepared.folder);
        gcc.arg("-O2")
            .arg("-I")
            .arg(tests.join("lib/include"))
            .arg("-o")
            .arg(program);
        gcc.arg(tests.join(format!("{name}.c")))
            .arg(tests.join("lib/lu_utils.c"));
        command::logged(&mut gcc, &prepared.log(), |_| {})?;
    }
    let mut gcc = compiler(&prepared.source, &prepared.folder);
    gcc.args([
        "-s",
        "-Os",
        "-fno-asynchronous-unwind-tables",
        "-fno-ident",
        "-fno-stack-protector",
        "-o",
    ]);
    gcc.arg(&programs.init).arg(tests.join("init.c"));
    command::logged(&mut gcc, &prepared.log(), |_| {})
}

fn compiler(source: &Path, build: &Path) -> Command {
    let mut gcc = Command::new("gcc");
    gcc.args(["-static", "-nostdinc", "-nostdlib", "-I"])
        .arg(build.join("usr/include"));
    gcc.arg("-I").arg(source.join("tools/include/nolibc"));
    gcc
}
