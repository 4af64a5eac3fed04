// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which kernels there are, and what a build of one results in.

use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;

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
