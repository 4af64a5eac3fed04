// SPDX-License-Identifier: GPL-2.0-only

//! Whether hitless has started. Until then, and if it is switched off, every question is answered with no.

use kernel::sync::atomic::{
    Acquire,
    AtomicFlag,
    Release, //
};

static RUNNING: AtomicFlag = AtomicFlag::new(false);

/// Locks and handlers exist.
pub(crate) fn set() {
    RUNNING.store(true, Release);
}

/// Has hitless started? Any context.
pub(crate) fn is() -> bool {
    RUNNING.load(Acquire)
}
