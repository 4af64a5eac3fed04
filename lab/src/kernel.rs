// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builds the kernel: source tree, configuration, two generations of the image.
//!
//! `target/lab/linux` is the pinned release with `kernel/patches` applied and `kernel/tree` and `core` linked in;
//! `target/lab/build/<config>` is where kbuild works; `target/lab/kernel/<config>` has the results and a manifest.
//! A fingerprint of all inputs in the manifest tells whether there is anything to do.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

pub mod build;
pub mod fragments;
pub mod off;
pub mod patches;
pub mod selftests;
pub mod tree;

/// Which kernel: a list of fragments in `kernel/config`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, ValueEnum)]
pub enum Config {
    /// hitless, with the tests' switches that leave one seam out (`hitless.break=`).
    #[default]
    Hitless,
    /// CONFIG_HITLESS unset: every seam compiled out.
    Off,
    /// hitless with lockdep, poisoned free memory and leak detection, and with KUnit tests that run at boot; slow.
    Debug,
}

impl Config {
    /// The name of its folders.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hitless => "hitless",
            Self::Off => "off",
            Self::Debug => "debug",
        }
    }

    /// Its fragments, in the order they are applied.
    pub fn fragments(self) -> &'static [&'static str] {
        match self {
            Self::Hitless => &["base", "hitless"],
            Self::Off => &["base", "off"],
            Self::Debug => &["base", "hitless", "debug", "kunit"],
        }
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The results of a kernel build. Both images come from the same sources; `uname -v` begins with `#1` or `#2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Which kernel this is.
    pub config: Config,
    /// bzImage of generation 1.
    pub gen1: PathBuf,
    /// bzImage of generation 2.
    pub gen2: PathBuf,
    /// The ELF file of generation 2, with symbols.
    pub vmlinux: PathBuf,
    /// Where kbuild worked, `.config` and the log included.
    pub build: PathBuf,
    /// The assembled source tree.
    pub source: PathBuf,
    /// Names the inputs: equal fingerprints, equal images.
    pub fingerprint: String,
}

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
    let images = images(args.config)?;
    if args.selftests {
        for test in crate::artifacts::SELFTESTS {
            println!(
                "{test:8} {}",
                selftests::initramfs(args.config, test)?.display()
            );
        }
    }
    println!("gen 1   {}", images.gen1.display());
    println!("gen 2   {}", images.gen2.display());
    println!("vmlinux {}", images.vmlinux.display());
    println!("log     {}", images.build.join("build.log").display());
    Ok(ExitCode::SUCCESS)
}

/// Builds or finds the images of a configuration.
pub fn images(config: Config) -> Result<Images> {
    build::images(config)
}
