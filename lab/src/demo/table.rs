// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the demo prints: the timeline and one closing line.

use std::iter::zip;

use crate::evidence::verdict::{Ending, Verdict};
use crate::play::end::Outcome;

/// The phases of every update, with their lengths and the frames that landed in them.
pub(super) fn timeline(outcome: &Outcome) -> String {
    let kernels = &outcome.evidence.kernels;
    let kernel = |number: usize| kernels.get(number).map_or("?", String::as_str);
    let mut text = String::new();
    let mut update = 0;
    for (phase, figures) in zip(&outcome.evidence.phases, &outcome.verdict.report.phases) {
        if phase.update != update {
            update = phase.update;
            let (old, new) = (kernel(update - 1), kernel(update));
            text += &format!("\nupdate {update}: {old} -> {new}\n");
            text += &format!("  {:24}{:>12}{:>12}\n", "phase", "ms", "frames");
        }
        let (name, ms, frames) = (figures.name, figures.ms, figures.frames);
        text += &format!("  {name:24}{ms:>12.1}{frames:>12}\n");
    }
    text + "\n"
}

/// One line that says how it went; before it, if it went wrong, what is to be done about that.
pub(super) fn closing(verdict: &Verdict) -> String {
    let report = &verdict.report;
    if verdict.is_good() {
        return format!(
            "OK: {} of {} frames in order and intact through {} kernel updates, {} of them during the jumps and {} \
             from the first swap of an update to the last; no IOMMU fault, no reset, no stray write; longest gap {:.1} ms.",
            report.frames_received,
            report.frames_sent,
            report.updates,
            report.frames_during_jump,
            report.frames_during_swap,
            report.longest_gap_ms,
        );
    }
    let (mut details, mut faults) = (String::new(), Vec::new());
    for fault in &verdict.faults {
        let first = fault.words.lines().next().unwrap_or_default();
        faults.push(first.trim_end_matches(['.', ':']));
        // What has more to say, such as what to do, says it before.
        if first != fault.words {
            details += &format!("{}\n", fault.words);
        }
    }
    let head = match verdict.ending() {
        Ending::TooSlow => "TOO SLOW TO TELL, nothing is known to be lost",
        _ => "FAILED",
    };
    format!(
        "{details}{head}: {} of {} frames in order and intact; {}.",
        report.frames_received,
        report.frames_sent,
        faults.join("; ")
    )
}
