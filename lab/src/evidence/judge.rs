// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The verdict on a run, from everything that was seen from outside.

use hitless_proto::tally::Tally;

use crate::evidence::account::{count, longest_gap, missing, Evidence};
use crate::evidence::phases::{frames_between, swaps};
use crate::evidence::verdict::{Ending, Fault, Kind, PhaseReport, Report, Verdict};
use crate::machine::clock::{as_ms, Ns};
use crate::machine::pace::TooSlow;

/// Judges.
pub fn judge(evidence: &Evidence) -> Verdict {
    let Evidence { seen, trace, .. } = evidence;
    let order = count(&seen.landings, evidence.sent.count());
    let distinct = order.received - order.duplicated;
    let (lost, not_taken, held_back) = missing(evidence, distinct);
    let frames = |stretch| frames_between(&seen.landings, stretch);
    let kernel = |number| evidence.kernels.get(number).cloned().unwrap_or_default();
    let resets = trace.harms.iter().filter(|(harm, _)| harm.is_reset());
    let phases = evidence.phases.iter().map(|phase| PhaseReport {
        name: phase.name,
        ms: as_ms(phase.to - phase.from),
        frames: frames((phase.from, phase.to)),
    });
    let report = Report {
        verdict: Ending::Good,
        frames_sent: evidence.sent.count(),
        frames_received: distinct,
        lost,
        not_taken,
        held_back,
        ring_dry_ms: as_ms(seen.dry.iter().map(|(from, to)| to - from).sum()),
        rate: evidence.rate,
        duplicated: order.duplicated,
        reordered: order.reordered,
        corrupt: seen.corrupt + seen.skipped + order.corrupt,
        iommu_faults: trace.faults.count.max(evidence.recorded_faults),
        device_resets: resets.map(|(_, often)| often.count).sum(),
        frames_during_jump: evidence.unserved().into_iter().map(frames).sum(),
        frames_during_swap: swaps(&evidence.phases).into_iter().map(frames).sum(),
        updates: evidence.jumps.len(),
        kernel_from: kernel(0),
        kernel_to: kernel(1),
        profile: evidence.profile.clone(),
        longest_gap_ms: as_ms(longest_gap(evidence)),
        stray_writes: evidence.strays,
        phases: phases.collect(),
    };
    let faults = faults(evidence, &report);
    let mut verdict = Verdict { report, faults };
    verdict.report.verdict = verdict.ending();
    verdict
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
    for (harm, often) in &evidence.trace.harms {
        let words = format!("{harm} ({} times)", often.count);
        add(Kind::Harm(*harm), words);
    }
    // Each of several, not only their sum.
    for (kind, stretches, what) in [
        (Kind::SilentJump, evidence.unserved(), "the jump"),
        (Kind::SilentSwap, swaps(&evidence.phases), "a swap"),
    ] {
        if let Some(dry) = silence(evidence, &stretches) {
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
    let is_silent = |stretch: &&(Ns, Ns)| frames_between(landings, **stretch) == 0;
    let mut silent = stretches.iter().filter(is_silent).peekable();
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
    let words = |received, duplicated, corrupt| {
        format!("{received} frames, {duplicated} duplicated and {corrupt} corrupt")
    };
    let ours = words(report.frames_received, report.duplicated, report.corrupt);
    let received = guest.received.saturating_sub(guest.duplicated);
    let theirs = words(received, guest.duplicated, guest.corrupt);
    (ours != theirs).then(|| format!("the guest counts {theirs}, where the memory showed {ours}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter::zip;

    use crate::evidence::event::Harm;
    use crate::evidence::generator::Sent;
    use crate::evidence::phases::{Jump, Phase, SWAP};
    use crate::evidence::trace::Often;
    use crate::evidence::witness::{Landing, Seen};
    use crate::machine::clock::MS;

    /// A run of 100 frames in which all went well.
    fn good() -> Evidence {
        let times: Vec<Ns> = (0..100).map(|n| n * MS).collect();
        let landings = zip(times.clone(), 0..).map(|(at, sequence)| Landing {
            at,
            sequence,
            sent: at,
        });
        Evidence {
            profile: "legacy".to_owned(),
            kernels: vec!["7.3.4 #1".to_owned(), "7.3.4 #2".to_owned()],
            rate: 1000,
            lag: 10 * MS,
            held: 16,
            seen: Seen {
                landings: landings.collect(),
                ..Seen::default()
            },
            sent: Sent {
                times,
                ..Sent::default()
            },
            stopped: 100 * MS,
            phases: vec![Phase {
                update: 1,
                name: SWAP,
                from: 50 * MS,
                to: 60 * MS,
            }],
            jumps: vec![Jump {
                ordered: 9 * MS,
                leave: 10 * MS,
                entry: Some(20 * MS),
                hello: 30 * MS,
            }],
            ..Evidence::default()
        }
    }

    fn harmed(run: &mut Evidence, harm: Harm, count: u64) {
        let first = Some(1);
        run.trace.harms.insert(harm, Often { count, first });
    }

    #[test]
    fn a_good_run_is_good() {
        let verdict = judge(&good());
        assert_eq!(verdict.faults, []);
        let report = verdict.report;
        assert_eq!((report.frames_sent, report.frames_received), (100, 100));
        let jump_and_swap = (report.frames_during_jump, report.frames_during_swap);
        assert_eq!(jump_and_swap, (20, 10));
        assert!(report.longest_gap_ms <= 1.0);
        assert_eq!(report.phases[0].ms, 10.0);
    }

    #[test]
    fn every_failure_is_noticed_and_told_apart() {
        let mut run = good();
        run.sent.refused = vec![50 * MS];
        run.seen.landings.remove(40);
        run.seen.landings.swap(5, 6);
        run.seen.landings.push(run.seen.landings[90]);
        // One that was never sent is corrupt, too.
        run.seen.landings.push(Landing {
            sequence: 100,
            ..run.seen.landings[90]
        });
        run.seen.corrupt = 1;
        run.seen.skipped = 2;
        run.trace.faults.count = 2;
        run.recorded_faults = 3;
        run.strays = 5;
        run.untranslated = 6;
        harmed(&mut run, Harm::FunctionReset, 7);
        harmed(&mut run, Harm::PortBusMasterOff, 1);
        run.jumps[0].leave = run.jumps[0].hello;
        let silent = Phase {
            update: 2,
            from: 31 * MS + 1,
            to: 32 * MS,
            ..run.phases[0].clone()
        };
        run.phases.push(silent);
        run.kernels[1] = run.kernels[0].clone();
        run.guest = Some(Tally::default());
        run.warnings.push("WARNING: x".to_owned());
        run.troubles.push("a step".to_owned());
        let verdict = judge(&run);
        assert_eq!(verdict.report.verdict, Ending::Loss);
        let expected = [
            (Kind::Frames, "1 frames lost"),
            (Kind::Frames, "1 frames not taken by the card"),
            (Kind::Frames, "1 frames duplicated"),
            (Kind::Frames, "1 frames out of order"),
            (Kind::Frames, "4 frames corrupt"),
            (Kind::Translation, "3 IOMMU faults"),
            (Kind::Strays, "5 stray writes"),
            (Kind::Translation, "6 looks"),
            (Kind::Harm(Harm::FunctionReset), "function level reset (7"),
            (Kind::Harm(Harm::PortBusMasterOff), "bus mastering of a"),
            (Kind::SilentJump, "no frame landed during the jump"),
            (Kind::SilentSwap, "no frame landed during a swap"),
            (Kind::NoUpdate, "the kernel did not change"),
            (Kind::Witness, "the guest counts 0 frames"),
            (Kind::Warning, "the kernel warned: WARNING: x"),
            (Kind::Step, "a step"),
        ];
        assert_eq!(verdict.faults.len(), expected.len(), "{verdict:#?}");
        for (fault, (kind, words)) in zip(&verdict.faults, expected) {
            assert_eq!(fault.kind, kind);
            assert!(fault.words.starts_with(words), "{words}: {fault:?}");
        }
        // Each is enough for a bad end, and what is not there at all is no success.
        for fault in verdict.faults {
            let (report, faults) = (verdict.report.clone(), vec![fault]);
            assert_eq!(Verdict { report, faults }.ending(), Ending::Loss);
        }
        let nothing = judge(&Evidence::default()).faults;
        let kinds = nothing.iter().map(|fault| fault.kind);
        assert!(kinds.eq([Kind::SilentJump, Kind::SilentSwap, Kind::NoUpdate]));
    }

    #[test]
    fn what_a_slow_host_explains_is_told_apart_from_a_loss() {
        let dry = || {
            let mut run = good();
            run.seen.dry = vec![(60 * MS, 70 * MS)];
            run
        };
        // Lost, not taken, held back.
        let expect = |run: &Evidence, missing: [u64; 3], ending| {
            let verdict = judge(run);
            let report = &verdict.report;
            let seen = [report.lost, report.not_taken, report.held_back];
            assert_eq!((seen, verdict.ending()), (missing, ending));
        };
        expect(&dry(), [0, 0, 0], Ending::Good);
        // The wire is full a little later than the ring is dry.
        let mut run = dry();
        run.sent.refused = vec![75 * MS];
        expect(&run, [0, 0, 1], Ending::TooSlow);
        assert!(judge(&run).words().contains("a lower --rate"));
        // A fault has dried the ring, and not the host.
        run.trace.faults.count = 3;
        expect(&run, [0, 0, 1], Ending::Loss);
        assert!(!judge(&run).is_slow());
        // Much later it is not, and the card stood still.
        run.trace.faults.count = 0;
        run.sent.refused.push(95 * MS);
        expect(&run, [0, 1, 1], Ending::Loss);
        assert!(judge(&run).is_slow());
        // What the card dropped just then is not lost, and what did not land at another time is.
        let mut run = dry();
        run.seen.landings.remove(65);
        expect(&run, [0, 0, 1], Ending::TooSlow);
        run.seen.landings.remove(40);
        expect(&run, [1, 0, 1], Ending::Loss);
        // What still waits for a ring that is dry at the end is not lost.
        let mut run = dry();
        run.seen.landings.truncate(90);
        expect(&run, [10, 0, 0], Ending::Loss);
        run.seen.dry.push((90 * MS, 120 * MS));
        expect(&run, [0, 0, 10], Ending::TooSlow);
        // A jump in which the ring was dry shows nothing.
        let mut run = dry();
        (run.jumps[0].leave, run.jumps[0].hello) = (31 * MS + 1, 32 * MS);
        expect(&run, [0, 0, 0], Ending::Loss);
        run.seen.dry.push((31 * MS, 32 * MS));
        expect(&run, [0, 0, 0], Ending::TooSlow);
    }

    #[test]
    fn a_witness_that_came_too_late_is_told() {
        let mut run = good();
        run.seen.landings.remove(40);
        run.seen.blind = 10 * MS;
        assert!(!judge(&run).is_slow());
        run.seen.blind = 20 * MS;
        assert!(judge(&run).words().contains("could not look for 20 ms"));
    }

    #[test]
    fn resets_and_gaps_are_figures() {
        let mut run = good();
        run.seen.landings.truncate(50);
        harmed(&mut run, Harm::FunctionReset, 1);
        harmed(&mut run, Harm::PowerState, 1);
        harmed(&mut run, Harm::BusMasterOff, 1);
        let report = judge(&run).report;
        assert_eq!(report.device_resets, 2, "bus mastering is none");
        assert!(report.longest_gap_ms > 50.0, "silence at the end is one");
    }

    #[test]
    fn the_json_has_the_names_of_the_contract() {
        let value = serde_json::to_value(judge(&good()).report).expect("JSON");
        let names: Vec<_> = value.as_object().expect("an object").keys().collect();
        let expected = "corrupt device_resets duplicated frames_during_jump frames_during_swap frames_received \
                        frames_sent held_back iommu_faults kernel_from kernel_to longest_gap_ms lost not_taken phases \
                        profile rate reordered ring_dry_ms stray_writes updates verdict";
        assert_eq!(names, expected.split_whitespace().collect::<Vec<_>>());
        let phase = value["phases"][0].as_object().expect("a phase");
        assert!(phase.keys().eq(["frames", "ms", "name"]));
        assert_eq!(value["verdict"], "good");
    }
}
