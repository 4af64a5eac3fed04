// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Everything that was seen of a run, and the account of its frames.

use hitless_proto::tally::Tally;

use crate::evidence::generator::Sent;
use crate::evidence::phases::{Jump, Phase};
use crate::evidence::trace::Findings;
use crate::evidence::witness::{Landing, Seen};
use crate::machine::clock::Ns;

/// Everything that was seen.
#[derive(Debug, Default)]
pub struct Evidence {
    /// The profile's name.
    pub profile: String,
    /// Frames per second that were to be sent.
    pub rate: u32,
    /// How long the wire's back-pressure may lag behind the ring's state.
    pub lag: Ns,
    /// Descriptors that the guest holds back for the witness.
    pub held: u32,
    /// `uname -r -v` of each kernel, in order.
    pub kernels: Vec<String>,
    /// When the first frame was sent.
    pub started: Ns,
    /// What the generator sent.
    pub sent: Sent,
    /// When the generator had stopped.
    pub stopped: Ns,
    /// What landed.
    pub seen: Seen,
    /// What QEMU's trace says.
    pub trace: Findings,
    /// Looks at the fault registers that showed one of the preserved device.
    pub recorded_faults: u64,
    /// Looks from the first jump on that showed the unit not translating.
    pub untranslated: u64,
    /// Frames where none may be.
    pub strays: u64,
    /// The timeline.
    pub phases: Vec<Phase>,
    /// The jumps, one for each update.
    pub jumps: Vec<Jump>,
    /// The guest's own count at the end.
    pub guest: Option<Tally>,
    /// Lines of the kernel that say something is wrong.
    pub warnings: Vec<String>,
    /// What else went wrong, in words.
    pub troubles: Vec<String>,
    /// What went wrong because the host was too slow, in words.
    pub slow: Vec<String>,
}

impl Evidence {
    /// Stretches with no kernel, or none that serves the device yet: from the old kernel's leaving to the new user
    /// space's hello.
    pub(super) fn unserved(&self) -> Vec<(Ns, Ns)> {
        let jumps = self.jumps.iter();
        jumps.map(|jump| (jump.leave, jump.hello)).collect()
    }
}

/// Counts as the guest does. What was never sent is corrupt.
pub(super) fn count(landings: &[Landing], sent: u64) -> Tally {
    let mut tally = Tally::default();
    for landing in landings {
        if landing.sequence < sent {
            tally.good(landing.sequence);
        } else {
            tally.corrupt += 1;
        }
    }
    tally
}

/// The longest time without a landing, from the first frame sent to the moment when the generator had stopped.
pub(super) fn longest_gap(evidence: &Evidence) -> Ns {
    let mut times: Vec<Ns> = evidence.sent.times.first().copied().into_iter().collect();
    times.extend(evidence.seen.landings.iter().map(|landing| landing.at));
    times.push(evidence.stopped);
    let gaps = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
    gaps.max().unwrap_or(0)
}

/// Frames that did not land: lost, not taken and held back. What the wire refused while, or a little after, the ring was dry is the host's doing; so is what the card dropped at such
/// a moment, and what still waits in the wire at the end of a run that ends with a dry ring.
pub(super) fn missing(evidence: &Evidence, distinct: u64) -> (u64, u64, u64) {
    let Evidence { sent, seen, .. } = evidence;
    let dry = |at: &&Ns| seen.was_dry(at.saturating_sub(evidence.lag), **at);
    let held = sent.refused.iter().filter(dry).count() as u64;
    let absent = sent.count().saturating_sub(distinct);
    let next = seen.landings.iter().map(|landing| landing.sequence + 1);
    let behind = sent.count().saturating_sub(next.max().unwrap_or(0));
    let dropped = dropped(evidence).min(absent - behind.min(absent));
    let ends_dry = seen
        .dry
        .last()
        .is_some_and(|(_, until)| *until >= evidence.stopped);
    let waiting = if ends_dry { behind.min(absent) } else { 0 };
    (
        absent - waiting - dropped,
        sent.refused.len() as u64 - held,
        held + waiting + dropped,
    )
}

/// Frames missing between two that landed one after the other, while the card had no descriptor: as a real one does, it drops
/// what it can not put anywhere.
fn dropped(evidence: &Evidence) -> u64 {
    let near = evidence.lag / 20;
    let dry = |from: Ns, to: Ns| evidence.seen.was_dry(from.saturating_sub(near), to + near);
    evidence
        .seen
        .landings
        .windows(2)
        .filter(|pair| dry(pair[0].at, pair[1].at))
        .map(|pair| pair[1].sequence.saturating_sub(pair[0].sequence + 1))
        .sum()
}
