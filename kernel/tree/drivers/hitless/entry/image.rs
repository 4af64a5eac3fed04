// SPDX-License-Identifier: GPL-2.0-only

//! What kexec asks.

use hitless_core::rules::image::read;
use kernel::bindings;
use kernel::prelude::*;

use crate::seam::image::{
    bytes,
    to_c, //
};

/// An image is loaded: can it take over what runs on?
///
/// # Safety
///
/// The bytes must be valid for reading and not change, and `out` valid for writing, during the call.
#[export]
pub(crate) unsafe extern "C" fn hitless_image_loads(
    image: bindings::hitless_bytes,
    next: bindings::hitless_bytes,
    this: bindings::hitless_bytes,
    out: *mut bindings::hitless_image,
) {
    // SAFETY: By the safety requirement.
    let image = unsafe { bytes(image) };
    // SAFETY: As above.
    let next = unsafe { bytes(next) };
    // SAFETY: As above.
    let this = unsafe { bytes(this) };
    let read = to_c(&read(image, next, this));
    // SAFETY: By the safety requirement.
    unsafe { out.write(read) };
}
