// SPDX-License-Identifier: GPL-2.0-only

//! What power management asks, and kexec of an image that comes back.

use kernel::prelude::*;

use crate::incoming::INCOMING;
use crate::outgoing::OUTGOING;
use crate::part::{
    leaves_out,
    Part, //
};
use crate::running;

/// May the machine sleep? From then on nothing is preserved.
#[export]
pub(crate) extern "C" fn hitless_sleeps() -> c_int {
    if !running::is() || leaves_out(Part::Sleep) {
        return 0;
    }
    // What came can only become less.
    let unfinished = !INCOMING.lock().is_finished();
    let slept = OUTGOING.lock().sleep(unfinished);
    slept.map_or_else(|failure| failure.report().to_errno(), |()| 0)
}

/// The machine is awake.
#[export]
pub(crate) extern "C" fn hitless_wakes() {
    if running::is() {
        OUTGOING.lock().wake();
    }
}
