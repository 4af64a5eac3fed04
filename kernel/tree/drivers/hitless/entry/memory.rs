// SPDX-License-Identifier: GPL-2.0-only

//! What memfds ask.

use hitless_core::rules::memory::stays_pinned;
use kernel::bindings;
use kernel::liveupdate::IncomingFiles;
use kernel::prelude::*;

use crate::incoming::INCOMING;
use crate::luo::IommufdHandler;
use crate::part::{
    leaves_out,
    Part, //
};
use crate::running;

/// May restored tables map memory of this session?
///
/// # Safety
///
/// `args` must be those of a `retrieve` callback that is running.
#[export]
pub(crate) unsafe extern "C" fn hitless_memory_is_mapped(
    args: *const bindings::liveupdate_file_op_args,
) -> bool {
    if !running::is() || leaves_out(Part::Pin) {
        return false;
    }
    // SAFETY: By the safety requirement.
    let files = unsafe { IncomingFiles::from_raw(args) };
    let iommufds = files.data_of::<IommufdHandler>();
    stays_pinned(iommufds.map(|iommufd| INCOMING.lock().is_outstanding(iommufd)))
}
