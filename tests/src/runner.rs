// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo lab test`: the host's tests, then the machine's, one machine at a time.

use std::cell::Cell;
use std::collections::HashMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{bail, Result};
use hitless_lab::build::kernel::config::Config;
use hitless_lab::machine::pace::{TooSlow, LOWEST};
use hitless_lab::machine::parts::Parts;
use hitless_lab::machine::profile::Profile;
use hitless_lab::test::Args;
use hitless_lab::trouble::trouble;

use crate::host::{self, Count};
use crate::test::{Bench, End, Run, Test};
use crate::{
    agent, checks, crowd, debug, faults, frozen, harness, image, isolation, library, lifecycle,
    owner, repetition, selftests, stopped, twins, uapi, updates,
};

/// Where the host was too slow, a test is run again with no more frames per second than this, the last time with the fewest
/// that show anything.
const SLOWER: [u32; 2] = [400, LOWEST];

/// All tests but the host's, in the order in which they are run.
fn tests() -> Vec<Test> {
    let mut tests = checks::tests();
    tests.extend(agent::tests());
    tests.extend(selftests::tests());
    tests.extend(updates::tests());
    tests.extend(lifecycle::tests());
    tests.extend(repetition::tests());
    tests.extend(owner::tests());
    tests.extend(uapi::tests());
    tests.extend(crowd::tests());
    tests.extend(faults::tests());
    tests.extend(frozen::tests());
    tests.extend(library::tests());
    tests.extend(image::tests());
    tests.extend(isolation::tests());
    tests.extend(stopped::tests());
    tests.extend(twins::tests());
    tests.extend(debug::tests());
    tests.extend(harness::tests());
    tests.extend(crate::trouble::setup::tests());
    tests.extend(crate::trouble::machines::tests());
    tests
}

fn wanted(name: &str, filters: &[String]) -> bool {
    filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
}

