// SPDX-License-Identifier: GPL-2.0-only

//! What the glue needs of a kind of IOMMU hardware.

use hitless_core::iommu::pt::table::Table;
use hitless_core::record::attachment::{
    Attachment,
    Translation,
    Unit, //
};
use hitless_core::record::hardware::Kinds;

use crate::failure::Outcome;
use crate::seam::iommu::{
    RawAttachment,
    RawUnit, //
};

/// The kinds that records may speak of.
pub(crate) const IN_RECORDS: Kinds = &[&hitless_core::iommu::vtd::record::VTD];

/// A kind of hardware.
pub(crate) trait Kind: Sync {
    /// Its number in records and in the contract with C.
    fn number(&self) -> u32;

    /// A unit of this kind, as records have it.
    fn unit(&self, unit: &RawUnit) -> Unit;

    /// How a unit of this kind translates for a device.
    fn translation(&self, attachment: &RawAttachment) -> Outcome<Translation>;

    /// The table by which the unit with a number, from 0 on, remaps interrupts, if it does. `None`: there is no such
    /// unit.
    fn irq_table(&self, index: u32) -> Option<Option<u64>>;

    /// Do the unit's tables say of a device what is recorded? What the next kernel would refuse is refused here, while
    /// nothing has happened yet.
    fn check(&self, unit: &Unit, attachment: &Attachment, table: &Table) -> Outcome;
}
