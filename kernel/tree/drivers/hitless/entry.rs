// SPDX-License-Identifier: GPL-2.0-only

//! The border to C: what seams ask, and ([`seams`]) what they are asked.
//!
//! The contract is `include/linux/hitless.h`, which also says in which context each function runs.
//! Here values are converted and nothing is decided.

#![expect(unsafe_code, reason = "the border to C; nothing else here is unsafe")]

mod convert;
mod seams;

pub(crate) use self::seams::*;

use hitless_core::model::{
    DeviceAddress,
    DomainKey,
    Kind,
    ReplaceFacts, //
};
use hitless_core::rules;
use hitless_core::rules::replace::Way;
use kernel::bindings;
use kernel::prelude::*;
use kernel::sync::atomic::{
    Acquire,
    AtomicFlag,
    Release, //
};

use crate::errno::{
    Failure,
    Text, //
};
use crate::incoming::{
    has_arrived,
    INCOMING, //
};
use crate::outgoing::{
    KEPT,
    OUTGOING, //
};
use crate::{
    exec,
    records,
    tables,
    vtd, //
};

/// The start has succeeded: locks and handlers exist. Until then, and if hitless is switched off,
/// every question is answered with no.
static RUNNING: AtomicFlag = AtomicFlag::new(false);

/// Whether the previous kernel handed anything over.
fn is_kho_boot() -> bool {
    // SAFETY: The function has no requirements.
    unsafe { bindings::is_kho_boot() }
}

fn is_running() -> bool {
    RUNNING.load(Acquire)
}

/// Starts the Rust half.
///
/// # Safety
///
/// Must be called once.
#[export]
pub(crate) unsafe extern "C" fn hitless_init() -> c_int {
    // SAFETY: This function is called once, and nothing uses the lock before it is done.
    unsafe { OUTGOING.init() };
    // SAFETY: As above.
    unsafe { KEPT.init() };
    // SAFETY: As above.
    unsafe { INCOMING.init() };
    // The records are fetched inside, which needs the locks only.
    match records::start() {
        Ok(()) => RUNNING.store(true, Release),
        // Live update is switched off: there is nothing to preserve with and nothing came.
        Err(error) if error == EOPNOTSUPP => pr_info!("live update is off\n"),
        Err(error) => {
            pr_err!("start failed: {}\n", error.to_errno());
            return error.to_errno();
        }
    }
    0
}

/// Is something about a PCI function to be left alone?
///
/// # Safety
///
/// None.
#[export]
pub(crate) unsafe extern "C" fn hitless_pci_keeps(
    segment: u32,
    bdf: u16,
    what: bindings::hitless_keep,
) -> bool {
    let address = DeviceAddress { segment, bdf };
    if !is_running() {
        return false;
    }
    match what {
        bindings::hitless_keep_HITLESS_KEEP_BUS_MASTER => {
            let device = OUTGOING.lock().device(address);
            match device.map(|device| device.kind) {
                Some(Kind::Endpoint) => !leaves_out(c"bus_master"),
                Some(Kind::Bridge) => !leaves_out(c"bridge_bus_master"),
                None => leaves_out(c"clear_master"),
            }
        }
        bindings::hitless_keep_HITLESS_KEEP_ATTACHED => KEPT.lock().has(address),
        // Whoever switches a device off may be asking: without need no lock is taken.
        _ if !has_arrived() => false,
        bindings::hitless_keep_HITLESS_KEEP_ATS => INCOMING.lock().keeps(address).is_some(),
        bindings::hitless_keep_HITLESS_KEEP_STATE => {
            !leaves_out(c"reset") && INCOMING.lock().keeps(address).is_some()
        }
        bindings::hitless_keep_HITLESS_KEEP_POWER => {
            !leaves_out(c"power_state") && INCOMING.lock().keeps(address).is_some()
        }
        bindings::hitless_keep_HITLESS_KEEP_CLOSED => {
            let kept = INCOMING.lock().keeps(address);
            kept.is_some_and(|device| device.kind == Kind::Endpoint)
        }
        _ => false,
    }
}

