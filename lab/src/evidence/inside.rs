// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What was seen of a virtual machine inside a machine, and the verdict on it. It is good only if every frame was answered, in
//! order, by one and the same boot, whose own count agrees, and if nothing was done to its card.

use serde::Serialize;

use crate::evidence::echoes::Echoes;
use crate::evidence::generator::Sent;
use crate::evidence::phases::Phase;
use crate::evidence::trace::Findings;
use crate::machine::clock::{as_ms, Ns};

/// Everything that was seen, from the moment on at which its card was on.
#[derive(Debug, Default)]
pub struct Inside {
    /// The profile's name.
    pub profile: String,
    /// `uname -r -v` of each of the host's kernels, in order.
    pub kernels: Vec<String>,
    /// When the first frame was sent.
    pub started: Ns,
    /// When no more were sent, and the last had had time to be answered.
    pub stopped: Ns,
    /// What the generator sent.
    pub sent: Sent,
    /// What came back.
    pub echoes: Echoes,
    /// The timeline of what was done to the host.
    pub phases: Vec<Phase>,
    /// What QEMU's trace says, from the first frame on.
    pub trace: Findings,
    /// What else went wrong, in words.
    pub troubles: Vec<String>,
}

/// The figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// The profile's name.
    pub profile: String,
    /// `uname -r -v` of each of the host's kernels, in order.
    pub kernels: Vec<String>,
    /// The random names of the virtual machine's boots, in order.
    pub boots: Vec<String>,
    /// Its uptime at the first echo and at the last, seconds of its own clock.
    pub uptime_s: [f64; 2],
    /// Frames that the wire took.
    pub frames_sent: u64,
    /// Frames that it did not, since the card took none.
    pub not_taken: u64,
    /// Frames that the virtual machine has counted.
    pub received: u64,
    /// Frames that it has missed.
    pub lost: u64,
    /// Frames of which it has found a byte wrong.
    pub corrupt: u64,
    /// Frames that it has answered.
    pub answered: u64,
    /// The longest time without an echo, milliseconds.
    pub longest_silence_ms: f64,
    /// The longest time between two frames that it saw itself, milliseconds of its own clock.
    pub longest_gap_ms: f64,
    /// The phases of each update: its number, the phase's name, and milliseconds.
    pub phases: Vec<(usize, &'static str, f64)>,
    /// How often the card was reset, or lost its state in another way.
    pub device_resets: u64,
    /// What was done to the card, by name.
    pub harms: Vec<String>,
    /// The card's blocked DMAs.
    pub iommu_faults: u64,
}

/// Figures, and what is not as it should be.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// The figures.
    pub report: Report,
    /// In words; nothing if all is well.
    pub faults: Vec<String>,
}

impl Inside {
    /// The longest time without an echo: from the first frame to the end.
    fn longest_silence(&self) -> Ns {
        let heard = self.echoes.heard.iter().map(|(at, _)| *at);
        let mut times: Vec<Ns> = [self.started].into_iter().chain(heard).collect();
        times.push(self.stopped);
        let gaps = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        gaps.max().unwrap_or(0)
    }

    fn report(&self) -> Report {
        let mut boots: Vec<String> = Vec::new();
        for (_, echo) in &self.echoes.heard {
            if boots.last() != Some(&echo.boot) {
                boots.push(echo.boot.clone());
            }
        }
        let seconds = |uptime: Option<u64>| uptime.map_or(0.0, |ns| as_ms(ns) / 1e3);
        let first = self.echoes.heard.first().map(|(_, echo)| echo);
        let last = self.echoes.heard.last().map(|(_, echo)| echo);
        let harms = self.trace.harms.iter();
        let resets = harms.clone().filter(|(harm, _)| harm.is_reset());
        Report {
            profile: self.profile.clone(),
            kernels: self.kernels.clone(),
            boots,
            uptime_s: [first, last].map(|echo| seconds(echo.map(|echo| echo.uptime_ns))),
            frames_sent: self.sent.count(),
            not_taken: self.sent.refused.len() as u64,
            received: last.map_or(0, |echo| echo.tally.received),
            lost: last.map_or(0, |echo| echo.tally.lost),
            corrupt: last.map_or(0, |echo| echo.tally.corrupt),
            answered: self.echoes.heard.len() as u64,
            longest_silence_ms: as_ms(self.longest_silence()),
            longest_gap_ms: last.map_or(0.0, |echo| as_ms(echo.longest_gap_ns)),
            phases: (self.phases.iter())
                .map(|phase| (phase.update, phase.name, as_ms(phase.to - phase.from)))
                .collect(),
            device_resets: resets.map(|(_, often)| often.count).sum(),
            harms: harms
                .map(|(harm, often)| format!("{harm}, {} times", often.count))
                .collect(),
            iommu_faults: self.trace.faults.count,
        }
    }