/// Runs the tests; the last line is the count of all of them.
pub(crate) fn main(args: Args) -> Result<ExitCode> {
    let chosen: Vec<Test> = match args.host_only {
        true => Vec::new(),
        false => tests()
            .into_iter()
            .filter(|test| wanted(&test.name, &args.filters))
            .collect(),
    };
    if args.list {
        return list(&args, &chosen);
    }
    if args.vm_only && chosen.is_empty() {
        return nothing(&args.filters);
    }
    let mut count = Count::default();
    if !args.vm_only {
        count = host::run(&args.filters).unwrap_or_else(|error| {
            println!("FAIL host tests: {error:#}");
            Count {
                failed: 1,
                ..Count::default()
            }
        });
    }
    run_all(&chosen, Benches::new(args.keep, Parts::ready), &mut count);
    if count == Count::default() {
        return nothing(&args.filters);
    }
    println!("{}", count.line());
    Ok(if count.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Names the tests that were chosen.
fn list(args: &Args, chosen: &[Test]) -> Result<ExitCode> {
    let mut names = Vec::new();
    if !args.vm_only {
        names = host::list(&args.filters)?;
    }
    if names.is_empty() && chosen.is_empty() {
        return nothing(&args.filters);
    }
    for name in names {
        println!("{name}");
    }
    for test in chosen {
        println!("{:44} {}", test.name, test.about);
    }
    Ok(ExitCode::SUCCESS)
}

/// No test at all is no success: it is a filter with a typing error.
fn nothing(filters: &[String]) -> Result<ExitCode> {
    trouble(
        format!("no test has a name with `{}` in it", filters.join("` or `")),
        "`cargo lab test --list` names them all",
    )
}

/// What was made for each kernel so far, or why it could not be made.
struct Benches {
    ready: HashMap<Config, Result<Bench, String>>,
    make: fn(Config) -> Result<Parts>,
    keep: bool,
}

impl Benches {
    fn new(keep: bool, make: fn(Config) -> Result<Parts>) -> Self {
        Self {
            ready: HashMap::new(),
            make,
            keep,
        }
    }

    /// Builds or finds a kernel and what belongs to it when the first test wants it, outside of that test's time. What
    /// could not be made is not tried again: each test that wants it fails.
    fn prepare(&mut self, config: Config) {
        if !self.ready.contains_key(&config) {
            let keep = self.keep;
            let bench = match (self.make)(config) {
                Ok(parts) => Ok(Bench {
                    parts,
                    keep,
                    most: Cell::new(u32::MAX),
                }),
                Err(error) => {
                    println!("the tests' kernel ({config}), or what belongs to it, can not be made: {error:#}");
                    Err(format!("there is no kernel ({config}) to test, see above"))
                }
            };
            self.ready.insert(config, bench);
        }
    }

    fn get(&self, config: Config) -> Result<&Bench> {
        match self.ready.get(&config) {
            Some(Ok(bench)) => Ok(bench),
            Some(Err(why)) => bail!("{why}"),
            None => bail!("the test needs a machine, and nothing was made for one"),
        }
    }
}

/// Runs the tests one after the other, whatever becomes of each.
fn run_all(tests: &[Test], mut benches: Benches, count: &mut Count) {
    for test in tests {
        if let Some(config) = test.kernel() {
            benches.prepare(config);
        }
        run(test, &benches, count);
    }
}

fn end(test: &Test, benches: &Benches) -> Result<End> {
    match &test.run {
        Run::Alone(run) => run(),
        Run::Machine(profile, config, run) => {
            let bench = benches.get(*config)?;
            bench.parts.qemu.check(&Profile::load(profile)?)?;
            at_any_rate(&test.name, &bench.most, || run(bench))
        }
    }
}

/// Runs a test, and again at a lower rate as long as the host is too slow for it.
fn at_any_rate(name: &str, rate: &Cell<u32>, run: impl Fn() -> Result<End>) -> Result<End> {
    rate.set(u32::MAX);
    let mut end = run();
    for most in SLOWER {
        match &end {
            Err(error) if error.is::<TooSlow>() => {
                println!("SLOW {name}: once more with at most {most} frames/s, for {error}");
                rate.set(most);
                end = run();
            }
            _ => break,
        }
    }
    end.map_err(|error| match error.is::<TooSlow>() {
        true => error.context("this host is too slow for the test even at the lowest rate"),
        false => error,
    })
}

/// A panic is a failure of the test that panics, and of no other: what it has begun ends as the stack unwinds.
fn end_of_any_kind(test: &Test, benches: &Benches) -> Result<End> {
    catch_unwind(AssertUnwindSafe(|| end(test, benches))).unwrap_or_else(|panic| {
        let words = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        bail!(
            "the test panicked: {}",
            words.unwrap_or("it did not say why")
        )
    })
}

fn run(test: &Test, benches: &Benches, count: &mut Count) {
    let start = Instant::now();
    let end = end_of_any_kind(test, benches);
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
    use std::sync::atomic::{AtomicU32, Ordering};

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
    fn whatever_becomes_of_a_test_the_next_one_is_run() {
        let passes = |name: &str| Test::alone(name, "", || Ok(End::Passed));
        let machine = |name: &str| Test::new(name, "legacy", "", |_| Ok(End::Passed));
        let tests = [
            passes("x::first"),
            Test::alone("x::panics", "", || panic!("on purpose")),
            machine("x::without_a_kernel"),
            machine("x::without_a_kernel_too"),
            Test::alone("x::fails", "", || bail!("on purpose")),
            Test::alone("x::skipped", "", || Ok(End::Skipped("x".to_owned()))),
            passes("x::last"),
        ];
        let benches = Benches::new(false, |_| bail!("no compiler"));
        let mut count = Count::default();
        run_all(&tests, benches, &mut count);
        assert_eq!(count.line(), "2 passed, 4 failed, 1 skipped");
    }

    #[test]
    fn a_kernel_that_can_not_be_made_is_tried_once() {
        static TRIES: AtomicU32 = AtomicU32::new(0);
        let mut benches = Benches::new(false, |_| {
            TRIES.fetch_add(1, Ordering::Relaxed);
            bail!("no compiler")
        });
        for _ in 0..2 {
            benches.prepare(Config::Debug);
            let error = benches.get(Config::Debug).unwrap_err().to_string();
            assert!(error.contains("debug"), "{error}");
        }
        assert_eq!(TRIES.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_test_that_the_host_is_too_slow_for_is_tried_down_to_the_lowest_rate() {
        let rate = Cell::new(0);
        let needs = |wanted: u32| match rate.get() > wanted {
            true => Err(TooSlow::new("dry").into()),
            false => Ok(End::Passed),
        };
        assert!(at_any_rate("x", &rate, || needs(LOWEST)).is_ok());
        let error = at_any_rate("x", &rate, || needs(LOWEST - 1)).unwrap_err();
        assert!(format!("{error:#}").contains("even at the lowest rate"));
        let error = at_any_rate("x", &rate, || bail!("at {}", rate.get()));
        let once = format!("at {}", u32::MAX);
        assert_eq!(
            error.unwrap_err().to_string(),
            once,
            "a loss is not tried again"
        );
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
