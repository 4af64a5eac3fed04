// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The verdict on a run, from everything that was seen from outside.

use hitless_proto::tally::Tally;

use crate::evidence::account::{count_order, longest_gap, missing, Evidence};
use crate::evidence::event::Harm;
use crate::evidence::phases::{frames_between, swaps};
use crate::evidence::verdict::{ending, Ending, Fault, Kind, PhaseReport, Report, Verdict};
use crate::machine::clock::{as_ms, Ns};
use crate::machine::pace::TooSlow;

/// Judges.
pub fn judge(evidence: &Evidence) -> Verdict {
    let order = count_order(&evidence.seen.landings, evidence.sent.count());
    let missing = missing(evidence, order);
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
    let dry = evidence.seen.dry.iter().map(|(from, to)| to - from).sum();
    let mut report = Report {
        verdict: Ending::Good,
        frames_sent: evidence.sent.count(),
        frames_received: order.distinct,
        lost: missing.lost,
        not_taken: missing.not_taken,
        held_back: missing.held_back,
        ring_dry_ms: as_ms(dry),
        rate: evidence.rate,
        duplicated: order.duplicated,
        reordered: order.reordered,
        corrupt: evidence.seen.corrupt.len() as u64 + evidence.seen.skipped + order.unknown,
        iommu_faults: evidence.traced_faults.count.max(evidence.recorded_faults),
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
    report.verdict = ending(&faults);
    Verdict { report, faults }
}

fn faults(evidence: &Evidence, report: &Report) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut add = |kind, words| faults.push(Fault { kind, words });
    for (kind, count, what) in [
        (Kind::Frames, report.lost, "frames lost"),
        (
            Kind::Frames,
            report.not_taken,
            "frames not taken by the card, though it had descriptors",
        ),
        (Kind::Frames, report.duplicated, "frames duplicated"),
        (Kind::Frames, report.reordered, "frames out of order"),
        (Kind::Frames, report.corrupt, "frames corrupt"),
        (
            Kind::Translation,
            report.iommu_faults,
            "IOMMU faults of the preserved device",
        ),
        (Kind::Strays, report.stray_writes, "stray writes"),
        (
            Kind::Translation,
            evidence.untranslated,
            "looks at the IOMMU's registers showed translation off",
        ),
    ] {
        if count > 0 {
            add(kind, format!("{count} {what}"));
        }
    }
    let mut harms: Vec<Harm> = evidence.harms.iter().map(|(_, harm)| *harm).collect();
    harms.sort_unstable();
    for group in harms.chunk_by(|one, other| one == other) {
        let words = format!("{} ({} times)", group[0].words(), group.len());
        add(Kind::Harm(group[0]), words);
    }
    // Each of several, not only their sum.
    let swaps = swaps(&evidence.phases);
    for (kind, stretches, what) in [
        (Kind::SilentJump, &evidence.jumps, "the jump"),
        (Kind::SilentSwap, &swaps, "a swap"),
    ] {
        if let Some(dry) = silence(evidence, stretches) {
            let kind = if dry { Kind::Slow } else { kind };
            add(kind, format!("no frame landed during {what}"));
        }
    }
    if report.updates == 0 {
        add(Kind::NoUpdate, "no update was done".to_owned());
    }
    for pair in evidence.kernels.windows(2) {
        if pair[0] == pair[1] {
            let words = format!("the kernel did not change: {}", pair[0]);
            add(Kind::NoUpdate, words);
        }
    }
    if let Some(words) = evidence.guest.and_then(|guest| disagreement(guest, report)) {
        add(Kind::Witness, words);
    }
    if let Some(warning) = evidence.warnings.first() {
        let words = format!("the kernel warned: {}", warning.trim());
        add(Kind::Warning, words);
    }
    for words in &evidence.troubles {
        add(Kind::Step, words.clone());
    }
    for words in slowness(evidence, report) {
        add(Kind::Slow, words);
    }
    faults
}

/// Nothing where frames landed in each stretch and there is one; else whether the ring was dry in all silent ones from
/// start to end.
fn silence(evidence: &Evidence, stretches: &[(Ns, Ns)]) -> Option<bool> {
    if stretches.is_empty() {
        return Some(false);
    }
    let landings = &evidence.seen.landings;
    let mut silent = stretches
        .iter()
        .filter(|(from, to)| frames_between(landings, *from, *to) == 0)
        .peekable();
    silent.peek()?;
    let dry = |(from, to): &(Ns, Ns)| {
        let mut spells = evidence.seen.dry.iter();
        spells.any(|(since, until)| since <= from && to <= until)
    };
    Some(silent.all(dry))
}

/// What the host was too slow for. A card that met a fault has passed descriptors, and a ring that is dry by that is not the
/// host's doing.
fn slowness(evidence: &Evidence, report: &Report) -> Vec<String> {
    let mut causes = evidence.slow.clone();
    let rate = evidence.rate;
    let faulted = report.corrupt > 0 || report.iommu_faults > 0;
    if report.held_back > 0 && !faulted {
        causes.push(format!(
            "the ring ran dry: for {:.0} ms every descriptor was used and the guest had not posted them again, and {} frames \
             were held back; the host was too slow for {rate} frames/s",
            report.ring_dry_ms, report.held_back
        ));
    }
    let unread = u128::from(evidence.seen.blind) * u128::from(rate) / 1_000_000_000;
    let unread = evidence.held > 0 && unread >= u128::from(evidence.held);
    if unread && report.lost + report.corrupt > 0 {
        causes.push(format!(
            "the witness of the memory could not look for {:.0} ms, in which the ring was used and posted again",
            as_ms(evidence.seen.blind)
        ));
    }
    causes
        .into_iter()
        .map(|cause| TooSlow::new(cause).to_string())
        .collect()
}

