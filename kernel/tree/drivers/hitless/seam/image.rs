// SPDX-License-Identifier: GPL-2.0-only

//! The image of the next kernel.

use kernel::bindings;

/// Will the next kernel get what is handed over to it? To be asked while files are frozen.
pub(crate) fn takes_over() -> bool {
    // SAFETY: Files are frozen by `kernel_kexec()`, which keeps the image from changing.
    unsafe { bindings::hitless_seam_image_takes_over() }
}
