// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel tree's own selftests of iommufd and VFIO, unmodified, on the kernel that watches itself: what passes without
//! hitless passes with it. `docs/selftests.md` says what is run, and how to run all of it.
//!
//! The files in `tests/expected` say what an unmodified kernel does: how many cases there are, and each that does not pass.

use std::collections::BTreeMap;

use anyhow::{bail, ensure, Context, Result};
use hitless_lab::build::initramfs::with_harness;
use hitless_lab::build::kernel::config::Config;
use hitless_lab::machine::pace::TooSlow;
use hitless_lab::machine::parts::Parts;
use hitless_lab::machine::profile::Profile;
use hitless_lab::machine::running::{command_line, Machine};
use hitless_proto::{Answer, Command};

use crate::debug::{end, quiet, WORDS};
use crate::test::{Bench, End, Test};

/// How long one program may need on the reference host.
const SECONDS: u64 = 600;
/// What the tree's harness says of a case that took longer than it allows, which is the host's time.
const TIMEOUT: &str = "Test terminated by timeout";
/// The card that the tests of VFIO are given.
const CARD: &str = "0000:01:00.0";

/// Programs that are run one after the other on one machine.
struct Selftest {
    /// The last part of the test's name.
    name: &'static str,
    /// More words for the kernel.
    words: &'static str,
    programs: &'static [Program],
}

/// A program, what it is told, and what comes of it on an unmodified kernel.
struct Program {
    name: &'static str,
    arguments: &'static [&'static str],
    expected: &'static str,
}

const SELFTESTS: [Selftest; 3] = [
    Selftest {
        name: "iommufd",
        // 128 MiB, and some that are in use at the same time.
        words: "hugepages=72",
        programs: &[Program {
            name: "iommufd",
            arguments: &[],
            expected: include_str!("../expected/iommufd"),
        }],
    },
    Selftest {
        name: "iommufd_fail_nth",
        words: "",
        programs: &[Program {
            name: "iommufd_fail_nth",
            // It takes longer than the 30 seconds that a case has.
            arguments: &["-T", "map_two_domains"],
            expected: include_str!("../expected/iommufd_fail_nth"),
        }],
    },
    Selftest {
        name: "vfio",
        words: "hugepages=8 vfio_pci.enable_sriov=1",
        programs: &[
            Program {
                name: "vfio_iommufd_setup_test",
                arguments: &[CARD],
                expected: include_str!("../expected/vfio_iommufd_setup_test"),
            },
            Program {
                name: "vfio_pci_device_test",
                arguments: &[CARD],
                expected: include_str!("../expected/vfio_pci_device_test"),
            },
            Program {
                name: "vfio_dma_mapping_mmio_test",
                arguments: &[CARD],
                expected: include_str!("../expected/vfio_dma_mapping_mmio_test"),
            },
            Program {
                name: "vfio_dma_mapping_test",
                arguments: &[CARD],
                expected: include_str!("../expected/vfio_dma_mapping_test"),
            },
            Program {
                name: "vfio_pci_device_init_perf_test",
                arguments: &[CARD],
                expected: include_str!("../expected/vfio_pci_device_init_perf_test"),
            },
            Program {
                name: "vfio_pci_sriov_uapi_test",
                arguments: &[
                    "-v",
                    "iommufd_same_uuid",
                    "-v",
                    "iommufd_diff_uuid",
                    "-v",
                    "iommufd_null_uuid",
                    CARD,
                ],
                expected: include_str!("../expected/vfio_pci_sriov_uapi_test"),
            },
        ],
    },
];

pub(crate) fn tests() -> Vec<Test> {
    SELFTESTS
        .iter()
        .map(|selftest| {
            Test::with_kernel(
                Config::Debug,
                format!("selftest::{}", selftest.name),
                "legacy",
                "the kernel tree's own test passes wherever it does on an unmodified kernel",
                move |bench| run(bench, selftest),
            )
        })
        .collect()
}

fn run(bench: &Bench, selftest: &Selftest) -> Result<End> {
    let parts = Parts {
        initramfs: with_harness(Config::Debug)?,
        ..bench.parts.clone()
    };
    let profile = Profile::load("legacy")?;
    let line = command_line(&profile, &format!("{WORDS} {}", selftest.words));
    let mut machine = Machine::start(selftest.name, &profile, &parts, &line)?;
    machine.wait_hello()?;
    let ended = passes(&mut machine, selftest);
    end(machine, bench, ended)
}

