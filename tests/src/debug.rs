// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A kernel that watches itself: lock order, sleeping where one must not, writes to free memory, leaks. It runs the
//! KUnit tests at boot, and a whole update in each table format without a word of complaint.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use hitless_lab::command::output;
use hitless_lab::paths;
use hitless_proto::Command as Order;
use serde_json::Value;

use crate::outcome::{good, plan};
use crate::test::{Bench, End, Test};
use hitless_lab::build::kernel::config::Config;
use hitless_lab::machine::guest::OrderError;
use hitless_lab::machine::pace::Rate;
use hitless_lab::machine::profile::{Profile, TABLE_FORMATS};
use hitless_lab::machine::running::{command_line, Machine};
use hitless_lab::play::scene::{Plan, Scene, SETTLE};
use hitless_lab::play::update::SESSION;

/// The KUnit suites of hitless.
const SUITES: [&str; 1] = ["hitless_golden"];
/// What the debug kernel is told: free pages are filled with a pattern, and looked at when they are given out again;
/// so are free objects, and what is around those in use. The sizes are of the memory that the next kernel boots in:
/// this one uses so much itself that what it would choose by that does not always fit the machine.
pub(crate) const WORDS: &str = "page_poison=1 slab_debug=FZP kho_scratch=128M,0M,128M";
/// Frames per second that the slow kernel copes with.
const RATE: u32 = 500;
/// Swaps on top of those of the update itself.
const SWAPS: u32 = 60;
/// Younger objects are not leaks: their pointers may be on their way.
const AGE: Duration = Duration::from_millis(5_500);
/// The first scan of an object only takes its checksum, a second one reports it, a third forgives one whose pointer
/// was being moved.
const SCANS: u32 = 3;
/// How long a line may take to the console.
const CONSOLE: Duration = Duration::from_secs(5);
/// The leak detector.
const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";
/// Lockdep, which switches itself off after its first report or when it runs out of room.
const LOCKDEP: &str = "/proc/lockdep_stats";
/// What the leak detector says on the console when a scan has found something new.
const LEAKS: &str = "new suspected memory leaks";
/// Makes it scan every 6 seconds by itself.
const REGULAR_SCANS: &str = "scan=6";
/// How long it may take to find something: three scans, and one that came too early.
const LEAK_LIMIT: Duration = Duration::from_secs(90);
/// The kernel's log: who has read it all waits for more.
const KERNEL_LOG: &str = "/proc/kmsg";
/// Faults on demand.
const PROVOKE: &str = "/sys/kernel/debug/provoke-crash/DIRECT";

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test::with_kernel(
            Config::Debug,
            "debug::kunit",
            "legacy",
            "the kernel's own build of core reads the golden bytes at boot",
            kunit,
        ),
        // This and the next are the twins of the others.
        Test::with_kernel(
            Config::Debug,
            "debug::a_report_is_seen",
            "legacy",
            "each kind of fault is reported by the kernel and noticed by the lab",
            provoked,
        ),
        Test::with_kernel(
            Config::Debug,
            "debug::a_leak_is_found",
            "legacy",
            "memory that only a stack knows, with stacks left out of the scan, is noticed",
            leaked,
        ),
    ];
    tests.extend(TABLE_FORMATS.iter().map(|profile| {
        Test::with_kernel(
            Config::Debug,
            format!("debug::{profile}"),
            profile,
            "an aborted preserve, an update and swaps draw no report and leak nothing",
            move |bench| update(bench, profile),
        )
    }));
    tests
}

/// Starts a machine without traffic.
fn boot(bench: &Bench, name: &str) -> Result<Machine> {
    let profile = Profile::load("legacy")?;
    let line = command_line(&profile, WORDS);
    let mut machine = Machine::start(name, &profile, &bench.parts, &line)?;
    machine.wait_hello()?;
    Ok(machine)
}

/// Ends a machine; its logs are for whoever has to mend something.
pub(crate) fn end(machine: Machine, bench: &Bench, ended: Result<()>) -> Result<End> {
    let mut directory = machine.into_directory();
    match ended {
        Ok(()) if !bench.keep => directory.discard(),
        Ok(()) => {}
        Err(error) => {
            let logs = format!("the logs are in {}", directory.path().display());
            return Err(error.context(logs));
        }
    }
    Ok(End::Passed)
}

