// SPDX-License-Identifier: GPL-2.0-only

//! What is to be left alone on a PCI function: bits that hang on the function itself, so that whoever asks needs no lock.
//!
//! They are asked for when a function is found, and renewed whenever what is recorded of it has changed.

use hitless_core::record::pci::{
    DeviceAddress,
    Function,
    Kind, //
};
use kernel::prelude::*;

use crate::incoming::INCOMING;
use crate::outgoing::OUTGOING;
use crate::part::{
    leaves_out,
    Part, //
};
use crate::seam::pci::{
    self,
    Keeps, //
};

kernel::sync::global_lock! {
    // SAFETY: `hitless_init()` initializes it before anything else here runs.
    /// Whoever renews bits holds it: otherwise the last one to write might not be the last one to have looked.
    pub(crate) unsafe(uninit) static RENEWAL: Mutex<()> = ();
}

fn outgoing(function: Option<Function>) -> Keeps {
    let all = Keeps::NONE.and_if(leaves_out(Part::ClearMaster), Keeps::BUS_MASTER);
    match function.map(|function| function.kind) {
        Some(Kind::Endpoint) => all
            .and_if(!leaves_out(Part::BusMaster), Keeps::BUS_MASTER)
            .and_if(true, Keeps::ATTACHED),
        Some(Kind::Bridge) => all.and_if(!leaves_out(Part::BridgeBusMaster), Keeps::BUS_MASTER),
        None => all,
    }
}

fn incoming(function: Option<Function>) -> Keeps {
    let Some(function) = function else {
        return Keeps::NONE;
    };
    Keeps::ATS
        .and_if(!leaves_out(Part::Reset), Keeps::STATE)
        .and_if(!leaves_out(Part::PowerState), Keeps::POWER)
        .and_if(function.kind == Kind::Endpoint, Keeps::CLOSED)
}

/// The bits of the function at an address.
pub(crate) fn of(address: DeviceAddress) -> Keeps {
    let gone = outgoing(OUTGOING.lock().function(address));
    let came = incoming(INCOMING.lock().keeps(address));
    Keeps(gone.0 | came.0)
}

/// What is recorded of a function has changed. May sleep; no lock of hitless may be held.
pub(crate) fn renew(address: DeviceAddress) {
    let _renewal = RENEWAL.lock();
    pci::keep(address, of(address));
}

/// A device that is going to be preserved stays attached to what it is on. Undone by [`renew`], should it not be.
pub(crate) fn hold_attached(address: DeviceAddress) {
    let _renewal = RENEWAL.lock();
    pci::keep(address, of(address).and_if(true, Keeps::ATTACHED));
}
