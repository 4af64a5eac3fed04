// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What KUnit prints at boot: suites at the margin, their cases indented once, in the form called KTAP.

use anyhow::{bail, ensure, Result};

/// The indentation of a suite's cases.
const CASE: &str = "    ";
/// What a result that is neither success nor failure ends in.
const SKIP: &str = "# SKIP";

/// A suite.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Suite {
    /// Its name.
    pub(super) name: String,
    /// Cases it announced.
    planned: Option<usize>,
    /// Cases that passed.
    pub(super) passed: usize,
    /// Cases that were skipped.
    skipped: usize,
    /// Names of cases that failed.
    failed: Vec<String>,
    /// Its own result.
    good: Option<bool>,
}

/// Everything KUnit said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ktap {
    /// Suites announced.
    planned: Option<usize>,
    /// Suites begun.
    pub(super) suites: Vec<Suite>,
}

/// A result line: whether it is good, whether it is a skip, and of what it is the result.
fn result(line: &str) -> Option<(bool, bool, &str)> {
    let (good, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok ")?),
    };
    let (number, name) = rest.split_once(' ')?;
    number.parse::<usize>().ok()?;
    let name = name.trim_start_matches("- ");
    match name.split_once(SKIP) {
        Some((name, _)) => Some((good, true, name.trim())),
        None => Some((good, false, name.trim())),
    }
}

fn plan(line: &str) -> Option<usize> {
    line.strip_prefix("1..")?.trim().parse().ok()
}

impl Ktap {
    /// Picks KUnit's lines out of a console. What is indented deeper belongs to a case, which has a result of its own.
    pub(super) fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut ktap = Self::default();
        let mut begun = false;
        for line in lines {
            begun |= line.starts_with("KTAP version ");
            if begun {
                ktap.take(line);
            }
        }
        ktap
    }

    fn take(&mut self, line: &str) {
        let Some(case) = line.strip_prefix(CASE) else {
            if let Some(count) = plan(line) {
                self.planned = Some(count);
            } else if let Some((good, _, name)) = result(line) {
                match self.suites.iter_mut().find(|suite| suite.name == name) {
                    Some(suite) => suite.good = Some(good),
                    // A suite that fails before its first line.
                    None => self.suites.push(Suite {
                        name: name.to_owned(),
                        good: Some(good),
                        ..Suite::default()
                    }),
                }
            }
            return;
        };
        if let Some(name) = case.strip_prefix("# Subtest: ") {
            self.suites.push(Suite {
                name: name.trim().to_owned(),
                ..Suite::default()
            });
            return;
        }
        let Some(suite) = self.suites.last_mut() else {
            return;
        };
        if let Some(count) = plan(case) {
            suite.planned = Some(count);
        } else if let Some((good, skipped, name)) = result(case) {
            match (good, skipped) {
                (false, _) => suite.failed.push(name.to_owned()),
                (true, true) => suite.skipped += 1,
                (true, false) => suite.passed += 1,
            }
        }
    }

    /// Every suite that was announced has its result.
    pub(super) fn is_complete(&self) -> bool {
        self.planned == Some(self.suites.len())
            && self.suites.iter().all(|suite| suite.good.is_some())
    }

    /// Whatever was announced has passed, and these suites are among it with no case skipped.
    pub(super) fn check(&self, wanted: &[&str]) -> Result<()> {
        ensure!(
            self.is_complete(),
            "KUnit has announced {:?} suites, and there are results of {}",
            self.planned,
            self.suites
                .iter()
                .filter(|suite| suite.good.is_some())
                .count()
        );
        for suite in &self.suites {
            let Suite { name, failed, .. } = suite;
            ensure!(
                failed.is_empty(),
                "KUnit: {name} fails in {}",
                failed.join(", ")
            );
            ensure!(suite.good == Some(true), "KUnit: {name} fails");
            let seen = suite.passed + suite.skipped;
            ensure!(
                suite.planned == Some(seen),
                "KUnit: {name} has announced {:?} cases, and there are results of {seen}",
                suite.planned
            );
        }
        for name in wanted {
            match self.suites.iter().find(|suite| suite.name == *name) {
                None => bail!("KUnit: {name} was not run"),
                Some(suite) => ensure!(
                    suite.passed > 0 && suite.skipped == 0,
                    "KUnit: of {name} {} cases passed and {} were skipped",
                    suite.passed,
                    suite.skipped
                ),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a console shows it, with the kernel's other lines between.
    const GOOD: &str = "\
Freeing unused kernel image (initmem) memory: 1024K
ok 1 not_kunits_line
KTAP version 1
1..2
    KTAP version 1
    # Subtest: hitless_golden
    # module: hitless
    1..2
    ok 1 devices
clocksource: Switched to clocksource hpet
    ok 2 units_and_domains
# hitless_golden: pass:2 fail:0 skip:0 total:2
# Totals: pass:2 fail:0 skip:0 total:2
ok 1 hitless_golden
    KTAP version 1
    # Subtest: other
    1..2
        KTAP version 1
        # Subtest: many
        not ok 1 of many
    ok 1 many
    ok 2 small # SKIP not here
ok 2 other
";

    fn checked(text: &str) -> Result<(), String> {
        Ktap::parse(text.lines())
            .check(&["hitless_golden"])
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_good_boot_passes_and_is_counted() {
        assert_eq!(checked(GOOD), Ok(()));
        let ktap = Ktap::parse(GOOD.lines());
        let counts: Vec<_> = ktap
            .suites
            .iter()
            .map(|suite| (suite.name.as_str(), suite.passed, suite.skipped))
            .collect();
        assert_eq!(counts, [("hitless_golden", 2, 0), ("other", 1, 1)]);
    }

    /// Each change is noticed, in these words.
    #[test]
    fn every_failure_is_noticed() {
        for (from, to, words) in [
            ("    ok 2 units", "    not ok 2 units", "fails in units"),
            ("ok 1 hitless", "not ok 1 hitless", "hitless_golden fails"),
            ("    ok 2 small", "    not ok 2 small", "fails in small"),
            ("    ok 1 devices\n", "", "results of 1"),
            ("ok 2 other\n", "", "Some(2) suites"),
            ("1..2\n    KTAP", "1..3\n    KTAP", "Some(3) suites"),
            ("hitless_golden\n", "golden\n", "was not run"),
            ("1 devices", "1 devices # SKIP", "1 were skipped"),
            ("KTAP version", "TAP version", "None suites"),
        ] {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD, "{from}");
            let error = checked(&text).expect_err(to);
            assert!(error.contains(words), "{to}: {error}");
        }
        assert!(checked("").is_err());
    }
}
