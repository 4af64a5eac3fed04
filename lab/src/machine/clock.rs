// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One clock for everything that is seen in a run.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::trouble::Trouble;

/// Nanoseconds since the run began.
pub type Ns = u64;

/// Nanoseconds in a millisecond.
pub const MS: Ns = 1_000_000;
/// Nanoseconds in a second.
pub const SECOND: Ns = 1_000_000_000;

/// A time of day that has moved by so much against the run's clock was set: no drift is so fast.
const SET: Duration = Duration::from_millis(20);

/// The run's clock. QEMU stamps its log with the time of day, so that too can be turned into the run's time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    unix: Duration,
}

impl Clock {
    /// Starts at zero now.
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
            unix: unix_now(),
        }
    }

    /// The present.
    pub fn now(&self) -> Ns {
        nanoseconds(self.start.elapsed())
    }

    /// Why times of QEMU's trace can not be told, where the time of day was set since the start.
    pub fn trouble(&self) -> Option<Trouble> {
        let moved = self.was_set()?.as_millis();
        Some(Trouble::new(
            format!("the host's clock was set by {moved} ms during the run, so the times in QEMU's trace mean nothing"),
            "run again while nothing sets the clock",
        ))
    }

    /// By how much the time of day was set since the start, if it was: QEMU's stamps do not fit the run's times then.
    fn was_set(&self) -> Option<Duration> {
        let moved = unix_now().abs_diff(self.unix + self.start.elapsed());
        (moved > SET).then_some(moved)
    }

    /// A time of day, given in microseconds since 1970, in the run's time (zero if it was before).
    pub fn of_unix_us(&self, us: u64) -> Ns {
        nanoseconds(Duration::from_micros(us).saturating_sub(self.unix))
    }
}

fn unix_now() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}

/// A duration in nanoseconds; 584 years fit.
pub fn nanoseconds(duration: Duration) -> Ns {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Milliseconds as people read them.
pub fn as_ms(ns: Ns) -> f64 {
    ns as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_becomes_the_runs_time() {
        let clock = Clock {
            start: Instant::now(),
            unix: Duration::from_secs(1_700_000_000),
        };
        assert_eq!(clock.of_unix_us(1_700_000_000_250_000), 250 * MS);
        assert_eq!(clock.of_unix_us(1), 0);
    }

    #[test]
    fn a_time_of_day_that_was_set_is_noticed() {
        let mut clock = Clock::start();
        assert_eq!(clock.was_set(), None);
        clock.unix += Duration::from_millis(500);
        assert!(clock.was_set().is_some(), "set back");
        clock.unix -= Duration::from_secs(1);
        assert!(clock.was_set().is_some(), "set forward");
    }
}
