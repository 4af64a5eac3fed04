// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo lab test`: the host's tests, then the machine's, one machine at a time.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::artifacts::Config;
use crate::run::parts::Parts;
use crate::run::profile::Profile;
use crate::run::qemu;

mod debug;
mod host;
mod isolation;
mod lifecycle;
mod selftests;
mod trouble;
mod twins;
mod updates;

/// Arguments of `cargo lab test`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Run only tests whose name contains one of these.
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// Name the tests and what they show, and run none.
    #[arg(long)]
    list: bool,
    /// Keep the logs of machines that did what they should.
    #[arg(long)]
    keep: bool,
    /// Leave the machine tests out.
    #[arg(long, conflicts_with = "vm_only")]
    host_only: bool,
    /// Leave the host tests out.
    #[arg(long)]
    vm_only: bool,
}

/// How a test ended.
#[derive(Debug)]
pub(crate) enum End {
    /// It showed what it should.
    Passed,
    /// It can not be run here, for this reason.
    Skipped(String),
}

/// What tests get.
#[derive(Debug)]
pub(crate) struct Bench {
    /// The test's kernel and its root file system.
    pub(crate) parts: Parts,
    /// Keep all logs.
    pub(crate) keep: bool,
}

type OnBench = Box<dyn Fn(&Bench) -> Result<End>>;

/// What a test does; it fails by an error.
enum Run {
    /// On a machine of this profile, with this kernel.
    Machine(&'static str, Config, OnBench),
    /// With neither machine nor kernel.
    Alone(Box<dyn Fn() -> Result<End>>),
}

/// A test that needs more than the host's tests do.
pub(crate) struct Test {
    /// `group::what`.
    name: String,
    /// What it shows, in one line.
    about: String,
    run: Run,
}

impl Test {
    /// A test on a machine.
    pub(crate) fn new(
        name: impl Into<String>,
        profile: &'static str,
        about: impl Into<String>,
        run: impl Fn(&Bench) -> Result<End> + 'static,
    ) -> Self {
        Self::with_kernel(Config::Hitless, name, profile, about, run)
    }

    /// A test on a machine with a kernel of its own.
    pub(crate) fn with_kernel(
        config: Config,
        name: impl Into<String>,
        profile: &'static str,
        about: impl Into<String>,
        run: impl Fn(&Bench) -> Result<End> + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            about: about.into(),
            run: Run::Machine(profile, config, Box::new(run)),
        }
    }

    /// A test that needs no machine.
    pub(crate) fn alone(
        name: impl Into<String>,
        about: impl Into<String>,
        run: impl Fn() -> Result<End> + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            about: about.into(),
            run: Run::Alone(Box::new(run)),
        }
    }

    fn kernel(&self) -> Option<Config> {
        match self.run {
            Run::Machine(_, config, _) => Some(config),
            Run::Alone(_) => None,
        }
    }
}

/// All tests but the host's, in the order in which they are run.
fn tests() -> Vec<Test> {
    let mut tests = selftests::tests();
    tests.extend(updates::tests());
    tests.extend(lifecycle::tests());
    tests.extend(isolation::tests());
    tests.extend(twins::tests());
    tests.extend(debug::tests());
    tests.extend(trouble::tests());
    tests
}

fn wanted(name: &str, filters: &[String]) -> bool {
    filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
}

/// How many tests ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Passed.
    pub(crate) passed: u64,
    /// Failed.
    pub(crate) failed: u64,
    /// Skipped.
    pub(crate) skipped: u64,
}

impl Count {
    /// The last line.
    fn line(self) -> String {
        format!(
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// Runs the tests; the last line is the count of all of them.
///
/// # Errors
///
/// Set-up failed, or the host's tests could not be started.
pub fn main(args: Args) -> Result<ExitCode> {
    let chosen: Vec<Test> = tests()
        .into_iter()
        .filter(|test| wanted(&test.name, &args.filters))
        .collect();
    if args.list {
        if !args.vm_only {
            for name in host::list(&args.filters)? {
                println!("{name}");
            }
        }
        if !args.host_only {
            for test in &chosen {
                println!("{:44} {}", test.name, test.about);
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut count = Count::default();
    if !args.vm_only {
        count = host::run(&args.filters)?;
    }
    if !args.host_only {
        let mut benches = Benches {
            ready: HashMap::new(),
            keep: args.keep,
        };
        for test in &chosen {
            if let Some(config) = test.kernel() {
                benches.prepare(config)?;
            }
            run(test, &benches, &mut count);
        }
    }
    println!("{}", count.line());
    Ok(if count.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What was made for each kernel so far.
struct Benches {
    ready: HashMap<Config, Bench>,
    keep: bool,
}

impl Benches {
    /// Builds or finds a kernel and what belongs to it when the first test wants it, outside of that test's time.
    fn prepare(&mut self, config: Config) -> Result<()> {
        if !self.ready.contains_key(&config) {
            let parts = Parts::ready(config)?;
            let keep = self.keep;
            self.ready.insert(config, Bench { parts, keep });
        }
        Ok(())
    }
}

/// Runs a test, or finds out that this QEMU does not have what its machine needs.
fn end(test: &Test, benches: &Benches) -> Result<End> {
    let (profile, config, run) = match &test.run {
        Run::Alone(run) => return run(),
        Run::Machine(profile, config, run) => (Profile::load(profile)?, config, run),
    };
    let bench = benches
        .ready
        .get(config)
        .context("the test needs a machine, and nothing was made for one")?;
    match qemu::missing_property(&profile, &bench.parts.qemu)? {
        Some(property) => Ok(End::Skipped(format!(
            "this QEMU's intel-iommu has no property `{property}`, which the profile {} needs",
            profile.name
        ))),
        None => run(bench),
    }
}

fn run(test: &Test, benches: &Benches, count: &mut Count) {
    let start = Instant::now();
    let end = end(test, benches);
    let seconds = start.elapsed().as_secs_f64();
    match end {
        Ok(End::Passed) => {
            count.passed += 1;
            println!("PASS [{seconds:6.1} s] {}", test.name);
        }
        Ok(End::Skipped(why)) => {
            count.skipped += 1;
            println!("SKIP [{seconds:6.1} s] {}: {why}", test.name);
        }
        Err(error) => {
            count.failed += 1;
            println!("FAIL [{seconds:6.1} s] {}: {error:#}", test.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_different_and_say_their_group() {
        let names: Vec<_> = tests().into_iter().map(|test| test.name).collect();
        let different: HashSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len());
        assert!(names.iter().all(|name| name.contains("::")));
    }

    #[test]
    fn filters_choose_by_part_of_the_name() {
        assert!(wanted("update::legacy", &[]));
        assert!(wanted(
            "update::legacy",
            &["x".to_owned(), "leg".to_owned()]
        ));
        assert!(!wanted("update::legacy", &["twin".to_owned()]));
    }

    #[test]
    fn the_last_line_is_that_of_the_contract() {
        let count = Count {
            passed: 12,
            failed: 0,
            skipped: 3,
        };
        assert_eq!(count.line(), "12 passed, 0 failed, 3 skipped");
    }
}
