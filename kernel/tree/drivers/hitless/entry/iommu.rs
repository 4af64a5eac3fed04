// SPDX-License-Identifier: GPL-2.0-only

//! What the IOMMU core and the drivers of units ask, whatever the hardware.

use hitless_core::record::attachment::DomainKey;
use hitless_core::record::pci::DeviceAddress;
use hitless_core::record::set::Verdict;
use hitless_core::rules::pci::{
    arrival,
    Arrival,
    ArrivalFacts, //
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
use crate::seam::pci::PciFunction;
use crate::tables;

const ORDINARY: bindings::hitless_arrival = bindings::hitless_arrival_HITLESS_ARRIVES_ORDINARY;
const RESTORED: bindings::hitless_arrival = bindings::hitless_arrival_HITLESS_ARRIVES_RESTORED;
const STOPPED: bindings::hitless_arrival = bindings::hitless_arrival_HITLESS_ARRIVES_STOPPED;

/// How does a device that is probed go on?
///
/// # Safety
///
/// `domain` must be valid for writing.
#[export]
pub(crate) unsafe extern "C" fn hitless_iommu_arrives(
    segment: u32,
    bdf: u16,
    facts: u32,
    domain: *mut u64,
) -> bindings::hitless_arrival {
    let address = DeviceAddress { segment, bdf };
    let facts = ArrivalFacts(facts);
    if leaves_out(Part::DefaultDomain) {
        return ORDINARY;
    }
    // Even if hitless is switched off a device may be running, which this kernel knows nothing of.
    let arrives = if running::is() {
        INCOMING.lock().arrival(address, facts)
    } else {
        arrival(facts, &Verdict::Unknown, false)
    };
    match arrives {
        Arrival::Ordinary => ORDINARY,
        Arrival::Stopped(refusal) => {
            pr_err!("device {}: {}: stopped\n", Text(address), Text(refusal));
            STOPPED
        }
        Arrival::Restored(key) => {
            // SAFETY: By the safety requirement.
            unsafe { domain.write(key.get().into()) };
            pr_info!("device {} goes on with restored domain {}\n", Text(address), key.get());
            RESTORED
        }
    }
}

/// A device that arrived was stopped.
///
/// # Safety
///
/// `pdev` must be valid.
#[export]
pub(crate) unsafe extern "C" fn hitless_iommu_stopped(pdev: *mut bindings::pci_dev) {
    // SAFETY: By the safety requirement.
    let Some(function) = unsafe { PciFunction::of(pdev) }.filter(|_| running::is()) else {
        return;
    };
    INCOMING.lock().device_stopped(function.address());
    keeps::renew(&function);
}

/// A device does not use its restored domain any more.
///
/// # Safety
///
/// `pdev` must be valid.
#[export]
pub(crate) unsafe extern "C" fn hitless_iommu_left(
    pdev: *mut bindings::pci_dev,
    took_id: bool,
) -> c_int {
    // SAFETY: By the safety requirement.
    let Some(function) = unsafe { PciFunction::of(pdev) }.filter(|_| running::is()) else {
        return -1;
    };
    let unused = INCOMING.lock().device_left(function.address());
    // Its user may reset it again.
    keeps::renew(&function);
    unused
        .filter(|_| !took_id)
        .and_then(|id| c_int::try_from(id).ok())
        .unwrap_or(-1)
}

/// How many devices that arrived on a restored domain still use it.
///
/// # Safety
///
/// None.
#[export]
pub(crate) unsafe extern "C" fn hitless_iommu_users(domain: u64) -> c_uint {
    DomainKey::from_u64(domain)
        .filter(|_| running::is())
        .map_or(0, |key| INCOMING.lock().users(key))
}

/// A restored domain is gone from hardware and caches.
///
/// # Safety
///
/// None.
#[export]
pub(crate) unsafe extern "C" fn hitless_iommu_release(domain: u64) {
    if !running::is() {
        return;
    }
    // Freeing may take a while: the lock is not held for it.
    let released = DomainKey::from_u64(domain).and_then(|key| INCOMING.lock().release(key));
    if let Some(released) = released {
        tables::release(&released);
        pr_info!("released domain {}: {} tables\n", domain, released.tables);
    }
}