    /// Judges.
    pub fn judge(&self) -> Verdict {
        let report = self.report();
        let mut faults = self.troubles.clone();
        let mut fault = |is: bool, words: String| faults.extend(is.then_some(words));
        let sent = report.frames_sent;
        fault(sent == 0, "no frame was sent".to_owned());
        fault(
            report.not_taken > 0,
            format!("{} frames were not taken by the card", report.not_taken),
        );
        let mut numbered = self.echoes.heard.iter().zip(0..);
        if let Some(((_, echo), number)) = numbered.find(|((_, echo), at)| echo.sequence != *at) {
            let words = format!(
                "frame {number} should be answered, and {} is",
                echo.sequence
            );
            fault(true, words);
        }
        fault(
            report.answered != sent,
            format!("{} of {sent} frames were answered", report.answered),
        );
        if let Some((_, echo)) = self.echoes.heard.last() {
            let tally = &echo.tally;
            fault(
                !tally.is_clean() || tally.received != sent || echo.first != 0,
                format!(
                    "the virtual machine's own count, from frame {} on, is {tally:?}",
                    echo.first
                ),
            );
        }
        fault(
            report.boots.len() > 1,
            format!(
                "the virtual machine has booted {} times",
                report.boots.len()
            ),
        );
        let uptimes = self.echoes.heard.iter().map(|(_, echo)| echo.uptime_ns);
        fault(
            !uptimes.is_sorted(),
            "the virtual machine's clock went back".to_owned(),
        );
        let strange = &self.echoes.strange;
        if let Some(first) = strange.first() {
            fault(
                true,
                format!("{} frames are no echoes, the first: {first}", strange.len()),
            );
        }
        fault(
            !report.harms.is_empty(),
            format!(
                "something was done to the card: {}",
                report.harms.join("; ")
            ),
        );
        fault(
            report.iommu_faults > 0,
            format!("{} DMAs of the card were blocked", report.iommu_faults),
        );
        Verdict { report, faults }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::event::Harm;
    use crate::evidence::trace::Often;
    use crate::machine::clock::MS;
    use hitless_proto::echo::Echo;
    use hitless_proto::tally::Tally;

    /// Ten frames, a millisecond apart, each answered at once, but for a silence before the sixth.
    fn good() -> Inside {
        let mut tally = Tally::default();
        let heard = (0..10).map(|sequence| {
            tally.good(sequence);
            let pause = if sequence > 4 { 70 } else { 0 };
            let echo = Echo {
                sequence,
                tally,
                boot: "b".to_owned(),
                uptime_ns: (sequence + 900) * MS,
                ..Echo::default()
            };
            ((sequence + 2 + pause) * MS, echo)
        });
        let heard = heard.collect();
        Inside {
            started: MS,
            stopped: 90 * MS,
            sent: Sent {
                times: (0..10).map(|number| (number + 1) * MS).collect(),
                ..Sent::default()
            },
            echoes: Echoes {
                heard,
                ..Echoes::default()
            },
            ..Inside::default()
        }
    }

    #[test]
    fn a_silence_is_told_and_is_no_fault() {
        let verdict = good().judge();
        assert_eq!(verdict.faults, [""; 0]);
        let report = verdict.report;
        assert_eq!((report.longest_silence_ms, report.answered), (71.0, 10));
        assert_eq!(
            (report.boots, report.uptime_s),
            (vec!["b".to_owned()], [0.9, 0.909])
        );
    }

    #[test]
    fn whatever_is_not_as_it_should_be_is_told() {
        type Change = fn(&mut Inside);
        let cases: [(Change, &str); 10] = [
            (|it| it.sent = Sent::default(), "no frame was sent"),
            (|it| it.sent.refused.push(MS), "1 frames were not taken"),
            (
                |it| drop(it.echoes.heard.remove(3)),
                "frame 3 should be answered, and 4 is",
            ),
            (|it| drop(it.echoes.heard.pop()), "9 of 10 frames"),
            (|it| it.echoes.heard[9].1.tally.lost = 1, "own count"),
            (|it| it.echoes.heard[9].1.boot.push('x'), "booted 2 times"),
            (|it| it.echoes.heard[7].1.uptime_ns = 0, "clock went back"),
            (|it| it.echoes.strange.push("x".to_owned()), "no echoes"),
            (
                |it| it.trace.harms = [(Harm::FunctionReset, Often::default())].into(),
                "function level reset",
            ),
            (|it| it.trace.faults.count = 2, "2 DMAs"),
        ];
        for (change, words) in cases {
            let mut inside = good();
            change(&mut inside);
            let faults = inside.judge().faults.join("\n");
            assert!(faults.contains(words), "{words}: {faults}");
        }
    }
}
