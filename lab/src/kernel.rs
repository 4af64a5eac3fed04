// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo lab kernel`: assembles the source tree, builds the kernel.

use std::process::ExitCode;

use anyhow::Result;

use crate::build::kernel::config::Config;
use crate::build::kernel::{build, tree};

/// Arguments of `cargo lab kernel`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which kernel.
    #[arg(long, value_enum, default_value_t)]
    config: Config,
    /// Only assemble the source tree and the configuration.
    #[arg(long)]
    prepare: bool,
    /// Assemble the source tree, and build all of it, from nothing.
    #[arg(long)]
    fresh: bool,
}

/// Runs `cargo lab kernel`.
pub fn main(args: Args) -> Result<ExitCode> {
    if args.fresh {
        tree::forget()?;
    }
    let prepared = build::prepare(args.config)?;
    println!("source  {}", prepared.source.display());
    println!("build   {}", prepared.folder.display());
    if !args.prepare {
        let images = build::images(args.config)?;
        println!("gen 1   {}", images.gen1.display());
        println!("gen 2   {}", images.gen2.display());
        println!("log     {}", prepared.log().display());
    }
    Ok(ExitCode::SUCCESS)
}
