// SPDX-License-Identifier: GPL-2.0-only

//! What VT-d's driver asks.

use hitless_core::iommu::vtd::irq::{
    adopts_irq_table,
    IrqTableFacts, //
};
use hitless_core::iommu::vtd::leave::{
    self,
    Found, //
};
use hitless_core::record::log::{
    Object,
    Step, //
};
use hitless_core::record::pci::DeviceAddress;
use hitless_core::refusal::Refusal;
use kernel::bindings;
use kernel::prelude::*;

use crate::failure::Text;
use crate::hardware::Kind;
use crate::incoming::INCOMING;
use crate::log;
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
use crate::units;
use crate::vtd;
use crate::vtd::adopt::{
    adopt,
    Adopted, //
};
use crate::vtd::scrub::leave_unit;
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
        Ok(None) => match found(&unit) {
            Found::Ordinary => 0,
            Found::Empty => {
                pr_info!("unit at {:#x}: nobody goes on behind it\n", unit.base());
                1
            }
            Found::Translating => {
                pr_err!(
                    "unit at {:#x} was left translating, for unknown devices: it is blocked\n",
                    unit.base()
                );
                ENODEV.to_errno()
            }
        },
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
        units::ready();
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

/// Does a unit go on with the table by which it remaps interrupts?
///
/// # Safety
///
/// `table` must be valid.
#[export]
pub(crate) unsafe extern "C" fn hitless_vtd_adopts_irq_table(
    table: *const bindings::hitless_vtd_irq_table,
) -> bool {
    // SAFETY: By the safety requirement.
    let table = unsafe { &*table };
    match adopts_irq_table(IrqTableFacts(table.facts), table.live, table.wanted) {
        Ok(adopts) => adopts,
        Err(refusal) => {
            pr_warn!(
                "unit at {:#x}: interrupt remapping is off for a moment: {}\n",
                table.register_base,
                Text(refusal)
            );
            false
        }
    }
}

/// How is a unit found, before this kernel has done anything to it?
fn found(unit: &RawUnit) -> Found {
    let root = registers(unit).live_root & ROOT_ADDRESS;
    leave::found(is_translating(unit), is_kho_boot(), root, units::incoming_empty())
}

/// May a device be running on the unit's tables?
///
/// # Safety
///
/// `unit` must be valid.
#[export]
pub(crate) unsafe extern "C" fn hitless_vtd_stays_on(unit: *const bindings::hitless_unit) -> bool {
    // SAFETY: By the safety requirement.
    let unit = RawUnit::new(unsafe { &*unit });
    found(&unit) == Found::Translating
}

/// How is a unit left to the next kernel?
///
/// # Safety
///
/// Both pointers must be valid, `preserved` for writing, the unit's root table must be the one in use, and no one
/// else may be running.
#[export]
pub(crate) unsafe extern "C" fn hitless_vtd_leave(
    unit: *const bindings::hitless_unit,
    preserved: *mut bool,
) -> u64 {
    // SAFETY: By the safety requirement.
    let unit = RawUnit::new(unsafe { &*unit });
    // SAFETY: By the safety requirement.
    unsafe { preserved.write(units::outgoing_empty().is_some()) };
    if !running::is() || leaves_out(Part::Translation) {
        return 0;
    }
    // SAFETY: By the safety requirement.
    let tables = unsafe { LiveTables::new(registers(&unit).root_table) };
    leave_unit(&tables, &vtd::Vtd.unit(&unit), is_translating(&unit)).unwrap_or(0)
}

/// Interrupts are nobody's any more.
#[export]
pub(crate) extern "C" fn hitless_vtd_irq_table_cleared(register_base: u64) {
    if running::is() {
        log::write_last(Step::IrqTableCleared, Object::Unit(register_base));
    }
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
