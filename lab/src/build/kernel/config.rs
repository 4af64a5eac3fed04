// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which kernels there are: lists of fragments, which are lists of requests to kconfig, each of which must be met.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::trouble::trouble;

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

    /// What its fragments ask kconfig for, in the order in which one overrides the one before.
    pub fn requests(self, repository: &Path) -> Result<String> {
        let fragments: &[&str] = match self {
            Self::Hitless => &["base", "hitless", "vm"],
            Self::Off => &["base", "off"],
            Self::Debug => &["base", "hitless", "debug", "kunit"],
        };
        let read = |name| {
            let path = repository.join(format!("kernel/config/{name}.config"));
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        fragments.iter().map(read).collect()
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Refuses when a request is none, or was not met; names each with what it became.
pub fn verify(requests: &str, dot_config: &str) -> Result<()> {
    let have: BTreeMap<&str, &str> = dot_config.lines().filter_map(request).collect();
    let mut wanted = BTreeMap::new();
    let mut lost = Vec::new();
    for line in requests.lines() {
        let is_text = !line.starts_with("# CONFIG_") && line.starts_with('#');
        match request(line) {
            Some((symbol, value)) => drop(wanted.insert(symbol, value)),
            None if line.is_empty() || is_text => {}
            None => lost.push(format!(
                "`{line}` (write CONFIG_X=value, `# CONFIG_X is not set`, or a comment)"
            )),
        }
    }
    for (symbol, wanted) in wanted {
        // A symbol whose dependencies are not met is not in .config at all, which is as good as "not set".
        let got = have.get(symbol).copied().unwrap_or("n");
        if got != wanted {
            lost.push(format!("CONFIG_{symbol}={wanted} became {got}"));
        }
    }
    if lost.is_empty() {
        return Ok(());
    }
    trouble(
        format!("the kernel configuration did not take: {}", lost.join(", ")),
        "look the symbol up in the tree's Kconfig files: it was renamed, or something it depends on is missing in kernel/config/*.config (for RUST: `make rustavailable`)",
    )
}

/// A symbol and its value, from `CONFIG_X=value` or `# CONFIG_X is not set`, which is `n`.
fn request(line: &str) -> Option<(&str, &str)> {
    if let Some(rest) = line.strip_prefix("# CONFIG_") {
        return Some((rest.strip_suffix(" is not set")?, "n"));
    }
    let (symbol, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (symbol.chars().all(plain) && !value.is_empty()).then_some((symbol, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_are_not_met_are_named() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for config in Config::value_variants() {
            let requests = config.requests(repository).unwrap();
            verify(&requests, &requests).unwrap();
        }
        let requests = "# Text.\n\nCONFIG_A=n\nCONFIG_A=y\nCONFIG_B=\"x y\"\n# CONFIG_C is not set\nCONFIG_D=8\n";
        verify(requests, "CONFIG_A=y\nCONFIG_B=\"x y\"\nCONFIG_D=8\n").unwrap();
        let error = verify(requests, "CONFIG_A=y\nCONFIG_C=y\nCONFIG_D=9\n");
        let error = error.unwrap_err().to_string();
        let lost = "take: CONFIG_B=\"x y\" became n, CONFIG_C=n became y, CONFIG_D=8 became 9\n";
        assert!(error.contains(lost), "{error}");
        for bad in [
            "A=y",
            "CONFIG_A",
            "CONFIG_A y",
            "# CONFIG_A not set",
            "CONFIG_A=",
        ] {
            let error = verify(bad, "CONFIG_A=y\n").unwrap_err().to_string();
            assert!(error.contains(&format!("take: `{bad}`")), "{error}");
        }
    }
}
