// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! May a device be preserved?

use crate::facts::{facts, first};
use crate::iommu::pt::table::Table;
use crate::refusal::Refusal;

facts! {
    /// Facts about a device behind a VFIO device file: `HITLESS_VFIO_*`.
    VfioFacts {
        /// It is bound to no iommufd.
        NO_IOMMUFD = 0,
        /// It is attached to nothing.
        NOT_ATTACHED = 1,
        /// It is attached to something that is not marked.
        NOT_MARKED = 2,
        /// It is a virtual function.
        VIRTFN = 3,
        /// It has virtual functions.
        HAS_VFS = 4,
        /// It uses PASIDs.
        PASIDS = 5,
        /// Its IOMMU group has other members, or it has DMA aliases.
        SHARED_GROUP = 6,
        /// It is not in D0.
        NOT_D0 = 7,
        /// Its IOMMU is of a kind that is not preserved.
        OTHER_IOMMU = 8,
        /// It has interrupts set up.
        INTERRUPTS = 9,
        /// It is attached to its restored domain.
        RESTORED = 10,
        /// Its own translation cache (ATS) is on.
        ATS = 11,
        /// It has no IOMMU group.
        NO_GROUP = 12,
    }
}

/// May a device with these facts be preserved?
///
/// # Errors
///
/// The first reason against it. A fact that is not known here is one against it.
pub fn device(facts: VfioFacts) -> Result<(), Refusal> {
    first(
        facts.0,
        &[
            (VfioFacts::NO_GROUP, Refusal::NoGroup),
            (VfioFacts::SHARED_GROUP, Refusal::SharedGroup),
            (VfioFacts::NO_IOMMUFD, Refusal::NoIommufd),
            (VfioFacts::NOT_ATTACHED, Refusal::NotAttached),
            (VfioFacts::RESTORED, Refusal::StillRestored),
            (VfioFacts::NOT_MARKED, Refusal::NotMarked),
            (VfioFacts::OTHER_IOMMU, Refusal::OtherIommu),
            (VfioFacts::VIRTFN, Refusal::VirtualFunction),
            (VfioFacts::HAS_VFS, Refusal::HasVirtualFunctions),
            (VfioFacts::PASIDS, Refusal::UsesPasids),
            (VfioFacts::NOT_D0, Refusal::NotPoweredOn),
            (VfioFacts::INTERRUPTS, Refusal::InterruptsOn),
            (VfioFacts::ATS, Refusal::UsesAts),
            (!VfioFacts::KNOWN, Refusal::OtherIommu),
        ],
    )
}

/// Is the table that a device is attached to the one recorded for its HWPT?
///
/// # Errors
///
/// [`Refusal::OtherTable`].
pub fn attachment(recorded: &Table, attached: &Table) -> Result<(), Refusal> {
    (recorded == attached)
        .then_some(())
        .ok_or(Refusal::OtherTable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iommu::address::{HostAddressWidth, TableAddress};
    use crate::iommu::pt::format::Format;

    #[test]
    fn every_fact_is_a_reason() {
        for bit in 0..32 {
            assert!(device(VfioFacts(1 << bit)).is_err());
        }
        assert_eq!(device(VfioFacts(0)), Ok(()));
        let unmarked = VfioFacts(VfioFacts::NOT_MARKED);
        assert_eq!(device(unmarked), Err(Refusal::NotMarked));
    }

    #[test]
    fn every_field_of_a_recorded_table_counts() {
        type Change = fn(&mut Table);
        let recorded = Table {
            top: TableAddress::new(0x1000, HostAddressWidth::MAX).unwrap(),
            format: Format::vtdss(4).unwrap(),
            incoherent: false,
            snoop: false,
        };
        assert_eq!(attachment(&recorded, &recorded), Ok(()));
        let changes: [Change; 5] = [
            |table| table.top = TableAddress::new(0x2000, HostAddressWidth::MAX).unwrap(),
            |table| table.format = Format::x86_64(4).unwrap(),
            |table| table.format = Format::vtdss(5).unwrap(),
            |table| table.incoherent = true,
            |table| table.snoop = true,
        ];
        for change in changes {
            let mut attached = recorded;
            change(&mut attached);
            let verdict = attachment(&recorded, &attached);
            assert_eq!(verdict, Err(Refusal::OtherTable), "{attached:?}");
        }
    }
}
