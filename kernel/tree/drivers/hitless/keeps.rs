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
use kernel::rbtree::RBTree;

use crate::failure::Outcome;
use crate::incoming::INCOMING;
use crate::log;
use crate::outgoing::OUTGOING;
use crate::part::{
    leaves_out,
    Part, //
};
use crate::seam::pci::{
    Keeps,
    PciFunction, //
};

kernel::sync::global_lock! {
    // SAFETY: `hitless_init()` initializes it before anything else here runs.
    /// Whoever renews bits holds it: otherwise the last one to write might not be the last one to have looked.
    pub(crate) unsafe(uninit) static RENEWAL: Mutex<()> = ();
}

kernel::sync::global_lock! {
    // SAFETY: `hitless_init()` initializes it before anything else here runs.
    /// How many frozen devices a function belongs to, by its address: a bridge belongs to each device below it.
    pub(crate) unsafe(uninit) static FROZEN: Mutex<Option<RBTree<DeviceAddress, usize>>> = None;
}

fn count_in(address: DeviceAddress) -> Result {
    let mut frozen = FROZEN.lock();
    let frozen = frozen.get_or_insert_with(RBTree::new);
    if let Some(devices) = frozen.get_mut(&address) {
        *devices += 1;
    } else {
        frozen.try_create_and_insert(address, 1, GFP_KERNEL)?;
    }
    Ok(())
}

/// Undo of [`count_in`].
fn count_out(address: DeviceAddress) {
    let mut frozen = FROZEN.lock();
    let Some(frozen) = &mut *frozen else {
        return;
    };
    if let Some(devices) = frozen.get_mut(&address) {
        *devices -= 1;
        if *devices == 0 {
            frozen.remove(&address);
        }
    }
}

/// How long user space may take to end what it is doing to a function. Who unbinds a driver from a preserved device holds
/// its lock for ever.
const PATIENCE_MS: u32 = 1000;

/// A device that is to go on, and the bridges above it, nearest first. While they are frozen they are neither reset nor
/// changed by user space; dropping this unfreezes them.
pub(crate) struct Path {
    functions: KVec<PciFunction>,
    /// So many of them, from the first one on, are frozen.
    frozen: usize,
}

impl Path {
    /// The functions at these addresses.
    pub(crate) fn find(addresses: impl Iterator<Item = DeviceAddress>) -> Outcome<Self> {
        let mut functions = KVec::new();
        for address in addresses {
            let function = PciFunction::find(address).ok_or(Refusal::OtherDevice)?;
            functions.push(function, GFP_KERNEL)?;
        }
        Ok(Self {
            functions,
            frozen: 0,
        })
    }

    /// What is recorded of them has changed. Context as for [`renew`].
    pub(crate) fn renew(&self) {
        self.functions.iter().for_each(renew);
    }

    /// May sleep; no lock of hitless may be held. What user space was doing to the functions is over afterwards.
    pub(crate) fn freeze(&mut self) -> Outcome {
        self.log(Step::Frozen);
        for function in &self.functions {
            count_in(function.address())?;
            self.frozen += 1;
            renew(function);
            if !function.settle(PATIENCE_MS) {
                return Err(Refusal::Unsettled.into());
            }
        }
        Ok(())
    }

    /// Undo of [`Self::freeze`], also of one that has failed.
    pub(crate) fn unfreeze(&mut self) {
        if self.frozen == 0 {
            return;
        }
        for function in self.functions.iter().take(self.frozen) {
            count_out(function.address());
            renew(function);
        }
        self.frozen = 0;
        self.log(Step::Unfrozen);
    }

    fn log(&self, step: Step) {
        if let Some(device) = self.functions.first() {
            log::write(step, Object::Function(device.address()));
        }
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.unfreeze();
    }
}

fn frozen(address: DeviceAddress) -> Keeps {
    let frozen = FROZEN.lock();
    let frozen = frozen.as_ref().is_some_and(|frozen| frozen.get(&address).is_some());
    let frozen = frozen && !leaves_out(Part::Freeze);
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
pub(crate) fn renew(function: &PciFunction) {
    let _renewal = RENEWAL.lock();
    function.keep(of(function.address()));
}

/// As [`renew`], of the function at an address, if there is one.
pub(crate) fn renew_at(address: DeviceAddress) {
    if let Some(function) = PciFunction::find(address) {
        renew(&function);
    }
}

/// A device that is going to be preserved stays attached to what it is on. Undone by [`renew`], should it not be.
pub(crate) fn hold_attached(function: &PciFunction) {
    let _renewal = RENEWAL.lock();
    function.keep(of(function.address()).and_if(true, Keeps::ATTACHED));
}
