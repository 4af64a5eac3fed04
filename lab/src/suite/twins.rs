// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The twin of every promise: a kernel that leaves one part out (`hitless.break=NAME`) shows exactly the loss that the
//! part prevents. What is expected was seen with a kernel that had never had the part.

use anyhow::Result;

use crate::run::scene::{Outcome, Scene, SETTLE};
use crate::run::trace::Harm;
use crate::suite::updates::{bad, done, plan};
use crate::suite::{Bench, End, Test};

/// A part that is left out.
struct Twin {
    /// `hitless.break=`.
    name: &'static str,
    /// The machine that shows it.
    profile: &'static str,
    /// What shows.
    about: &'static str,
    /// Whether it shows.
    shows: fn(&Outcome) -> bool,
}

const TWINS: [Twin; 11] = [
    Twin {
        name: "bus_master",
        profile: "legacy",
        about: "bus mastering is switched off and reception stalls",
        shows: |outcome| harmed(outcome, Harm::BusMasterOff) && stalled(outcome),
    },
    Twin {
        name: "bridge_bus_master",
        profile: "legacy",
        about: "bus mastering of the root port is switched off",
        // QEMU's ports do not look at it, so only the configuration write shows.
        shows: |outcome| harmed(outcome, Harm::PortBusMasterOff),
    },
    Twin {
        name: "translation",
        profile: "legacy",
        about: "translation is switched off under the running device",
        shows: |outcome| harmed(outcome, Harm::TranslationOff) && lost(outcome),
    },
    Twin {
        name: "adopt",
        profile: "legacy",
        about: "the new kernel's own tables know nothing of the device",
        shows: |outcome| lost(outcome),
    },
    Twin {
        name: "default_domain",
        profile: "scalable-second-stage",
        about: "the default domain takes the place of the restored one",
        shows: |outcome| !outcome.verdict.is_good(),
    },
    Twin {
        name: "pasid_table",
        profile: "scalable-second-stage",
        about: "the driver's PASID directory is not the one that the hardware uses",
        shows: |outcome| !outcome.verdict.is_good(),
    },
    Twin {
        name: "swap",
        profile: "scalable-second-stage",
        about: "DMA faults when tables are replaced",
        shows: |outcome| outcome.verdict.report.dmar_faults > 0 || lost(outcome),
    },
    Twin {
        name: "reset",
        profile: "legacy",
        about: "the device is reset when it is opened",
        shows: |outcome| harmed(outcome, Harm::FunctionReset) && lost(outcome),
    },
    Twin {
        name: "power_state",
        profile: "legacy",
        about: "the device is put to sleep when its driver is bound",
        shows: |outcome| harmed(outcome, Harm::PowerState),
    },
    Twin {
        name: "pin",
        profile: "legacy",
        about: "compaction moves pages away under the device",
        shows: |outcome| {
            let moved = |trouble: &String| trouble.contains("moved under the device");
            outcome.evidence.troubles.iter().any(moved) || outcome.verdict.report.corrupt > 0
        },
    },
    Twin {
        name: "tables",
        profile: "legacy",
        about: "page tables are overwritten once memory is filled",
        shows: |outcome| outcome.verdict.report.dmar_faults > 0 || lost(outcome),
    },
];

fn harmed(outcome: &Outcome, harm: Harm) -> bool {
    outcome.evidence.harms.iter().any(|(_, done)| *done == harm)
}

fn lost(outcome: &Outcome) -> bool {
    let report = &outcome.verdict.report;
    report.lost + report.corrupt > 0
}

fn stalled(outcome: &Outcome) -> bool {
    outcome.verdict.report.longest_gap_ms > 500.0
}

pub(crate) fn tests() -> Vec<Test> {
    TWINS
        .iter()
        .map(|twin| {
            Test::new(
                format!("twin::{}", twin.name),
                twin.profile,
                format!("left out: {}", twin.about),
                move |bench| run(bench, twin),
            )
        })
        .collect()
}

fn run(bench: &Bench, twin: &Twin) -> Result<End> {
    let words = format!("hitless.break={}", twin.name);
    let mut scene = Scene::boot(plan(twin.name, twin.profile, &words)?, &bench.parts)?;
    let left_out = format!("left out on purpose: {}", twin.name);
    let ended = play(&mut scene);
    let known = scene.machine.console.says(&left_out);
    let mut outcome = scene.end(ended)?;
    if !known {
        return bad(&outcome, &format!("the kernel does not say `{left_out}`"));
    }
    if outcome.evidence.jumps.is_empty() {
        let seen = outcome.verdict.faults.join("; ");
        return bad(&outcome, &format!("the jump was not reached: {seen}"));
    }
    if !(twin.shows)(&outcome) {
        let seen = outcome.verdict.faults.join("; ");
        let seen = if seen.is_empty() {
            "nothing wrong"
        } else {
            &seen
        };
        return bad(&outcome, &format!("expected: {}; seen: {seen}", twin.about));
    }
    done(&mut outcome, bench);
    Ok(End::Passed)
}

/// One update, as far as it gets.
fn play(scene: &mut Scene) -> Result<()> {
    scene.receive_both()?;
    scene.flow(SETTLE);
    scene.update()?;
    // What the update has freed is overwritten: a device that still uses it shows now.
    scene.fill_memory()?;
    scene.flow(SETTLE);
    Ok(())
}
