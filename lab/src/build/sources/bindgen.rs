// SPDX-License-Identifier: Apache-2.0 OR MIT
//! bindgen, which the kernel's Rust build runs; built once from its pinned release.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::command::logged;
use crate::paths;
use crate::progress::Step;
use crate::trouble::Trouble;

/// The pinned release; Linux 7.3 needs 0.71.1 or newer.
pub const VERSION: &str = "0.73.2";
/// What its build takes, measured (126 MiB), with some air.
const SPACE: u64 = 200 << 20;

/// Builds or finds bindgen in the cache.
pub fn ensure(cache: &Path, libclang: &Path) -> Result<PathBuf> {
    let kept = cache.join(format!("tools/bindgen-{VERSION}"));
    let program = kept.join("bin/bindgen");
    if program.is_file() {
        return Ok(program);
    }
    paths::need_space(cache, SPACE, "building bindgen")?;
    fs::create_dir_all(cache.join("tools"))?;
    let work = super::work::work_folder(cache, "bindgen")?;
    let mut step = Step::begin(format!("Building bindgen {VERSION}"));
    let log = cache.join("bindgen.log");
    let mut count = 0;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "install",
            "--locked",
            "bindgen-cli",
            "--version",
            VERSION,
            "--root",
        ])
        .arg(work.path().join("root"));
    // In a folder and with flags of its own: the workspace's are not meant for it.
    cargo
        .current_dir(work.path())
        .env("CARGO_TARGET_DIR", work.path().join("target"))
        .env("LIBCLANG_PATH", libclang);
    cargo
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    logged(&mut cargo, &log, |line| {
        if line.trim_start().starts_with("Compiling ") {
            count += 1;
            step.at(count, 75, "crates");
        }
    })
    .map_err(|error| {
        Trouble::new(
            format!("cannot build bindgen {VERSION}: {error:#}"),
            "check that cargo can reach its registry (`cargo search bindgen-cli`), then run again",
        )
    })?;
    if kept.exists() {
        fs::remove_dir_all(&kept)?;
    }
    fs::rename(work.path().join("root"), &kept)?;
    step.done();
    Ok(program)
}
