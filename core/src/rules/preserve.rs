// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! May it be preserved?

use crate::model::{HwptFacts, MemoryFacts, Table, VfioFacts};
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
            (HwptFacts::UNKNOWN_TABLE, Refusal::UnknownTable),
            (HwptFacts::DIRTY_TRACKING, Refusal::DirtyTracking),
            (HwptFacts::NEST_PARENT, Refusal::NestParent),
            (HwptFacts::FAULT, Refusal::PageFaults),
            (HwptFacts::PASID, Refusal::HwptForPasid),
            (HwptFacts::AUTO, Refusal::AutoHwpt),
            (!HwptFacts::KNOWN, Refusal::UnknownTable),
        ],
    )
}

/// Seals that a file must have had when it was mapped: `F_SEAL_SEAL`, `F_SEAL_SHRINK`, `F_SEAL_GROW` (`fcntl(2)`).
const SEALS: u32 = 0x1 | 0x2 | 0x4;

/// May memory with these facts, of a file that had these seals when it was mapped, be preserved?
///
/// # Errors
///
/// The first reason against it. A fact that is not known here is one against it.
pub fn memory(facts: MemoryFacts, seals: u32) -> Result<(), Refusal> {
    first(
        facts.0,
        &[
            (MemoryFacts::UNSETTLED, Refusal::MappingUnsettled),
            (MemoryFacts::DMABUF, Refusal::DmaBuffer),
            (MemoryFacts::NO_FILE, Refusal::OtherMemory),
            (MemoryFacts::NOT_SHMEM, Refusal::NotShmem),
            (MemoryFacts::HOLES, Refusal::Holes),
            (!MemoryFacts::KNOWN, Refusal::OtherMemory),
        ],
    )?;
    (SEALS & !seals == 0)
        .then_some(())
        .ok_or(Refusal::Unsealed)
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
            (VfioFacts::UNKNOWN_UNIT, Refusal::UnknownUnit),
            (VfioFacts::VIRTFN, Refusal::VirtualFunction),
            (VfioFacts::HAS_VFS, Refusal::HasVirtualFunctions),
            (VfioFacts::PASIDS, Refusal::UsesPasids),
            (VfioFacts::NOT_D0, Refusal::NotPoweredOn),
            (VfioFacts::INTERRUPTS, Refusal::InterruptsOn),
            (VfioFacts::ATS, Refusal::UsesAts),
            (!VfioFacts::KNOWN, Refusal::UnknownUnit),
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

/// May a HWPT with this many mappings be preserved?
///
/// # Errors
///
/// [`Refusal::NothingMapped`]: the next kernel takes a domain without memory for one whose memory has
/// been kept from it.
pub fn mappings(count: usize) -> Result<(), Refusal> {
    (count > 0).then_some(()).ok_or(Refusal::NothingMapped)
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
        for bit in 0..32 {
            let rights = MemoryFacts::READABLE | MemoryFacts::WRITEABLE;
            let verdict = memory(MemoryFacts(1 << bit), SEALS);
            assert_eq!(verdict.is_ok(), rights & 1 << bit != 0, "{bit}");
        }
        assert_eq!(hwpt(HwptFacts(0)), Ok(()));
        assert_eq!(device(VfioFacts(0)), Ok(()));
    }

    #[test]
    fn a_hwpt_maps_something() {
        assert_eq!(mappings(0), Err(Refusal::NothingMapped));
        assert_eq!(mappings(1), Ok(()));
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
        for seal in [1, 2, 4] {
            assert_eq!(memory(MemoryFacts(0), SEALS & !seal), Err(Refusal::Unsealed));
        }
        assert_eq!(memory(MemoryFacts(0), SEALS | 8), Ok(()));
        assert_eq!(
            device(VfioFacts(VfioFacts::NOT_MARKED)),
            Err(Refusal::NotMarked)
        );
    }
}
