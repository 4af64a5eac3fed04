// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The verdict on a run, from everything that was seen from outside.

use serde::Serialize;

use crate::run::clock::{as_ms, Ns};
use crate::run::generator::Sent;
use crate::run::guest::GuestCount;
use crate::run::phases::{frames_between, swaps, Name, Phase};
use crate::run::trace::{Faults, Harm};
use crate::run::witness::{Landing, Seen};
use crate::trouble::Trouble;

/// Everything that was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// The profile's name.
    pub(crate) profile: String,
    /// Updates done.
    pub(crate) updates: u32,
    /// Frames per second that were to be sent.
    pub(crate) rate: u32,
    /// `uname -r -v` of each kernel, in order.
    pub(crate) kernels: Vec<String>,
    /// What the generator sent.
    pub(crate) sent: Sent,
    /// When the generator had stopped.
    pub(crate) stopped: Ns,
    /// What landed.
    pub(crate) seen: Seen,
    /// The preserved device's faults in QEMU's trace.
    pub(crate) traced_faults: Faults,
    /// The second card's from the first jump on: it went on, and reached nothing.
    pub(crate) second_card_faults: u64,
    /// Looks at the fault registers that showed one of the preserved device.
    pub(crate) recorded_faults: u64,
    /// Looks from the first jump on that showed the unit not translating.
    pub(crate) untranslated: u64,
    /// What was done to the device.
    pub(crate) harms: Vec<(Ns, Harm)>,
    /// Frames where none may be.
    pub(crate) strays: u64,
    /// The timeline.
    pub(crate) phases: Vec<Phase>,
    /// Stretches with no kernel, or none that serves the device yet: from the old kernel's leaving to the new user
    /// space's hello.
    pub(crate) jumps: Vec<(Ns, Ns)>,
    /// The guest's own count at the end.
    pub(crate) guest: Option<GuestCount>,
    /// Lines of the kernel that say something is wrong.
    pub(crate) warnings: Vec<String>,
    /// What else went wrong, in words.
    pub(crate) troubles: Vec<String>,
}

/// A phase in the output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct PhaseReport {
    /// Its name.
    pub(crate) name: Name,
    /// Its length, milliseconds.
    pub(crate) ms: f64,
    /// Frames that landed in it.
    pub(crate) frames: u64,
}

/// The output of `cargo lab demo --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Report {
    /// Frames sent to the card that is preserved; one that the wire refused counts, for its number is lost.
    pub(crate) frames_sent: u64,
    /// Different frames that landed with the right content.
    pub(crate) frames_received: u64,
    /// Frames sent that did not.
    pub(crate) lost: u64,
    /// Frames that landed again.
    pub(crate) duplicated: u64,
    /// Frames that landed behind a later one.
    pub(crate) reordered: u64,
    /// Descriptors marked done, or passed, without the right content.
    pub(crate) corrupt: u64,
    /// The preserved device's blocked DMAs, by QEMU's trace or the unit's fault registers, whichever saw more.
    pub(crate) dmar_faults: u64,
    /// Resets and power state changes of the preserved device, or of the bus it is on.
    pub(crate) device_resets: u64,
    /// Frames that landed between the old kernel's last line and the new user space's hello.
    pub(crate) frames_during_jump: u64,
    /// Frames that landed while tables were replaced: in each update from the start of the first swap, from the restored
    /// HWPT to the new one, to the end of the last of the further swaps that follow it.
    pub(crate) frames_during_swap: u64,
    /// Updates done.
    pub(crate) updates: u32,
    /// The first kernel.
    pub(crate) kernel_from: String,
    /// The kernel after the first update.
    pub(crate) kernel_to: String,
    /// The profile.
    pub(crate) profile: String,
    /// The longest time without a landing, milliseconds.
    pub(crate) longest_gap_ms: f64,
    /// Frames of the second card sent after the jump, or frames of the first outside of its memory. All of the machine's
    /// memory is searched for them after each jump, before it is filled, and at the end; each counts once. The second
    /// card's own memory is watched besides, every millisecond and through the jump.
    ///
    /// What is searched for is the head of a whole frame at the start of a buffer. Not seen are a card's writes into
    /// descriptors (16 bytes each, which look like nothing), and frames elsewhere that the new kernel's boot has
    /// overwritten before its user space came up.
    pub(crate) stray_writes: u64,
    /// The timeline.
    pub(crate) phases: Vec<PhaseReport>,
}

