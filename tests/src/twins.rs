// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The twin of every promise: a kernel that leaves one part out (`hitless.break=NAME`) shows exactly the loss that the
//! part prevents. What is expected was seen with a kernel that had never had the part.

use anyhow::Result;

use crate::outcome::{bad, done, plan, RATE};
use crate::test::{Bench, End, Test};
use hitless_lab::evidence::event::Harm;
use hitless_lab::machine::clock::Ns;
use hitless_lab::machine::pace::Rate;
use hitless_lab::machine::profile::TABLE_FORMATS;
use hitless_lab::play::end::Outcome;
use hitless_lab::play::scene::{Plan, Scene, SETTLE};

/// A part that is left out.
struct Twin {
    /// `hitless.break=`.
    name: &'static str,
    /// The machines that show it.
    profiles: &'static [&'static str],
    /// What shows.
    about: &'static str,
    /// Frames per second: few where each of them burns a whole ring of descriptors in faults, again and again.
    rate: u32,
    /// Whether it shows.
    shows: fn(&Outcome) -> bool,
}

impl Twin {
    /// Whether the run came so far that something can show: over the jump, or into a kernel that died of what was left
    /// out. Which of the two is chance where memory was given to somebody: who gets it, and what the kernel reads there.
    fn is_reached(&self, outcome: &Outcome) -> bool {
        let died = self.name == TABLES && failed(outcome, "waiting for Kexec: the kernel says");
        !outcome.evidence.jumps.is_empty() || died
    }
}

/// The part that keeps tables from being given to somebody.
const TABLES: &str = "tables";

/// Frames per second that even a card that faults all the time can cope with.
const SLOW: u32 = 100;

const TWINS: [Twin; 13] = [
    Twin {
        name: "bus_master",
        profiles: &["legacy"],
        rate: RATE,
        about: "bus mastering is switched off and reception stalls",
        shows: |outcome| harmed(outcome, Harm::BusMasterOff) && stalled(outcome),
    },
    Twin {
        name: "bridge_bus_master",
        profiles: &["legacy"],
        rate: RATE,
        about: "bus mastering of the root port is switched off",
        // QEMU's ports do not look at it, so only the configuration write shows.
        shows: |outcome| harmed(outcome, Harm::PortBusMasterOff),
    },
    Twin {
        name: "translation",
        profiles: &["legacy"],
        rate: RATE,
        about: "translation is switched off under the running device",
        shows: |outcome| {
            let off = harm_at(outcome, Harm::TranslationOff);
            lost(outcome) && off.is_some() && off < entry(outcome)
        },
    },
    Twin {
        name: "adopt",
        profiles: &["legacy"],
        rate: RATE,
        about: "the new kernel switches translation off, to set up tables that know nothing of the device",
        shows: |outcome| {
            let off = harm_at(outcome, Harm::TranslationOff);
            lost(outcome) && off.is_some() && off > entry(outcome)
        },
    },
    Twin {
        name: "irq_table",
        profiles: &["legacy"],
        rate: RATE,
        about: "the new kernel switches interrupt remapping off, to set up another table",
        shows: |outcome| {
            let off = harm_at(outcome, Harm::RemappingOff);
            off.is_some() && off > entry(outcome) && off < hello(outcome)
        },
    },
    Twin {
        name: "default_domain",
        profiles: &["scalable-second-stage"],
        rate: RATE,
        about: "attaching the default domain at the device's probe clears its entry",
        shows: |outcome| {
            lost(outcome)
                && faulted(outcome, PASID_ENTRY_NOT_PRESENT)
                && first_fault(outcome) > entry(outcome)
                && first_fault(outcome) < hello(outcome)
        },
    },
    Twin {
        name: "claim",
        profiles: &["legacy"],
        rate: SLOW,
        about: "claiming the device's ownership at the bind takes it off its tables",
        // Its entry is cleared for a moment and then leads to an empty table: which of the two a DMA meets is chance.
        shows: |outcome| {
            lost(outcome)
                && outcome.verdict.report.iommu_faults > 0
                && first_fault(outcome) > hello(outcome)
        },
    },
    Twin {
        name: "pasid_table",
        profiles: &["scalable-second-stage"],
        rate: RATE,
        about: "the driver's PASID directory is not the one that the hardware uses: the device can not be swapped",
        // It goes on with the old tables, and nobody can ever take it off them.
        shows: |outcome| failed(outcome, "swapping device") && failed(outcome, "busy"),
    },
    Twin {
        name: "swap",
        profiles: &TABLE_FORMATS,
        rate: RATE,
        about: "DMA faults when tables are replaced",
        shows: |outcome| {
            lost(outcome)
                && [CONTEXT_ENTRY_NOT_PRESENT, PASID_ENTRY_NOT_PRESENT]
                    .into_iter()
                    .any(|reason| faulted(outcome, reason))
                && first_fault(outcome) > hello(outcome)
        },
    },
    Twin {
        name: "reset",
        profiles: &["legacy"],
        rate: RATE,
        about: "the device is reset when it is opened",
        shows: |outcome| harmed(outcome, Harm::FunctionReset) && lost(outcome),
    },
    Twin {
        name: "power_state",
        profiles: &["legacy"],
        rate: RATE,
        about: "the device is put to sleep when its driver is bound",
        shows: |outcome| harmed(outcome, Harm::PowerState),
    },
    Twin {
        name: "pin",
        profiles: &["legacy"],
        rate: RATE,
        about: "compaction moves pages away under the device",
        shows: |outcome| {
            let moved = |trouble: &String| trouble.contains("moved under the device");
            outcome.evidence.troubles.iter().any(moved) || outcome.verdict.report.corrupt > 0
        },
    },
    Twin {
        name: TABLES,
        profiles: &["legacy"],
        rate: RATE,
        about: "page tables are overwritten once memory is filled",
        shows: |outcome| lost(outcome) && first_fault(outcome) > entry(outcome),
    },
];

