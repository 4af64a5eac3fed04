// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Everything that was seen of a run, and the account of its frames.

use hitless_proto::tally::Tally;

use crate::evidence::event::Harm;
use crate::evidence::generator::Sent;
use crate::evidence::phases::Phase;
use crate::evidence::trace::Faults;
use crate::evidence::witness::{Landing, Seen};
use crate::machine::clock::Ns;

/// Everything that was seen.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The profile's name.
    pub profile: String,
    /// Updates done.
    pub updates: u32,
    /// Frames per second that were to be sent.
    pub rate: u32,
    /// How long the wire's back-pressure may lag behind the ring's state.
    pub lag: Ns,
    /// Descriptors that the guest holds back for the witness.
    pub held: u32,
    /// `uname -r -v` of each kernel, in order.
    pub kernels: Vec<String>,
    /// What the generator sent.
    pub sent: Sent,
    /// When the generator had stopped.
    pub stopped: Ns,
    /// What landed.
    pub seen: Seen,
    /// The preserved device's faults in QEMU's trace.
    pub traced_faults: Faults,
    /// The second card's from the first jump on: it went on, and reached nothing.
    pub second_card_faults: u64,
    /// Looks at the fault registers that showed one of the preserved device.
    pub recorded_faults: u64,
    /// Looks from the first jump on that showed the unit not translating.
    pub untranslated: u64,
    /// What was done to the device.
    pub harms: Vec<(Ns, Harm)>,
    /// Frames where none may be.
    pub strays: u64,
    /// The timeline.
    pub phases: Vec<Phase>,
    /// Stretches with no kernel, or none that serves the device yet: from the old kernel's leaving to the new user
    /// space's hello.
    pub jumps: Vec<(Ns, Ns)>,
    /// The guest's own count at the end.
    pub guest: Option<Tally>,
    /// Lines of the kernel that say something is wrong.
    pub warnings: Vec<String>,
    /// What else went wrong, in words.
    pub troubles: Vec<String>,
    /// What went wrong because the host was too slow, in words.
    pub slow: Vec<String>,
}

/// What a list of sequence numbers says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) distinct: u64,
    pub(super) duplicated: u64,
    pub(super) reordered: u64,
    pub(super) unknown: u64,
}

/// Counts.
pub(super) fn count_order(landings: &[Landing], sent: u64) -> Order {
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
pub(super) fn longest_gap(evidence: &Evidence) -> Ns {
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

/// Frames that did not land, by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) lost: u64,
    pub(super) not_taken: u64,
    pub(super) held_back: u64,
}

/// What the wire refused while, or a little after, the ring was dry is the host's doing; so is what the card dropped at such
/// a moment, and what still waits in the wire at the end of a run that ends with a dry ring.
pub(super) fn missing(evidence: &Evidence, order: Order) -> Missing {
    let Evidence { sent, seen, .. } = evidence;
    let dry = |at: &&Ns| seen.was_dry(at.saturating_sub(evidence.lag), **at);
    let held = sent.refused.iter().filter(dry).count() as u64;
    let absent = sent.count().saturating_sub(order.distinct);
    let newest = seen
        .landings
        .iter()
        .map(|landing| landing.sequence + 1)
        .max();
    let behind = sent.count().saturating_sub(newest.unwrap_or(0));
    let dropped = dropped(evidence).min(absent - behind.min(absent));
    let ends_dry = seen
        .dry
        .last()
        .is_some_and(|(_, until)| *until >= evidence.stopped);
    let waiting = if ends_dry { behind.min(absent) } else { 0 };
    Missing {
        lost: absent - waiting - dropped,
        not_taken: sent.refused.len() as u64 - held,
        held_back: held + waiting + dropped,
    }
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
