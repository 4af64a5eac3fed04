// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo lab kernel`: assembles the source tree, builds the kernel.

use std::process::ExitCode;

use anyhow::Result;

use crate::build::initramfs::selftest;
use crate::build::kernel::config::Config;
use crate::build::kernel::selftests::SELFTESTS;
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
    /// Also build the kernel tree's own LUO selftests.
    #[arg(long)]
    selftests: bool,
    /// Assemble the source tree, and build all of it, from nothing.
    #[arg(long)]
    fresh: bool,
    /// Build the image even when the manifest says that nothing changed.
    #[arg(long)]
    force: bool,
}

/// Runs `cargo lab kernel`.
pub fn main(args: Args) -> Result<ExitCode> {
    if args.fresh {
        tree::forget()?;
    }
    if args.force {
        build::forget(args.config)?;
    }
    if args.prepare {
        let prepared = build::prepare(args.config)?;
        println!("source  {}", prepared.source.display());
        println!("config  {}/.config", prepared.folder.display());
        return Ok(ExitCode::SUCCESS);
    }
    let images = build::images(args.config)?;
    if args.selftests {
        for test in SELFTESTS {
            println!("{test:8} {}", selftest(args.config, test)?.display());
        }
    }
    println!("gen 1   {}", images.gen1.display());
    println!("gen 2   {}", images.gen2.display());
    println!("vmlinux {}", images.vmlinux.display());
    println!("log     {}", images.build.join("build.log").display());
    Ok(ExitCode::SUCCESS)
}