/// Swaps after the update, and the pause after each in microseconds.
const MORE_SWAPS: u32 = 400;
const SWAP_PAUSE_US: u64 = 1_000;

/// Fault reason of a legacy context entry that is not present (VT-d 7.1.3).
const CONTEXT_ENTRY_NOT_PRESENT: u32 = 0x2;
/// Fault reason of a PASID table entry that is not present (VT-d 7.1.3).
const PASID_ENTRY_NOT_PRESENT: u32 = 0x5b;

fn harmed(outcome: &Outcome, harm: Harm) -> bool {
    harm_at(outcome, harm).is_some()
}

/// When something was first done to the device.
pub(crate) fn harm_at(outcome: &Outcome, harm: Harm) -> Option<Ns> {
    outcome.evidence.trace.harms.get(&harm)?.first
}

/// When the new kernel said its first words.
pub(crate) fn entry(outcome: &Outcome) -> Option<Ns> {
    outcome.evidence.jumps.first()?.entry
}

/// When the new kernel's user space said its first words.
pub(crate) fn hello(outcome: &Outcome) -> Option<Ns> {
    outcome.evidence.jumps.first().map(|jump| jump.hello)
}

pub(crate) fn first_fault(outcome: &Outcome) -> Option<Ns> {
    outcome.evidence.trace.faults.first
}

fn faulted(outcome: &Outcome, reason: u32) -> bool {
    outcome.evidence.trace.reasons.contains(&reason)
}

/// A step failed with these words.
fn failed(outcome: &Outcome, words: &str) -> bool {
    let mut troubles = outcome.evidence.troubles.iter();
    troubles.any(|trouble| trouble.contains(words))
}

pub(crate) fn lost(outcome: &Outcome) -> bool {
    let report = &outcome.verdict.report;
    report.lost + report.corrupt + report.not_taken > 0
}

fn stalled(outcome: &Outcome) -> bool {
    outcome.verdict.report.longest_gap_ms > 500.0
}

pub(crate) fn tests() -> Vec<Test> {
    TWINS
        .iter()
        .flat_map(|twin| {
            twin.profiles.iter().map(move |profile| {
                let name = match twin.profiles {
                    [_] => format!("twin::{}", twin.name),
                    _ => format!("twin::{}::{profile}", twin.name),
                };
                let about = format!("left out: {}", twin.about);
                Test::new(name, profile, about, move |bench| run(bench, twin, profile))
            })
        })
        .collect()
}

fn run(bench: &Bench, twin: &Twin, profile: &str) -> Result<End> {
    let words = format!("hitless.break={}", twin.name);
    let plan = Plan {
        rate: Rate::AtMost(twin.rate),
        ..plan(twin.name, profile, &words)?
    };
    let mut scene = bench.boot(plan)?;
    let left_out = format!("left out on purpose: {}", twin.name);
    let ended = play(&mut scene);
    let known = scene.machine.console.says(&left_out);
    let mut outcome = scene.end(ended)?;
    if !known {
        return bad(&outcome, &format!("the kernel does not say `{left_out}`"));
    }
    if !twin.is_reached(&outcome) {
        let seen = outcome.verdict.words();
        return bad(&outcome, &format!("the jump was not reached: {seen}"));
    }
    if !(twin.shows)(&outcome) {
        let seen = outcome.verdict.words();
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
    // A gap of some ten microseconds is not hit by every swap, and by fewer of them at a lower rate.
    scene.swaps(MORE_SWAPS * RATE.div_ceil(scene.rate), SWAP_PAUSE_US)?;
    // What the update has freed is overwritten: a device that still uses it shows now.
    scene.fill_memory()?;
    scene.flow(SETTLE);
    Ok(())
}