fn passes(machine: &mut Machine, selftest: &Selftest) -> Result<()> {
    machine.guest.order(Command::BindDriver {
        bdf: CARD.to_owned(),
    })?;
    for program in selftest.programs {
        let name = program.name;
        let answer = machine.guest.order(Command::Run {
            program: format!("/selftests/{name}"),
            arguments: program.arguments.iter().map(|&word| word.into()).collect(),
            seconds: SECONDS,
        })?;
        let Answer::Text { text } = answer else {
            bail!("the guest answers {answer:?} to Run");
        };
        machine.directory.write(name, &text);
        compare(&text, program.expected).with_context(|| format!("of {name}"))?;
        quiet(machine)?;
    }
    Ok(())
}

/// Every case that is expected to pass has passed.
fn compare(said: &str, expected: &str) -> Result<()> {
    let results = results(said)?;
    let (count, excused) = excused(expected)?;
    ensure!(
        results.len() == count,
        "{} cases were run, and {count} are expected",
        results.len()
    );
    for name in excused.keys() {
        ensure!(
            results.contains_key(name),
            "no case is called {name}, which is expected not to pass"
        );
    }
    let failed = results.iter().filter(|(_, passed)| !**passed);
    let failed: Vec<&str> = failed
        .map(|(name, _)| *name)
        .filter(|name| !excused.contains_key(name))
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    let why = format!(
        "{} of {count} cases do not pass, and do so on an unmodified kernel: {}",
        failed.len(),
        failed.join(", ")
    );
    if said.contains(TIMEOUT) {
        return Err(TooSlow::new(why).into());
    }
    bail!(why)
}

/// The cases in what a program says in TAP, and whether each has passed. One that was skipped has not.
fn results(said: &str) -> Result<BTreeMap<&str, bool>> {
    let mut results = BTreeMap::new();
    let mut planned = None;
    for line in said.lines() {
        if let Some(plan) = line.strip_prefix("1..") {
            planned = Some(plan.trim().parse::<usize>().context("the plan")?);
        }
        let passed = line.strip_prefix("ok ");
        let Some(result) = passed.or_else(|| line.strip_prefix("not ok ")) else {
            continue;
        };
        let (_, what) = result.split_once(' ').context("a result without a name")?;
        let (name, remark) = what.split_once(" # ").unwrap_or((what, ""));
        let good = passed.is_some() && !remark.starts_with("SKIP");
        ensure!(
            results.insert(name.trim(), good).is_none(),
            "{name} has two results"
        );
    }
    ensure!(
        planned == Some(results.len()),
        "{} cases have a result, and {planned:?} were planned; it ends:\n{}",
        results.len(),
        said.get(said.len().saturating_sub(2000)..)
            .unwrap_or_default()
    );
    Ok(results)
}

/// How many cases there are, and those that are expected not to pass, each with the reason.
fn excused(expected: &str) -> Result<(usize, BTreeMap<&str, &str>)> {
    let mut lines = expected.lines().filter(|line| !line.starts_with('#'));
    let first = lines.next().and_then(|line| line.strip_prefix("cases "));
    let count = first.context("no count of cases")?.parse()?;
    let excused = lines
        .map(|line| line.split_once(": ").context("a case without a reason"))
        .collect::<Result<_>>()?;
    Ok((count, excused))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str =
        "TAP version 13\n1..3\n# x\nok 1 a.one\nok 2 a.two # SKIP no room\nnot ok 3 a.three\n";

    #[test]
    fn what_passes_without_hitless_has_to_pass() {
        let all = "# How.\ncases 3\na.two: no room\na.three: too slow\n";
        assert!(compare(SAID, all).is_ok());
        let better = SAID.replace("not ok 3", "ok 3");
        assert!(compare(&better, all).is_ok());
        for (said, expected, words) in [
            (
                SAID,
                "cases 3\na.two: no room\n",
                "do so on an unmodified kernel: a.three",
            ),
            (SAID, "cases 3\na.three: too slow\n", "a.two"),
            (SAID, &all.replace('3', "4"), "4 are expected"),
            (SAID, &all.replace("a.two", "a.tow"), "called a.tow"),
            (SAID, "a.two: no room\n", "no count"),
            (&SAID.replace("1..3", "1..4"), all, "were planned"),
            (&SAID.replace("a.three", "a.one"), all, "two results"),
            ("", all, "were planned"),
        ] {
            let error = compare(said, expected).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
        let late = SAID.replace("# x", "# three: Test terminated by timeout");
        let error = compare(&late, "cases 3\na.two: no room\n").expect_err("it is late");
        assert!(error.is::<TooSlow>());
    }

    #[test]
    fn what_is_expected_can_be_read() {
        for program in SELFTESTS.iter().flat_map(|selftest| selftest.programs) {
            let (count, excused) = excused(program.expected).expect(program.name);
            assert!(count > excused.len(), "{} shows nothing", program.name);
        }
    }
}
