// SPDX-License-Identifier: GPL-2.0-only

//! The start.

use kernel::bindings;
use kernel::prelude::*;
use kernel::str::CStr;

use crate::incoming::INCOMING;
use crate::keeps::{
    FROZEN,
    RENEWAL, //
};
use crate::log::{
    self,
    LOGS, //
};
use crate::luo;
use crate::outgoing::OUTGOING;
use crate::part;
use crate::previous::{
    self,
    FILES,
    PREVIOUS, //
};
use crate::running;
use crate::units::UNITS;

/// Starts the Rust half.
///
/// # Safety
///
/// Must be called once.
#[export]
pub(crate) unsafe extern "C" fn hitless_init() -> c_int {
    // SAFETY: The function has no requirements.
    let left_out = unsafe { bindings::hitless_left_out() };
    // SAFETY: It gives a string that ends and never changes after boot.
    let left_out = unsafe { CStr::from_char_ptr(left_out) };
    // SAFETY: This function is called once, and nothing uses the lock before it is done.
    unsafe { LOGS.init() };
    // SAFETY: As above.
    unsafe { PREVIOUS.init() };
    // SAFETY: As above.
    unsafe { FILES.init() };
    // SAFETY: As above.
    unsafe { OUTGOING.init() };
    // SAFETY: As above.
    unsafe { INCOMING.init() };
    // SAFETY: As above.
    unsafe { RENEWAL.init() };
    // SAFETY: As above.
    unsafe { FROZEN.init() };
    // SAFETY: As above.
    unsafe { UNITS.init() };
    // The records are fetched inside, which needs the locks only.
    let started = part::leave_out(left_out).and_then(|()| {
        // Nothing depends on the log.
        let logs = log::start();
        luo::register()?;
        logs.and_then(|()| previous::show())
            .unwrap_or_else(|error| pr_warn!("no log: {}\n", error.to_errno()));
        Ok(())
    });
    match started {
        Ok(()) => running::set(),
        // Live update is switched off: there is nothing to preserve with and nothing came.
        Err(error) if error == EOPNOTSUPP => pr_info!("live update is off\n"),
        Err(error) => {
            pr_err!("start failed: {}\n", error.to_errno());
            return error.to_errno();
        }
    }
    0
}
