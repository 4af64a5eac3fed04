// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One clock for everything that is seen in a run.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the run began.
pub(crate) type Ns = u64;

/// Nanoseconds in a millisecond.
pub(crate) const MS: Ns = 1_000_000;
/// Nanoseconds in a second.
pub(crate) const SECOND: Ns = 1_000_000_000;

/// The run's clock. QEMU stamps its log with the time of day, so that too can be turned into the run's time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    unix: Duration,
}

impl Clock {
    /// Starts at zero now.
    pub(crate) fn start() -> Self {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            start: Instant::now(),
            unix,
        }
    }

    /// The present.
    pub(crate) fn now(&self) -> Ns {
        nanoseconds(self.start.elapsed())
    }

    /// A time of day, given in microseconds since 1970, in the run's time (zero if it was before).
    pub(crate) fn of_unix_us(&self, us: u64) -> Ns {
        nanoseconds(Duration::from_micros(us).saturating_sub(self.unix))
    }
}

/// A duration in nanoseconds; 584 years fit.
pub(crate) fn nanoseconds(duration: Duration) -> Ns {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Milliseconds as people read them.
pub(crate) fn as_ms(ns: Ns) -> f64 {
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
}