/// Are the unit's tables adopted?
///
/// # Safety
///
/// Both pointers must be valid, `root_table` for writing.
#[export]
pub(crate) unsafe extern "C" fn hitless_vtd_adopt(
    unit: *const bindings::hitless_unit,
    root_table: *mut u64,
) -> c_int {
    if leaves_out(c"adopt") {
        return 0;
    }
    // SAFETY: By the safety requirement.
    let unit = unsafe { &*unit };
    let translating = unit.translating != 0;
    let adopted = if is_running() {
        vtd::adopt(&convert::unit(unit), translating)
    } else {
        Ok(None)
    };
    match adopted {
        // The previous kernel left something running that nothing is known of here: without
        // translation it would write wherever its addresses happen to point.
        Ok(None) if translating && is_kho_boot() => {
            pr_err!(
                "unit at {:#x} was left translating, for unknown devices: it is blocked\n",
                unit.register_base
            );
            ENODEV.to_errno()
        }
        Ok(None) => 0,
        Ok(Some(root)) => {
            // SAFETY: By the safety requirement.
            unsafe { root_table.write(root) };
            1
        }
        Err(failure) => {
            pr_err!("unit at {:#x} is blocked\n", unit.register_base);
            failure.report().to_errno()
        }
    }
}

/// A unit's tables are refused by VT-d's seam.
///
/// # Safety
///
/// None.
#[export]
pub(crate) unsafe extern "C" fn hitless_vtd_refuse(register_base: u64) {
    if is_running() && INCOMING.lock().refuse_unit(register_base).is_err() {
        // It counts as running then, which costs memory and nothing else.
        pr_err!("no memory to refuse unit at {:#x}\n", register_base);
    }
}

/// Every unit has its root table.
///
/// # Safety
///
/// None.
#[export]
pub(crate) unsafe extern "C" fn hitless_vtd_ready() {
    if is_running() {
        INCOMING.lock().set_ready();
    }
}

/// A domain id in use in recorded tables.
///
/// # Safety
///
/// None.
#[export]
pub(crate) unsafe extern "C" fn hitless_vtd_domain_id(register_base: u64, index: u32) -> c_int {
    let id = is_running()
        .then(|| usize::try_from(index).ok())
        .flatten()
        .and_then(|index| INCOMING.lock().domain_id(register_base, index));
    id.map_or(ENOENT.to_errno(), c_int::from)
}

/// How a device arrived attached.
///
/// # Safety
///
/// `out` must be valid for writing.
#[export]
pub(crate) unsafe extern "C" fn hitless_vtd_incoming(
    segment: u32,
    bdf: u16,
    out: *mut bindings::hitless_attachment,
) -> c_int {
    if !is_running() {
        return 0;
    }
    let found = INCOMING.lock().attachment(DeviceAddress { segment, bdf });
    match found {
        Ok(None) => 0,
        Ok(Some((attachment, domain))) => {
            let attachment = convert::attachment_to_c(&attachment, &domain);
            // SAFETY: By the safety requirement.
            unsafe { out.write(attachment) };
            1
        }
        Err(failure) => failure.report().to_errno(),
    }
}

/// Does the unit have outgoing devices?
///
/// # Safety
///
/// None.
#[export]
pub(crate) unsafe extern "C" fn hitless_vtd_outgoing(register_base: u64) -> bool {
    is_running() && !leaves_out(c"translation") && vtd::is_outgoing(register_base)
}

/// Clears the entries of all but outgoing devices.
///
/// # Safety
///
/// `unit` must be valid, its root table must be the one in use, and no one else may be running.
#[export]
pub(crate) unsafe extern "C" fn hitless_vtd_scrub(unit: *const bindings::hitless_unit) {
    // SAFETY: By the safety requirement.
    let unit = unsafe { &*unit };
    if is_running() && !leaves_out(c"scrub") {
        vtd::scrub_unit(&table_memory(), &convert::unit(unit));
    }
}

/// Replaces a live translation entry.
///
/// # Safety
///
/// `replace` must be valid, and the entry it speaks of must not change but by this call.
#[export]
pub(crate) unsafe extern "C" fn hitless_vtd_replace(
    replace: *const bindings::hitless_replace,
) -> c_int {
    if leaves_out(c"swap") {
        return EOPNOTSUPP.to_errno();
    }
    if leaves_out(c"plan") {
        return EINVAL.to_errno();
    }
    // SAFETY: By the safety requirement.
    let entry = unsafe { LiveEntry::new(replace) };
    match exec::replace(&entry) {
        Ok(()) => 0,
        Err(failure) => failure.report().to_errno(),
    }
}

