// SPDX-License-Identifier: GPL-2.0-only

//! What kexec asks.

use hitless_core::record::iommu::Iommu;
use hitless_core::record::log::{
    Object,
    Step, //
};
use hitless_core::rules::image::{
    jump,
    read,
    Held, //
};
use kernel::bindings;
use kernel::prelude::*;

use crate::hardware;
use crate::failure::{
    Failure,
    Text, //
};
use crate::incoming::INCOMING;
use crate::log;
use crate::outgoing::OUTGOING;
use crate::part::{
    leaves_out,
    Part, //
};
use crate::running;
use crate::seam::image::{
    bytes,
    from_c,
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
    let read = to_c(&read(image, next, this, hardware::IN_RECORDS));
    // SAFETY: By the safety requirement.
    unsafe { out.write(read) };
}

/// May the machine jump into an image?
///
/// # Safety
///
/// `image` must be valid.
#[export]
pub(crate) unsafe extern "C" fn hitless_jumps(image: *const bindings::hitless_image) -> c_int {
    if !running::is() {
        return 0;
    }
    log::write(Step::Jump, Object::None);
    // SAFETY: By the safety requirement.
    let image = from_c(unsafe { &*image });
    let mut outgoing = OUTGOING.lock();
    outgoing.jumps_into(image);
    let uses = outgoing.iommu().map(Iommu::uses);
    drop(outgoing);
    let runs = INCOMING.lock().is_any_running();
    match jump(&image, &Held { uses, runs }) {
        Err(refusal) if !leaves_out(Part::Image) => {
            return Failure::from(refusal).report().to_errno();
        }
        Ok(None) if uses.is_some() => log::write(Step::ImageAccepted, Object::None),
        Ok(None) => {}
        Ok(Some(refusal)) | Err(refusal) => {
            pr_emerg!("jumping all the same, though: {}\n", Text(refusal));
            log::write_refusal(Step::ImageOverruled, Object::None, refusal);
        }
    }
    0
}