/// The report, and why it is not good.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// The figures.
    pub(crate) report: Report,
    /// One sentence for each thing that is wrong; empty when all went well.
    pub(crate) faults: Vec<String>,
}

impl Verdict {
    /// Nothing is wrong.
    pub(crate) fn is_good(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Judges.
pub(crate) fn judge(evidence: &Evidence) -> Verdict {
    let order = count_order(&evidence.seen.landings, evidence.sent.count());
    let landings = &evidence.seen.landings;
    let jump = evidence
        .jumps
        .iter()
        .map(|(from, to)| frames_between(landings, *from, *to))
        .sum();
    let swap = swaps(&evidence.phases)
        .iter()
        .map(|(from, to)| frames_between(landings, *from, *to))
        .sum();
    let resets = evidence
        .harms
        .iter()
        .filter(|(_, harm)| harm.is_reset())
        .count() as u64;
    let report = Report {
        frames_sent: evidence.sent.count(),
        frames_received: order.distinct,
        lost: evidence.sent.count().saturating_sub(order.distinct),
        duplicated: order.duplicated,
        reordered: order.reordered,
        corrupt: evidence.seen.corrupt.len() as u64 + evidence.seen.skipped + order.unknown,
        dmar_faults: evidence.traced_faults.count.max(evidence.recorded_faults),
        device_resets: resets,
        frames_during_jump: jump,
        frames_during_swap: swap,
        updates: evidence.updates,
        kernel_from: evidence.kernels.first().cloned().unwrap_or_default(),
        kernel_to: evidence.kernels.get(1).cloned().unwrap_or_default(),
        profile: evidence.profile.clone(),
        longest_gap_ms: as_ms(longest_gap(evidence)),
        stray_writes: evidence.strays,
        phases: evidence
            .phases
            .iter()
            .map(|phase| PhaseReport {
                name: phase.name,
                ms: as_ms(phase.to - phase.from),
                frames: phase.frames(landings),
            })
            .collect(),
    };
    let faults = faults(evidence, &report);
    Verdict { report, faults }
}

/// What a list of sequence numbers says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Order {
    distinct: u64,
    duplicated: u64,
    reordered: u64,
    unknown: u64,
}

fn count_order(landings: &[Landing], sent: u64) -> Order {
    let mut order = Order::default();
    let mut came = vec![false; usize::try_from(sent).unwrap_or(0)];
    let mut newest = None;
    for landing in landings {
        let place = usize::try_from(landing.sequence)
            .ok()
            .and_then(|index| came.get_mut(index));
        match place {
            None => order.unknown += 1,
            Some(true) => order.duplicated += 1,
            Some(place) => {
                *place = true;
                order.distinct += 1;
                if newest > Some(landing.sequence) {
                    order.reordered += 1;
                }
                newest = newest.max(Some(landing.sequence));
            }
        }
    }
    order
}

/// The longest time without a landing, from the first frame sent to the moment when the generator had stopped.
fn longest_gap(evidence: &Evidence) -> Ns {
    let mut times: Vec<Ns> = evidence.sent.times.first().copied().into_iter().collect();
    times.extend(evidence.seen.landings.iter().map(|landing| landing.at));
    if !times.is_empty() && evidence.stopped > 0 {
        times.push(evidence.stopped);
    }
    times
        .windows(2)
        .map(|pair| pair[1].saturating_sub(pair[0]))
        .max()
        .unwrap_or(0)
}

fn faults(evidence: &Evidence, report: &Report) -> Vec<String> {
    let mut faults = Vec::new();
    for (count, what) in [
        (report.lost, "frames lost"),
        (report.duplicated, "frames duplicated"),
        (report.reordered, "frames out of order"),
        (report.corrupt, "frames corrupt"),
        (report.dmar_faults, "DMAR faults of the preserved device"),
        (report.stray_writes, "stray writes"),
        (
            evidence.untranslated,
            "looks at the IOMMU's registers showed translation off",
        ),
    ] {
        if count > 0 {
            faults.push(format!("{count} {what}"));
        }
    }
    faults.extend(ran_dry(evidence, report));
    let mut harms: Vec<Harm> = evidence.harms.iter().map(|(_, harm)| *harm).collect();
    harms.sort_unstable();
    for group in harms.chunk_by(|one, other| one == other) {
        faults.push(format!("{} ({} times)", group[0].words(), group.len()));
    }
    let landings = &evidence.seen.landings;
    let silent = |(from, to): &(Ns, Ns)| frames_between(landings, *from, *to) == 0;
    // Each of several jumps, not only their sum.
    if report.frames_during_jump == 0 || evidence.jumps.iter().any(silent) {
        faults.push("no frame landed during the jump".to_owned());
    }
    if report.frames_during_swap == 0 || swaps(&evidence.phases).iter().any(silent) {
        faults.push("no frame landed during a swap".to_owned());
    }
    if report.updates == 0 {
        faults.push("no update was done".to_owned());
    }
    for pair in evidence.kernels.windows(2) {
        if pair[0] == pair[1] {
            faults.push(format!("the kernel did not change: {}", pair[0]));
        }
    }
    faults.extend(evidence.guest.and_then(|guest| disagreement(guest, report)));
    if let Some(warning) = evidence.warnings.first() {
        faults.push(format!("the kernel warned: {}", warning.trim()));
    }
    faults.extend(evidence.troubles.iter().cloned());
    faults
}

/// The guest counted something else than the memory showed.
fn disagreement(guest: GuestCount, report: &Report) -> Option<String> {
    let ours = (report.frames_received, report.duplicated, report.corrupt);
    let theirs = (
        guest.received.saturating_sub(guest.duplicated),
        guest.duplicated,
        guest.corrupt,
    );
    (ours != theirs).then(|| {
        format!(
            "the guest counts {} frames, {} duplicated and {} corrupt, where the memory showed {}, {} and {}",
            theirs.0, theirs.1, theirs.2, ours.0, ours.1, ours.2
        )
    })
}

/// Frames were lost for want of descriptors: the host did not run the guest often enough, and no part of the update is to
/// blame. Not so where the card passed descriptors without filling them: then it met a fault.
fn ran_dry(evidence: &Evidence, report: &Report) -> Option<String> {
    let dry = evidence.seen.dry;
    let only_dry = report.lost > 0 && report.corrupt == 0 && report.dmar_faults == 0;
    (only_dry && dry > 0).then(|| {
        Trouble::new(
            format!(
                "the ring ran dry: for {:.0} ms every descriptor was used and the guest had not posted them again, so the \
                 host was too slow for {} frames/s",
                as_ms(dry),
                evidence.rate
            ),
            "use a lower --rate, or run it when the host has less to do",
        )
        .to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::clock::MS;

    /// A run of 100 frames in which all went well.
    fn good() -> Evidence {
        let times: Vec<Ns> = (0..100).map(|n| n * MS).collect();
        let landings = times
            .iter()
            .zip(0..)
            .map(|(at, sequence)| Landing {
                at: at + MS / 2,
                sequence,
                sent: *at,
            })
            .collect();
        Evidence {
            profile: "legacy".to_owned(),
            updates: 1,
            kernels: vec!["7.3.4 #1".to_owned(), "7.3.4 #2".to_owned()],
            sent: Sent { times, refused: 0 },
            stopped: 100 * MS,
            seen: Seen {
                landings,
                ..Seen::default()
            },
            phases: vec![Phase {
                update: 1,
                name: Name::Swap,
                from: 50 * MS,
                to: 60 * MS,
            }],
            jumps: vec![(10 * MS, 30 * MS)],
            guest: Some(GuestCount {
                received: 100,
                lost: 0,
                duplicated: 0,
                reordered: 0,
                corrupt: 0,
            }),
            ..Evidence::default()
        }
    }

    #[test]
    fn a_good_run_is_good() {
        let verdict = judge(&good());
        assert_eq!(verdict.faults, [] as [&str; 0]);
        let report = verdict.report;
        assert_eq!((report.frames_sent, report.frames_received), (100, 100));
        assert_eq!(
            (report.frames_during_jump, report.frames_during_swap),
            (20, 10)
        );
        assert!(report.longest_gap_ms <= 1.0);
        assert_eq!(report.phases[0].ms, 10.0);
    }

    type Change = fn(&mut Evidence);

    /// Each change makes exactly one sentence appear, which has these words.
    #[test]
    fn every_failure_is_noticed() {
        let changes: [(&str, Change); 16] = [
            ("frames lost", |run| {
                run.seen.landings.remove(40);
                run.guest = None;
            }),
            ("frames duplicated", |run| {
                let again = run.seen.landings[5];
                run.seen.landings.push(again);
                run.guest = None;
            }),
            ("out of order", |run| run.seen.landings.swap(5, 6)),
            ("frames corrupt", |run| {
                run.seen.corrupt.push((1, String::new()));
                run.guest = None;
            }),
            ("frames corrupt", |run| {
                run.seen.skipped = 1;
                run.guest = None;
            }),
            ("DMAR faults", |run| run.traced_faults.count = 1),
            ("DMAR faults", |run| run.recorded_faults = 1),
            ("function level reset", |run| {
                run.harms.push((1, Harm::FunctionReset));
            }),
            ("root port", |run| {
                run.harms.push((1, Harm::PortBusMasterOff))
            }),
            ("stray writes", |run| run.strays = 1),
            ("translation off", |run| run.untranslated = 1),
            ("during the jump", |run| run.jumps.clear()),
            ("during a swap", |run| run.phases.clear()),
            ("did not change", |run| {
                run.kernels[1] = run.kernels[0].clone()
            }),
            ("the guest counts", |run| {
                run.guest = run.guest.map(|guest| GuestCount {
                    received: 99,
                    ..guest
                });
            }),
            ("warned", |run| run.warnings.push("WARNING: x".to_owned())),
        ];
        for (words, change) in changes {
            let mut run = good();
            change(&mut run);
            let faults = judge(&run).faults;
            assert_eq!(faults.len(), 1, "{words}: {faults:?}");
            assert!(faults[0].contains(words), "{words}: {faults:?}");
        }
    }

    #[test]
    fn a_dry_ring_is_named_as_the_cause_only_where_it_is() {
        let mut run = good();
        run.seen.dry = 700 * MS;
        assert!(judge(&run).is_good(), "nothing was lost by it");
        run.seen.landings.truncate(60);
        run.guest = None;
        let dry = |run: &Evidence| judge(run).faults.join("; ").contains("a lower --rate");
        assert!(dry(&run));
        run.seen.skipped = 3;
        assert!(!dry(&run));
        run.seen.skipped = 0;
        run.seen.dry = 0;
        assert!(!dry(&run));
    }

    #[test]
    fn resets_and_power_states_count_as_resets_and_bus_mastering_does_not() {
        let mut run = good();
        run.harms = vec![
            (1, Harm::FunctionReset),
            (2, Harm::PowerState),
            (3, Harm::BusMasterOff),
        ];
        assert_eq!(judge(&run).report.device_resets, 2);
    }

    #[test]
    fn silence_at_the_end_is_a_gap() {
        let mut run = good();
        run.seen.landings.truncate(50);
        assert!(judge(&run).report.longest_gap_ms > 50.0);
    }

    #[test]
    fn the_json_has_the_names_of_the_contract() {
        let value = serde_json::to_value(judge(&good()).report).expect("JSON");
        let mut names: Vec<_> = value.as_object().expect("an object").keys().collect();
        names.sort();
        let mut expected = [
            "frames_sent",
            "frames_received",
            "lost",
            "duplicated",
            "reordered",
            "corrupt",
            "dmar_faults",
            "device_resets",
            "frames_during_jump",
            "frames_during_swap",
            "updates",
            "kernel_from",
            "kernel_to",
            "profile",
            "longest_gap_ms",
            "stray_writes",
            "phases",
        ];
        expected.sort_unstable();
        assert_eq!(names, expected);
        let phase = value["phases"][0].as_object().expect("a phase");
        assert_eq!(phase.len(), 3);
    }
}
