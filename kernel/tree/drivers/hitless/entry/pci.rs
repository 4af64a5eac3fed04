// SPDX-License-Identifier: GPL-2.0-only

//! What PCI asks.

use hitless_core::record::pci::DeviceAddress;
use hitless_core::rules::pci::{
    found,
    Found,
    FoundFacts, //
};
use kernel::bindings;
use kernel::prelude::*;

use crate::failure::Text;
use crate::incoming::INCOMING;
use crate::keeps;
use crate::part::{
    leaves_out,
    Part, //
};
use crate::running;
use crate::seam::pci::identity_of;

/// What is to be left alone on a function that has been found, and may it go on?
///
/// # Safety
///
/// Both pointers must be valid, `stop` for writing.
#[export]
pub(crate) unsafe extern "C" fn hitless_pci_arrives(
    function: *const bindings::hitless_pci_function,
    stop: *mut bool,
) -> c_ulong {
    // SAFETY: By the safety requirement.
    let function = unsafe { &*function };
    let address = DeviceAddress {
        segment: function.segment,
        bdf: function.bdf,
    };
    let facts = FoundFacts(function.facts);
    // Even if hitless is switched off a device may be running, which this kernel knows nothing of.
    let recorded = if running::is() {
        INCOMING.lock().keeps(address)
    } else {
        None
    };
    match found(facts, recorded.as_ref(), &identity_of(function)) {
        _ if leaves_out(Part::Found) => {}
        Found::Ordinary | Found::Running => {}
        Found::Stopped(refusal) => {
            // SAFETY: By the safety requirement.
            unsafe { stop.write(true) };
            if recorded.is_some() {
                pr_err!("device {}: {}\n", Text(address), Text(refusal));
                INCOMING.lock().device_refused(address, refusal);
            }
        }
    }
    if running::is() {
        keeps::of(address).0
    } else {
        0
    }
}