/// May a live translation entry be replaced?
///
/// # Safety
///
/// None.
#[export]
pub(crate) unsafe extern "C" fn hitless_vtd_may_replace(facts: u32) -> c_int {
    if !is_enabled() {
        return EOPNOTSUPP.to_errno();
    }
    match rules::replace::way(ReplaceFacts(facts)) {
        Ok(Way::InPlace) => 0,
        Ok(Way::BlockFirst) => EOPNOTSUPP.to_errno(),
        Err(refusal) => Failure::from(refusal).report().to_errno(),
    }
}

/// Shall a domain get the id of the one that it replaces?
///
/// # Safety
///
/// `id_use` must be valid.
#[export]
pub(crate) unsafe extern "C" fn hitless_vtd_hands_over(
    id_use: *const bindings::hitless_id_use,
) -> bool {
    // SAFETY: By the safety requirement.
    let id_use = unsafe { &*id_use };
    rules::domain_id::hands_over(&convert::id_use(id_use))
}

/// A restored domain is gone from hardware and caches.
///
/// # Safety
///
/// None.
#[export]
pub(crate) unsafe extern "C" fn hitless_domain_release(domain: u64) {
    if !is_running() {
        return;
    }
    // Freeing may take a while: the lock is not held for it.
    let released = DomainKey::from_u64(domain).and_then(|key| INCOMING.lock().release(key));
    if let Some(released) = released {
        tables::release(&released);
        pr_info!("released domain {}: {} tables\n", domain, released.tables);
    }
}

/// How many devices arrived on a restored domain and still use it.
///
/// # Safety
///
/// None.
#[export]
pub(crate) unsafe extern "C" fn hitless_domain_devices(domain: u64) -> c_uint {
    let devices = DomainKey::from_u64(domain)
        .filter(|_| is_running())
        .map_or(0, |key| INCOMING.lock().devices_of(key));
    c_uint::try_from(devices).unwrap_or(c_uint::MAX)
}

/// A device is not on its restored domain any more.
///
/// # Safety
///
/// None.
#[export]
pub(crate) unsafe extern "C" fn hitless_device_left(segment: u32, bdf: u16) {
    if is_running() {
        INCOMING.lock().device_left(DeviceAddress { segment, bdf });
    }
}

/// A device that arrived was stopped.
///
/// # Safety
///
/// None.
#[export]
pub(crate) unsafe extern "C" fn hitless_device_stopped(segment: u32, bdf: u16) {
    let address = DeviceAddress { segment, bdf };
    if is_running() && INCOMING.lock().device_stopped(address).is_err() {
        // It is kept for a user who cannot take it, which costs the device and nothing else.
        pr_err!("no memory to give device {} up\n", Text(address));
    }
}

/// The domain of a HWPT of an incoming iommufd.
///
/// # Safety
///
/// `domain` must be valid for writing.
#[export]
pub(crate) unsafe extern "C" fn hitless_iommufd_restore(
    iommufd: u64,
    token: u64,
    domain: *mut u64,
) -> c_int {
    if !is_running() {
        return ENOENT.to_errno();
    }
    let key = INCOMING.lock().domain(iommufd, token);
    match key {
        Some(key) => {
            // SAFETY: By the safety requirement.
            unsafe { domain.write(key.get().into()) };
            pr_info!("restored domain {} with token {:#x}\n", key.get(), token);
            0
        }
        None => ENOENT.to_errno(),
    }
}

/// May a device bind to an iommufd?
///
/// # Safety
///
/// `token` must be valid for writing.
#[export]
pub(crate) unsafe extern "C" fn hitless_iommufd_binds(
    iommufd: u64,
    segment: u32,
    bdf: u16,
    token: *mut u64,
) -> c_int {
    if !is_running() {
        return 0;
    }
    let address = DeviceAddress { segment, bdf };
    let answer = INCOMING.lock().binds(iommufd, address);
    match answer {
        Ok(None) => 0,
        Ok(Some(hwpt)) => {
            // SAFETY: By the safety requirement.
            unsafe { token.write(hwpt) };
            1
        }
        Err(error) => Failure::from(error).report().to_errno(),
    }
}

/// Does a restored table map a memfd?
///
/// # Safety
///
/// None.
#[export]
pub(crate) unsafe extern "C" fn hitless_memory_is_mapped(serialized_data: u64) -> bool {
    is_running() && !leaves_out(c"pin") && INCOMING.lock().maps(serialized_data)
}
