// SPDX-License-Identifier: GPL-2.0-only

//! What is to be left alone on a PCI function: bits that hang on the function itself, so that whoever asks needs no lock.
//!
//! They are asked for when a function is found, and renewed whenever what is recorded of it has changed.

use hitless_core::record::log::{
    Object,
    Step, //
};
use hitless_core::record::pci::{
    DeviceAddress,
    Function,
    Kind, //
};
use hitless_core::refusal::Refusal;
use kernel::prelude::*;

use crate::failure::Outcome;
use crate::incoming::INCOMING;
use crate::log;
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

kernel::sync::global_lock! {
    // SAFETY: `hitless_init()` initializes it before anything else here runs.
    /// Functions of frozen devices. A bridge is there once for each device below it.
    pub(crate) unsafe(uninit) static FROZEN: Mutex<KVec<DeviceAddress>> = KVec::new();
}

/// A device that has been frozen, and the bridges above it: until this is dropped they are neither reset nor changed by user
/// space.
pub(crate) struct Frozen(KVec<DeviceAddress>);

impl Frozen {
    /// May sleep; no lock of hitless may be held. What user space was doing to the functions is over afterwards.
    pub(crate) fn new(functions: impl Iterator<Item = DeviceAddress>) -> Outcome<Self> {
        let mut this = Self(KVec::new());
        for function in functions {
            if this.0.is_empty() {
                log::write(Step::Frozen, Object::Function(function));
            }
            this.0.reserve(1, GFP_KERNEL)?;
            FROZEN.lock().push(function, GFP_KERNEL)?;
            this.0.push(function, GFP_KERNEL)?;
            renew(function);
            if !pci::settle(function) {
                return Err(Refusal::Unsettled.into());
            }
        }
        Ok(this)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for function in &self.0 {
            let mut frozen = FROZEN.lock();
            if let Some(place) = frozen.iter().position(|other| other == function) {
                let _ = frozen.remove(place);
            }
            drop(frozen);
            renew(*function);
        }
        if let Some(device) = self.0.first() {
            log::write(Step::Unfrozen, Object::Function(*device));
        }
    }
}

fn frozen(address: DeviceAddress) -> Keeps {
    let frozen = FROZEN.lock().contains(&address) && !leaves_out(Part::Freeze);
    Keeps::NONE
        .and_if(frozen, Keeps::RESET)
        .and_if(frozen, Keeps::CONFIG)
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
    let incoming_of = INCOMING.lock();
    let came = incoming(incoming_of.keeps(address));
    let runs = incoming_of.runs(address) && !leaves_out(Part::Reset);
    drop(incoming_of);
    let came = came.and_if(runs, Keeps::RESET);
    Keeps(gone.0 | came.0 | frozen(address).0)
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
