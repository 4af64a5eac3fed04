// SPDX-License-Identifier: Apache-2.0 OR MIT
//! bindgen, which the kernel's Rust build runs; built once from its pinned release.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::work::work_folder;
use crate::command::logged;
use crate::progress::Step;
use crate::trouble::Trouble;

/// The pinned release; Linux 7.3 needs 0.71.1 or newer.
pub const VERSION: &str = "0.73.2";

/// Builds or finds bindgen in the cache.
pub fn ensure(cache: &Path, libclang: &Path) -> Result<PathBuf> {
    let kept = cache.join(format!("tools/bindgen-{VERSION}"));
    let program = kept.join("bin/bindgen");
    if program.is_file() {
        return Ok(program);
    }
    fs::create_dir_all(cache.join("tools"))?;
    let work = work_folder(cache)?;
    let step = Step::begin(format!("Building bindgen {VERSION}"));
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // In a folder and with flags of its own: the workspace's are not meant for it.
    cargo
        .args(["install", "--locked", "bindgen-cli", "--version", VERSION])
        .arg("--root")
        .arg(work.path().join("root"))
        .current_dir(work.path())
        .env("CARGO_TARGET_DIR", work.path().join("target"))
        .env("LIBCLANG_PATH", libclang)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    let mut count = 0;
    logged(&mut cargo, &cache.join("bindgen.log"), |line| {
        if line.trim_start().starts_with("Compiling ") {
            count += 1;
            step.says(&format!("{count} crates"));
        }
    })
    .map_err(|error| {
        Trouble::new(
            format!("cannot build bindgen {VERSION}: {error:#}"),
            "check that cargo can reach its registry (`cargo search bindgen-cli`), and that there is room, then run again",
        )
    })?;
    if kept.exists() {
        fs::remove_dir_all(&kept)?;
    }
    fs::rename(work.path().join("root"), &kept)?;
    step.done();
    Ok(program)
}
