// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The library source of exactly rustc's version, which the kernel build compiles `core` from. That rustc is recent enough
//! for the kernel is what cargo sees to: the workspace asks for the same version.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::command::output;
use crate::progress::Step;
use crate::trouble::trouble;

/// Finds `library` of the compiler's source in the toolchain, or has rustup put it there.
pub fn library() -> Result<PathBuf> {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
    let is_there = || library.join("core/src/lib.rs").is_file();
    if is_there() {
        return Ok(library);
    }
    let step = Step::begin("Fetching the Rust library source (rustup)");
    let answer = output(Command::new("rustup").args(["component", "add", "rust-src"]));
    if is_there() {
        step.done();
        return Ok(library);
    }
    let refused = answer.map_or_else(|error| format!(", and {error:#}"), |_| String::new());
    trouble(
        format!("rustc's library source is not in {}{refused}", library.display()),
        "`rustup component add rust-src`, or install the package rust-src of rustc's own version from where rustc is from",
    )
}
