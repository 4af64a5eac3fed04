// SPDX-License-Identifier: GPL-2.0-only

//! What this kernel does to what is preserved, and when, for those who ask afterwards: here, or in the next kernel.
//!
//! The log is there from the start. While anything is preserved there is a second one, in pages that are handed over. All
//! memory is allocated before it is needed: to add an event is to write some hundred bytes.

use core::time::Duration;

use hitless_core::error::Error as CoreError;
use hitless_core::record::log::{
    Event,
    Log,
    Name,
    Object,
    Step,
    PAGES, //
};
use hitless_core::refusal::Refusal;
use kernel::prelude::*;
use kernel::time::{
    ClockSource,
    Monotonic,
    RealTime, //
};

use crate::lent;

kernel::sync::global_lock! {
    // SAFETY: `hitless_init()` initializes it before anything else here runs.
    /// A leaf that is taken in process context only, and at shutdown.
    pub(crate) unsafe(uninit) static LOGS: SpinLock<Logs> = Logs {
        own: None,
        outgoing: None,
    };
}

/// The log, and the one that is handed over.
pub(crate) struct Logs {
    own: Option<Log<lent::Own>>,
    outgoing: Option<Log<lent::Outgoing>>,
}

impl Logs {
    fn append(&mut self, event: &Event) {
        if let Some(log) = &mut self.own {
            log.append(event);
        }
        if let Some(log) = &mut self.outgoing {
            log.append(event);
        }
    }
}

fn failed(error: CoreError<Error>) -> Error {
    match error {
        CoreError::Lender(error) => error,
        // A new log has nothing in it that could be refused.
        CoreError::Refused(_) => EINVAL,
    }
}

/// Starts the log. May sleep.
pub(crate) fn start() -> Result {
    let log = Log::create(lent::Own::new(), PAGES).map_err(failed)?;
    LOGS.lock().own = Some(log);
    Ok(())
}

/// Hands the log over; gives its physical address. May sleep.
pub(crate) fn preserve() -> Result<u64> {
    let mut outgoing = Log::create(lent::Outgoing::new(), PAGES).map_err(failed)?;
    let phys = outgoing.phys();
    let mut logs = LOGS.lock();
    if let Some(own) = &logs.own {
        outgoing.copy(own);
    }
    logs.outgoing = Some(outgoing);
    Ok(phys)
}

/// Undo of [`preserve`]. May sleep.
pub(crate) fn unpreserve() {
    let outgoing = LOGS.lock().outgoing.take();
    drop(outgoing);
}

/// Time of a clock.
fn now<C: ClockSource>() -> Duration {
    Duration::from_nanos(C::ktime_get().unsigned_abs())
}

fn event(step: Step, object: Object, name: Name) -> Event {
    Event {
        real: now::<RealTime>(),
        monotonic: now::<Monotonic>(),
        step,
        object,
        name,
    }
}

/// A step has been taken. Process context; any lock but that of the log may be held.
pub(crate) fn write(step: Step, object: Object) {
    let event = event(step, object, Name::NONE);
    LOGS.lock().append(&event);
}

/// A step has been taken that a refusal is the reason of, or would have been. Context as of [`write`].
pub(crate) fn write_refusal(step: Step, object: Object, refusal: Refusal) {
    let event = event(step, object, refusal.into());
    LOGS.lock().append(&event);
}

/// A step has been taken at shutdown, with interrupts off. If a CPU was stopped while it held the lock, nothing is written.
pub(crate) fn write_last(step: Step, object: Object) {
    if let Some(mut logs) = LOGS.try_lock() {
        logs.append(&event(step, object, Name::NONE));
    }
}

/// The numbers of the events that can still be read.
pub(crate) fn numbers() -> core::ops::Range<u64> {
    LOGS.lock().own.as_ref().map_or(0..0, Log::numbers)
}

/// The event with a number.
pub(crate) fn read(number: u64) -> Option<Event> {
    LOGS.lock().own.as_ref()?.event(number)
}
