// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What this host can take: how fast it booted the machine tells how long the card will be without anybody who serves
//! its ring, and so how many frames per second the ring can hold.

use std::time::Duration;

use hitless_proto::layout::{repost_lag, MAX_RING, MIN_RING};

use crate::build::kernel::config::Config;
use crate::trouble::Trouble;

/// The ring lasts for so many times what is expected: the host may get busier after it was measured.
const RESERVE: f64 = 3.0;
/// The fewest frames per second that show anything: some land in each short phase.
pub const LOWEST: u32 = 100;
/// Rates are lowered to a multiple of this.
const ROUND: u32 = 50;

/// Frames per second that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// So many, or fewer if the host can not take them.
    AtMost(u32),
    /// So many, whatever the host is.
    Exactly(u32),
}

impl Rate {
    /// The figure.
    pub fn wanted(self) -> u32 {
        match self {
            Self::AtMost(rate) | Self::Exactly(rate) => rate,
        }
    }

    /// No more than `most`, where it is not the user's own.
    pub fn capped(self, most: u32) -> Self {
        match self {
            Self::AtMost(rate) => Self::AtMost(rate.min(most)),
            exact @ Self::Exactly(_) => exact,
        }
    }
}

/// Up to so many frames per second memory is filled before the ring is served again: what is not preserved shows earlier.
const FILLED_FIRST: u32 = 2500;

/// Seconds that a quiet host with two cores takes from QEMU's start to the guest's hello; from the order to jump until the
/// ring is served again; and to fill memory, where that is done before.
fn reference(config: Config) -> [f64; 3] {
    match config {
        Config::Hitless | Config::Off => [1.6, 1.9, 1.6],
        // The ring does not last while this kernel fills memory: that is done later.
        Config::Debug => [9.5, 8.5, 0.0],
    }
}

/// How fast this host is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// How many times as long as on the reference host everything takes, at least 1.
    slowness: f64,
    config: Config,
}

/// What is sent, into what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Frames per second.
    pub rate: u32,
    /// Descriptors in the first card's ring.
    pub ring: u32,
    /// Memory is filled before the ring is served again.
    pub fills_first: bool,
    /// What the user should know of it.
    pub remark: Option<String>,
}

impl Pace {
    /// A host that boots a machine with this kernel in such a time.
    pub fn of_boot(boot: Duration, config: Config) -> Self {
        let slowness = (boot.as_secs_f64() / reference(config)[0]).max(1.0);
        Self { slowness, config }
    }

    /// A limit of the reference host, on this one.
    pub fn patience(self, limit: Duration) -> Duration {
        limit.mul_f64(self.slowness)
    }

    /// How long a full ring has to last.
    fn needed(self, fills_first: bool) -> f64 {
        let [_, jump, fill] = reference(self.config);
        let unserved = if fills_first { jump + fill } else { jump };
        unserved * self.slowness * RESERVE
    }

    /// The rate at which the largest ring lasts so long: what the guest holds back of it is not posted.
    fn most(needed: f64) -> u32 {
        let posted = f64::from(MAX_RING - repost_lag(MAX_RING));
        let most = (posted / needed) as u32;
        (most / ROUND * ROUND).max(LOWEST)
    }

    /// The rate and the ring for a rate that is asked for.
    pub fn choose(self, wanted: Rate) -> Choice {
        let fills_first = wanted.wanted() <= FILLED_FIRST;
        let needed = self.needed(fills_first);
        let most = Self::most(needed);
        let rate = match wanted {
            Rate::AtMost(rate) => rate.min(most),
            Rate::Exactly(rate) => rate,
        };
        let remark = (wanted.wanted() > most).then(|| {
            let host = format!(
                "this host boots the machine {:.1} times as slowly as the reference, and the card's ring holds {most} frames/s over a jump",
                self.slowness
            );
            match wanted {
                Rate::AtMost(asked) => format!("{host}: {rate} frames/s instead of {asked}"),
                Rate::Exactly(_) => format!("warning: {host}: at the {rate} asked for it may run dry"),
            }
        });
        // What the guest holds back comes on top, where there is room.
        let lasting = (f64::from(rate) * needed) as u32;
        let ring = lasting.saturating_add(repost_lag(MAX_RING).min(lasting / 3));
        let ring = (ring / 8 * 8).clamp(MIN_RING, MAX_RING);
        Choice {
            rate,
            ring,
            fills_first,
            remark,
        }
    }
}

/// The host, and not the guest or the kernel, is why nothing is shown.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TooSlow(pub Trouble);

impl TooSlow {
    /// With what there is to do about it.
    pub fn new(cause: impl Into<String>) -> Self {
        Self(Trouble::new(
            cause,
            "use a lower --rate, or run it when the host has less to do",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hitless_proto::layout::ring_is_valid;

    fn pace(slowness: f64) -> Pace {
        let boot = Duration::from_secs_f64(reference(Config::Hitless)[0] * slowness);
        Pace::of_boot(boot, Config::Hitless)
    }

    #[test]
    fn every_rate_has_a_ring() {
        for slowness in [0.5, 1.0, 4.0, 40.0] {
            for rate in [1, 7, 100, 2000, 4000, 20_000] {
                let choice = pace(slowness).choose(Rate::Exactly(rate).capped(1));
                assert!(ring_is_valid(choice.ring), "{rate}: {choice:?}");
                assert_eq!(choice.rate, rate);
                assert!(choice
                    .remark
                    .is_none_or(|remark| remark.starts_with("warning")));
            }
        }
    }

    #[test]
    fn a_fast_host_gets_what_is_asked_for() {
        assert!(pace(4.0).choose(Rate::Exactly(2000)).remark.is_some());
        let choice = pace(0.3).choose(Rate::AtMost(2000));
        assert_eq!((choice.rate, choice.remark), (2000, None));
        assert!(choice.fills_first && choice.ring >= 2000 * 10);
        let fast = pace(1.2).choose(Rate::AtMost(4000));
        assert_eq!((fast.rate, fast.fills_first), (4000, false));
    }

    #[test]
    fn on_a_host_a_quarter_as_fast_the_ring_still_lasts() {
        let slow = pace(4.0);
        let choice = slow.choose(Rate::AtMost(2000));
        let lasts = f64::from(choice.ring - repost_lag(choice.ring)) / f64::from(choice.rate);
        assert!(lasts >= 4.0 * 3.5 * 2.5, "{choice:?}");
        assert!(choice.rate < 2000 && choice.rate >= LOWEST);
        let remark = choice.remark.expect("it is said");
        assert!(remark.contains("4.0 times") && remark.ends_with("instead of 2000"));
        let second = Duration::from_secs(1);
        assert_eq!(slow.patience(second), 4 * second);
    }
}
