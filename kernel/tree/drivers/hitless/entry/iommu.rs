// SPDX-License-Identifier: GPL-2.0-only

//! What the IOMMU core and the drivers of units ask, whatever the hardware.

use hitless_core::model::{
    ArrivalFacts,
    DeviceAddress,
    DomainKey, //
};
use hitless_core::rules::arrival::{
    arrival,
    Arrival,
    Recorded, //
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
use crate::seam::convert;
use crate::tables;

const ORDINARY: bindings::hitless_arrival = bindings::hitless_arrival_HITLESS_ARRIVES_ORDINARY;
const RESTORED: bindings::hitless_arrival = bindings::hitless_arrival_HITLESS_ARRIVES_RESTORED;
const STOPPED: bindings::hitless_arrival = bindings::hitless_arrival_HITLESS_ARRIVES_STOPPED;

/// How does a device that is probed go on?
///
/// # Safety
///
/// `out` must be valid for writing.
#[export]
pub(crate) unsafe extern "C" fn hitless_iommu_arrives(
    segment: u32,
    bdf: u16,
    facts: u32,
    out: *mut bindings::hitless_attachment,
) -> bindings::hitless_arrival {
    let address = DeviceAddress { segment, bdf };
    if leaves_out(Part::DefaultDomain) {
        return ORDINARY;
    }
    // Even if hitless is switched off: a device may be running that this kernel knows nothing of.
    let recorded = if running::is() {
        INCOMING.lock().recorded(address)
    } else {
        Recorded::Nothing
    };
    match arrival(ArrivalFacts(facts), recorded) {
        Arrival::Ordinary => ORDINARY,
        Arrival::Stopped(refusal) => {
            pr_err!("device {}: {}: stopped\n", Text(address), Text(refusal));
            STOPPED
        }
        Arrival::Restored => match INCOMING.lock().attachment(address) {
            Ok(Some((attachment, domain))) => {
                let attachment = convert::attachment_to_c(&attachment, &domain);
                // SAFETY: By the safety requirement.
                unsafe { out.write(attachment) };
                RESTORED
            }
            _ => STOPPED,
        },
    }
}

/// A device that arrived was stopped.
///
/// # Safety
///
/// None.
#[export]
pub(crate) unsafe extern "C" fn hitless_iommu_stopped(segment: u32, bdf: u16) {
    let address = DeviceAddress { segment, bdf };
    if !running::is() {
        return;
    }
    let stopped = INCOMING.lock().device_stopped(address);
    if stopped.is_err() {
        // It is kept for a user who cannot take it, which costs the device and nothing else.
        pr_err!("no memory to give device {} up\n", Text(address));
    }
    keeps::renew(address);
}

/// A device does not use its restored domain any more.
///
/// # Safety
///
/// None.
#[export]
pub(crate) unsafe extern "C" fn hitless_iommu_left(segment: u32, bdf: u16, took_id: bool) -> c_int {
    let address = DeviceAddress { segment, bdf };
    if !running::is() {
        return -1;
    }
    let unused = INCOMING.lock().device_left(address);
    unused.filter(|_| !took_id).map_or(-1, c_int::from)
}

/// How many devices that arrived on a restored domain still use it.
///
/// # Safety
///
/// None.
#[export]
pub(crate) unsafe extern "C" fn hitless_iommu_users(domain: u64) -> c_uint {
    let devices = DomainKey::from_u64(domain)
        .filter(|_| running::is())
        .map_or(0, |key| INCOMING.lock().devices_of(key));
    c_uint::try_from(devices).unwrap_or(c_uint::MAX)
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

/// Facts by the names of core and of the contract, which must be the same bits.
const _: () = {
    assert!(ArrivalFacts::ALONE == bindings::HITLESS_ARRIVES_ALONE);
    assert!(ArrivalFacts::BUS_MASTER == bindings::HITLESS_ARRIVES_BUS_MASTER);
    assert!(ArrivalFacts::BLOCKED == bindings::HITLESS_ARRIVES_BLOCKED);
};