fn kunit(bench: &Bench) -> Result<End> {
    let machine = boot(bench, "debug-kunit")?;
    let ended = tested(&machine);
    end(machine, bench, ended)
}

fn tested(machine: &Machine) -> Result<()> {
    let said = || machine.console.lines().into_iter().map(|line| line.text);
    let has_result = |suite: &str| said().any(|line| line.contains("ok ") && line.ends_with(suite));
    let start = Instant::now();
    while !SUITES.iter().all(|suite| has_result(suite))
        && start.elapsed() < machine.pace.patience(CONSOLE)
    {
        std::thread::sleep(Duration::from_millis(20));
    }
    let log: String = said().map(|line| line + "\n").collect();
    machine.directory.write("kunit.log", &log);
    let json = parsed(&machine.directory.path().join("kunit.log"))?;
    for suite in SUITES {
        passed(&json, suite)?;
    }
    quiet(machine)
}

/// What the kernel tree's own parser makes of a log. It fails where a test failed or was cut off.
fn parsed(log: &Path) -> Result<Value> {
    let json = log.with_extension("json");
    let parser = paths::output()?.join("linux/tools/testing/kunit/kunit.py");
    output(
        Command::new("python3")
            .arg(parser)
            .arg("parse")
            .arg(format!("--json={}", json.display()))
            .arg(log),
    )?;
    let text = std::fs::read_to_string(&json).context("the results of KUnit")?;
    serde_json::from_str(&text).context("the results of KUnit")
}

/// A suite was run, and all of its cases have passed.
fn passed(json: &Value, suite: &str) -> Result<()> {
    let mut suites = json["sub_groups"].as_array().into_iter().flatten();
    let found = suites.find(|group| group["name"] == suite);
    let misc = &found.with_context(|| format!("KUnit: {suite} was not run"))?["misc"];
    let count = |what: &str| misc[what].as_u64().unwrap_or(0);
    ensure!(
        count("passed") > 0 && count("passed") == count("tests"),
        "KUnit: of {suite} not all cases passed: {misc}"
    );
    Ok(())
}

/// The kernel has not complained.
pub(crate) fn quiet(machine: &Machine) -> Result<()> {
    let console = &machine.console;
    if let Some(line) = console.hang().or(console.warnings().first().cloned()) {
        bail!("the kernel says: {line}");
    }
    Ok(())
}

fn provoked(bench: &Bench) -> Result<End> {
    for faults in FAULTS {
        let mut machine = boot(bench, "debug-report")?;
        let ended = quiet(&machine).and_then(|()| provoke(&mut machine, faults));
        end(machine, bench, ended)?;
    }
    Ok(End::Passed)
}

/// Faults that `lkdtm` makes on demand, and a line of the kernel's report of each. Each list is for a kernel of its own:
/// lockdep trusts no kernel whose memory was damaged, and nothing works any more with a spinlock held for good.
const FAULTS: [&[(&str, &[&str])]; 2] = [
    &[
        ("WARNING", &["WARNING: drivers/misc/lkdtm"]),
        ("CORRUPT_LIST_ADD", &["list_add corruption"]),
        (
            "SPINLOCKUP",
            &[
                "lock held when returning to user space",
                // "sleeping function called from invalid context" or "scheduling while atomic", whichever comes first.
                "BUG: s",
            ],
        ),
    ],
    &[
        ("WRITE_BUDDY_AFTER_FREE", &["pagealloc: memory corruption"]),
        ("WRITE_AFTER_FREE", &["BUG kmalloc-1k"]),
    ],
];

fn provoke(machine: &mut Machine, faults: &[(&str, &[&str])]) -> Result<()> {
    for (fault, reports) in faults {
        // Of the last one there may be no answer.
        let ordered = machine.guest.order(Order::WriteFile {
            path: PROVOKE.to_owned(),
            text: (*fault).to_owned(),
        });
        for words in *reports {
            ensure!(
                machine.says(words, CONSOLE),
                "{fault} does not make the kernel say `{words}`: {ordered:?}"
            );
            minds(machine, words)?;
        }
    }
    Ok(())
}

/// The lab takes a line of the console for one that is wrong.
fn minds(machine: &Machine, words: &str) -> Result<()> {
    let console = &machine.console;
    let mut noticed = console.warnings().into_iter().chain(console.hang());
    ensure!(
        noticed.any(|line| line.contains(words)),
        "the lab does not mind `{words}`"
    );
    Ok(())
}

