// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo lab setup`: gets everything that is not in the repository.

use std::process::ExitCode;

use anyhow::Result;

use crate::build::sources::tools::{kernel_tools, vmm_disk};
use crate::machine::program::Program;
use crate::paths;

/// Arguments of `cargo lab setup`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `cargo lab setup`.
pub fn main(_args: Args) -> Result<ExitCode> {
    let qemu = Program::for_all()?;
    let tools = kernel_tools()?;
    println!("cache     {}", paths::cache()?.display());
    println!(
        "linux     {} at {}",
        tools.source.release,
        tools.source.path.display()
    );
    println!("rust-src  {}", tools.rust_library.display());
    println!("bindgen   {}", tools.bindgen.display());
    println!("qemu      {}", qemu.path.display());
    for line in tools.versions.lines() {
        println!("          {line}");
    }
    // Only the machines with a virtual machine inside need it, and it is Debian's.
    match vmm_disk() {
        Ok(disk) => println!("vmm disk  {}", disk.display()),
        Err(error) => eprintln!("no virtual machine can run inside a machine: {error:#}"),
    }
    Ok(ExitCode::SUCCESS)
}
