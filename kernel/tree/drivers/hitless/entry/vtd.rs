// SPDX-License-Identifier: GPL-2.0-only

//! What VT-d's driver asks.

use hitless_core::record::pci::DeviceAddress;
use hitless_core::refusal::Refusal;
use kernel::bindings;
use kernel::prelude::*;

use crate::hardware::Kind;
use crate::incoming::INCOMING;
use crate::part::{
    leaves_out,
    Part, //
};
use crate::running;
use crate::seam::iommu::RawUnit;
use crate::seam::vtd::{
    device_tables_to_c,
    is_translating,
    registers,
    LiveEntry,
    LiveTables, //
};
use crate::vtd;
use crate::vtd::adopt::{
    adopt,
    Adopted, //
};
use crate::vtd::scrub::{
    is_outgoing,
    scrub_unit, //
};
use crate::vtd::swap::{
    swap,
    Swapped, //
};

/// Address bits of the Root Table Address Register (VT-d 11.4.5).
const ROOT_ADDRESS: u64 = !0xfff;

/// Whether the previous kernel handed anything over.
fn is_kho_boot() -> bool {
    // SAFETY: The function has no requirements.
    unsafe { bindings::is_kho_boot() }
}

/// To C, which frees the array with `kfree()`.
fn adopted_to_c(adopted: Adopted) -> bindings::hitless_vtd_adopted {
    let (ids, count, capacity) = adopted.ids.into_raw_parts();
    bindings::hitless_vtd_adopted {
        root_table: adopted.root_table,
        // Nothing has been allocated for an array without room.
        ids: if capacity == 0 {
            core::ptr::null_mut()
        } else {
            ids
        },
        // CAST: There are at most 65,536 ids.
        count: count as u32,
    }
}

/// Does a unit go on with the tables it has?
///
/// # Safety
///
/// Both pointers must be valid, `out` for writing.
#[export]
pub(crate) unsafe extern "C" fn hitless_vtd_adopt(
    unit: *const bindings::hitless_unit,
    out: *mut bindings::hitless_vtd_adopted,
) -> c_int {
    if leaves_out(Part::Adopt) {
        return 0;
    }
    // SAFETY: By the safety requirement.
    let unit = RawUnit::new(unsafe { &*unit });
    let translating = is_translating(&unit);
    // SAFETY: It is what the unit's register names, and the unit's driver does not use the tables yet.
    let tables = unsafe { LiveTables::new(registers(&unit).live_root & ROOT_ADDRESS) };
    let adopted = if running::is() {
        adopt(&tables, &vtd::Vtd.unit(&unit), translating)
    } else {
        Ok(None)
    };
    match adopted {
        // The previous kernel left something running that nothing is known of here: without
        // translation it would write wherever its addresses happen to point.
        Ok(None) if translating && is_kho_boot() => {
            pr_err!(
                "unit at {:#x} was left translating, for unknown devices: it is blocked\n",
                unit.base()
            );
            ENODEV.to_errno()
        }
        Ok(None) => 0,
        Ok(Some(adopted)) => {
            // SAFETY: By the safety requirement.
            unsafe { out.write(adopted_to_c(adopted)) };
            1
        }
        Err(failure) => {
            pr_err!("unit at {:#x} is blocked\n", unit.base());
            failure.report().to_errno()
        }
    }
}

/// A unit's tables are refused after all.
///
/// # Safety
///
/// None.
#[export]
pub(crate) unsafe extern "C" fn hitless_vtd_refuse(register_base: u64) {
    if running::is() {
        let mut incoming = INCOMING.lock();
        incoming
            .records()
            .unit_refused(register_base, Refusal::UnitRefused);
    }
}

/// Every unit has its root table.
///
/// # Safety
///
/// None.
#[export]
pub(crate) unsafe extern "C" fn hitless_vtd_ready() {
    if running::is() {
        INCOMING.lock().records().set_ready();
    }
}

/// Which PASID directory did a device arrive with?
///
/// # Safety
///
/// `out` must be valid for writing.
#[export]
pub(crate) unsafe extern "C" fn hitless_vtd_arrived(
    segment: u32,
    bdf: u16,
    out: *mut bindings::hitless_vtd_attachment,
) -> bool {
    if !running::is() || leaves_out(Part::PasidTable) {
        return false;
    }
    let Some(tables) = vtd::arrived(DeviceAddress { segment, bdf }) else {
        return false;
    };
    // SAFETY: By the safety requirement.
    unsafe { out.write(device_tables_to_c(&tables)) };
    true
}

/// Does the unit have outgoing devices?
///
/// # Safety
///
/// None.
#[export]
pub(crate) unsafe extern "C" fn hitless_vtd_outgoing(register_base: u64) -> bool {
    running::is() && !leaves_out(Part::Translation) && is_outgoing(register_base)
}

/// Clears the entries of all but outgoing devices.
///
/// # Safety
///
/// `unit` must be valid, its root table must be the one in use, and no one else may be running.
#[export]
pub(crate) unsafe extern "C" fn hitless_vtd_scrub(unit: *const bindings::hitless_unit) {
    // SAFETY: By the safety requirement.
    let unit = RawUnit::new(unsafe { &*unit });
    if !running::is() || leaves_out(Part::Scrub) {
        return;
    }
    // SAFETY: By the safety requirement.
    let tables = unsafe { LiveTables::new(registers(&unit).root_table) };
    scrub_unit(&tables, &vtd::Vtd.unit(&unit));
}

/// Changes a live entry with no moment at which DMA faults.
///
/// # Safety
///
/// `raw` must be valid, and the entry it speaks of and the unit's domain ids must not change but by
/// this call.
#[export]
pub(crate) unsafe extern "C" fn hitless_vtd_swap(raw: *mut bindings::hitless_vtd_swap) -> c_int {
    if !running::is() || leaves_out(Part::Swap) {
        return EOPNOTSUPP.to_errno();
    }
    // SAFETY: By the safety requirement.
    let entry = unsafe { LiveEntry::new(raw) };
    match swap(entry) {
        Ok(Swapped::Done) => 0,
        Ok(Swapped::BlockFirst) => EOPNOTSUPP.to_errno(),
        Err(failure) => failure.report().to_errno(),
    }
}