fn leaked(bench: &Bench) -> Result<End> {
    let mut machine = boot(bench, "debug-leak")?;
    let ended = quiet(&machine).and_then(|()| leak(&mut machine));
    end(machine, bench, ended)
}

/// Whoever waits for the next line of the kernel's log has a buffer in the kernel that only the stack knows.
fn leak(machine: &mut Machine) -> Result<()> {
    for text in ["stack=off", REGULAR_SCANS] {
        machine.guest.order(Order::WriteFile {
            path: KMEMLEAK.to_owned(),
            text: text.to_owned(),
        })?;
    }
    machine.guest.wait_at_most(Duration::from_secs(2));
    let answer = machine.guest.order(Order::ReadFile {
        path: KERNEL_LOG.to_owned(),
    });
    ensure!(
        matches!(answer, Err(OrderError::Machine(_))),
        "the guest does not wait at the end of {KERNEL_LOG}: {answer:?}"
    );
    ensure!(machine.says(LEAKS, LEAK_LIMIT), "no leak is reported");
    minds(machine, LEAKS)
}

fn update(bench: &Bench, profile: &str) -> Result<End> {
    let plan = Plan {
        rate: Rate::AtMost(RATE),
        ..plan("debug", profile, WORDS)?
    };
    let mut scene = bench.boot(plan)?;
    let ended = play(&mut scene);
    good(scene.end(ended)?, bench)
}

/// The leaks of a preserve that was aborted are in the old kernel, those of the update in the new one.
fn play(scene: &mut Scene) -> Result<()> {
    scene.receive_both()?;
    scene.flow(SETTLE);
    scene.prepare()?;
    scene.preserve()?;
    scene.order(Order::SessionClose {
        session: SESSION.to_owned(),
    })?;
    scene.check("the aborted preserve")?;
    clean(scene, "the aborted preserve")?;
    scene.preserve()?;
    scene.jump()?;
    // The ring does not last while this kernel fills memory.
    scene.retrieve()?;
    scene.fill_memory()?;
    scene.compact()?;
    scene.rebuild()?;
    scene.swap()?;
    scene.swaps(SWAPS, 2_000)?;
    scene.finish()?;
    scene.check("the update")?;
    clean(scene, "the update")?;
    scene.check("the scans")
}

/// Nothing has leaked, and lockdep has watched all the time.
pub(crate) fn clean(scene: &mut Scene, after: &str) -> Result<()> {
    scene.flow(AGE);
    for _ in 0..SCANS {
        let from = scene.machine.clock.now();
        scene.order(Order::WriteFile {
            path: KMEMLEAK.to_owned(),
            text: "scan".to_owned(),
        })?;
        scene.step("leak scan", from);
    }
    let leaks = scene.read(KMEMLEAK)?;
    if !leaks.is_empty() {
        scene.machine.directory.write("kmemleak", &leaks);
        bail!("after {after} the kernel has leaked:\n{leaks}");
    }
    let lockdep = scene.read(LOCKDEP)?;
    ensure!(
        is_on(&lockdep),
        "after {after} lockdep is off: {LOCKDEP} says\n{lockdep}"
    );
    Ok(())
}

/// Whether lockdep is still at work.
fn is_on(stats: &str) -> bool {
    stats
        .lines()
        .filter_map(|line| line.trim().strip_prefix("debug_locks:"))
        .any(|value| value.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_suite_that_was_run_and_passed_whole_has_passed() {
        let json = |passed, tests| {
            serde_json::json!({"sub_groups": [
                {"name": "x", "misc": {"tests": tests, "passed": passed, "skipped": tests - passed}}
            ]})
        };
        assert!(passed(&json(2, 2), "x").is_ok());
        for bad in [json(1, 2), json(0, 0)] {
            assert!(passed(&bad, "x").is_err());
        }
        assert!(passed(&json(2, 2), "y").is_err());
    }

    #[test]
    fn lockdep_that_gave_up_is_told_from_one_at_work() {
        let stats =
            " lock-classes: 1234 [max: 8192]\n debug_locks:                             1\n";
        assert!(is_on(stats));
        assert!(!is_on(&stats.replace("1\n", "0\n")));
        assert!(!is_on(""));
    }
}
