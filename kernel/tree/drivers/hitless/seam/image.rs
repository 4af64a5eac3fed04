// SPDX-License-Identifier: GPL-2.0-only

//! The image of the next kernel.

use kernel::bindings;
use kernel::liveupdate::Freeze;

/// Will the next kernel get what is handed over to it?
pub(crate) fn takes_over(_freeze: &Freeze<'_>) -> bool {
    // SAFETY: Files are being frozen, so by the invariant of `Freeze` the image cannot change.
    unsafe { bindings::hitless_seam_image_takes_over() }
}