/// The guest counted something else than the memory showed.
fn disagreement(guest: Tally, report: &Report) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::generator::Sent;
    use crate::evidence::phases::{Name, Phase};
    use crate::evidence::witness::{Landing, Seen};
    use crate::machine::clock::MS;

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
            rate: 1000,
            lag: 10 * MS,
            held: 16,
            sent: Sent {
                times,
                refused: Vec::new(),
            },
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
            guest: Some(Tally {
                received: 100,
                ..Tally::default()
            }),
            ..Evidence::default()
        }
    }

    #[test]
    fn a_good_run_is_good() {
        let verdict = judge(&good());
        assert_eq!(verdict.faults, []);
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
        let changes: [(&str, Change); 17] = [
            ("not taken by the card", |run| {
                run.sent.refused.push(50 * MS)
            }),
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
            ("IOMMU faults", |run| run.traced_faults.count = 1),
            ("IOMMU faults", |run| run.recorded_faults = 1),
            ("function level reset", |run| {
                run.harms.push((1, Harm::FunctionReset));
            }),
            ("bridge above", |run| {
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
                run.guest = run.guest.map(|guest| Tally {
                    received: 99,
                    ..guest
                });
            }),
            ("warned", |run| run.warnings.push("WARNING: x".to_owned())),
        ];
        for (words, change) in changes {
            let mut run = good();
            change(&mut run);
            let verdict = judge(&run);
            let faults = &verdict.faults;
            assert_eq!(faults.len(), 1, "{words}: {faults:?}");
            assert!(faults[0].words.contains(words), "{words}: {faults:?}");
            assert_eq!(verdict.report.verdict, Ending::Loss);
        }
    }

    #[test]
    fn a_dry_ring_is_told_apart_from_a_loss() {
        let mut run = good();
        run.seen.dry = vec![(60 * MS, 70 * MS)];
        assert!(judge(&run).is_good(), "nothing was held back by it");
        // The wire is full a little later than the ring is dry.
        run.sent.refused = vec![75 * MS];
        let verdict = judge(&run);
        assert_eq!(verdict.ending(), Ending::TooSlow);
        assert_eq!((verdict.report.lost, verdict.report.held_back), (0, 1));
        assert!(verdict.words().contains("a lower --rate"));
        // Much later it is not, and the card stood still.
        run.sent.refused.push(95 * MS);
        let verdict = judge(&run);
        assert_eq!(
            (verdict.report.not_taken, verdict.ending()),
            (1, Ending::Loss)
        );
        run.sent.refused.pop();
        // So is what the card dropped just then.
        run.seen.landings.remove(65);
        run.guest = None;
        let verdict = judge(&run);
        assert_eq!((verdict.report.lost, verdict.report.held_back), (0, 2));
        // What did not land at another time is lost.
        run.seen.landings.remove(40);
        run.guest = None;
        assert_eq!(judge(&run).ending(), Ending::Loss);
    }

    #[test]
    fn what_a_fault_has_dried_is_a_loss() {
        let mut run = good();
        run.seen.dry = vec![(60 * MS, 70 * MS)];
        run.sent.refused = vec![65 * MS];
        run.traced_faults.count = 3;
        assert_eq!(judge(&run).ending(), Ending::Loss);
        assert!(!judge(&run).is_slow());
    }

    #[test]
    fn what_waits_for_a_dry_ring_at_the_end_is_not_lost() {
        let mut run = good();
        run.seen.landings.truncate(90);
        run.guest = None;
        assert_eq!(judge(&run).report.lost, 10);
        run.seen.dry = vec![(90 * MS, 120 * MS)];
        let verdict = judge(&run);
        assert_eq!((verdict.report.lost, verdict.report.held_back), (0, 10));
        assert_eq!(verdict.ending(), Ending::TooSlow);
    }

    #[test]
    fn a_jump_in_which_the_ring_was_dry_shows_nothing() {
        let mut run = good();
        run.seen
            .landings
            .retain(|landing| !(10 * MS..30 * MS).contains(&landing.at));
        run.sent.times.truncate(80);
        for (landing, sequence) in run.seen.landings.iter_mut().zip(0..) {
            landing.sequence = sequence;
        }
        run.guest = None;
        assert_eq!(judge(&run).ending(), Ending::Loss);
        run.seen.dry = vec![(5 * MS, 31 * MS)];
        assert_eq!(judge(&run).ending(), Ending::TooSlow);
    }

    #[test]
    fn a_witness_that_came_too_late_is_told() {
        let mut run = good();
        run.seen.landings.remove(40);
        run.guest = None;
        run.seen.blind = 10 * MS;
        assert!(!judge(&run).is_slow());
        run.seen.blind = 20 * MS;
        assert!(judge(&run).words().contains("could not look for 20 ms"));
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
            "verdict",
            "not_taken",
            "held_back",
            "ring_dry_ms",
            "rate",
            "frames_sent",
            "frames_received",
            "lost",
            "duplicated",
            "reordered",
            "corrupt",
            "iommu_faults",
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
