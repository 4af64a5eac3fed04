// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! May it be preserved?

use crate::model::{HwptFacts, Table, VfioFacts};
use crate::refusal::Refusal;

/// May a HWPT with these facts be preserved?
///
/// # Errors
///
/// The first reason against it. A fact that is not known here is one against it.
pub fn hwpt(facts: HwptFacts) -> Result<(), Refusal> {
    first(
        facts.0,
        &[
            (HwptFacts::RESTORED, Refusal::RestoredHwpt),
            (HwptFacts::UNKNOWN_TABLE, Refusal::UnknownTable),
            (HwptFacts::DIRTY_TRACKING, Refusal::DirtyTracking),
            (HwptFacts::NEST_PARENT, Refusal::NestParent),
            (HwptFacts::FAULT, Refusal::PageFaults),
            (HwptFacts::PASID, Refusal::HwptForPasid),
            (HwptFacts::AUTO, Refusal::AutoHwpt),
            (HwptFacts::OTHER_MEMORY, Refusal::OtherMemory),
            (HwptFacts::UNSEALED, Refusal::Unsealed),
            (HwptFacts::HOLES, Refusal::Holes),
            (!HwptFacts::KNOWN, Refusal::UnknownTable),
        ],
    )
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
            (VfioFacts::NO_IOMMUFD, Refusal::NoIommufd),
            (VfioFacts::NOT_ATTACHED, Refusal::NotAttached),
            (VfioFacts::RESTORED, Refusal::StillRestored),
            (VfioFacts::NOT_MARKED, Refusal::NotMarked),
            (VfioFacts::NOT_VTD, Refusal::NotVtd),
            (VfioFacts::VIRTFN, Refusal::VirtualFunction),
            (VfioFacts::HAS_VFS, Refusal::HasVirtualFunctions),
            (VfioFacts::PASIDS, Refusal::UsesPasids),
            (VfioFacts::SHARED_GROUP, Refusal::SharedGroup),
            (VfioFacts::NOT_D0, Refusal::NotPoweredOn),
            (VfioFacts::TOO_MANY_BRIDGES, Refusal::TooManyBridges),
            (VfioFacts::INTERRUPTS, Refusal::InterruptsOn),
            (VfioFacts::ATS, Refusal::UsesAts),
            (!VfioFacts::KNOWN, Refusal::NotVtd),
        ],
    )
}

/// May the machine jump into an image that gets what is handed over, or does not?
///
/// # Errors
///
/// [`Refusal::NoHandover`].
pub fn image(takes_over: bool) -> Result<(), Refusal> {
    takes_over.then_some(()).ok_or(Refusal::NoHandover)
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

/// May a HWPT that maps this many files be preserved?
///
/// # Errors
///
/// [`Refusal::NothingMapped`]: the next kernel takes a domain without memory for one whose memory has
/// been kept from it.
pub fn memory(files: usize) -> Result<(), Refusal> {
    (files > 0).then_some(()).ok_or(Refusal::NothingMapped)
}

fn first(facts: u32, reasons: &[(u32, Refusal)]) -> Result<(), Refusal> {
    match reasons.iter().find(|(fact, _)| facts & fact != 0) {
        Some((_, refusal)) => Err(*refusal),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Format;

    #[test]
    fn every_fact_is_a_reason() {
        for bit in 0..32 {
            assert!(hwpt(HwptFacts(1 << bit)).is_err());
            assert!(device(VfioFacts(1 << bit)).is_err());
        }
        assert_eq!(hwpt(HwptFacts(0)), Ok(()));
        assert_eq!(device(VfioFacts(0)), Ok(()));
    }

    #[test]
    fn a_hwpt_maps_something() {
        assert_eq!(memory(0), Err(Refusal::NothingMapped));
        assert_eq!(memory(1), Ok(()));
    }

    #[test]
    fn every_field_of_a_recorded_table_counts() {
        type Change = fn(&mut Table);
        let recorded = Table {
            top: 0x1000,
            format: Format::SecondStage,
            levels: 4,
            incoherent: false,
            snoop: false,
        };
        assert_eq!(attachment(&recorded, &recorded), Ok(()));
        let changes: [Change; 5] = [
            |table| table.top = 0x2000,
            |table| table.format = Format::FirstStage,
            |table| table.levels = 5,
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

    #[test]
    fn facts_have_names_of_their_own() {
        assert_eq!(hwpt(HwptFacts(HwptFacts::UNSEALED)), Err(Refusal::Unsealed));
        assert_eq!(
            device(VfioFacts(VfioFacts::NOT_MARKED)),
            Err(Refusal::NotMarked)
        );
    }
}
