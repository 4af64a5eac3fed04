// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which refusals give which error number at which step, as `docs/refusals.md` says. A test compares the two.

use hitless_core::refusal::{Family, Refusal};
use rustix::io::Errno;

use crate::name::{Kind, Object, Step};

/// Refusals of one error number.
type Row = (Errno, &'static [Refusal]);

const IOMMUFD: &[Row] = &[
    (
        Errno::INVAL,
        &[
            Refusal::NothingMarked,
            Refusal::OtherMemory,
            Refusal::Unsealed,
            Refusal::Holes,
            Refusal::NothingMapped,
            Refusal::MemoryNotInSession,
        ],
    ),
    (
        Errno::OPNOTSUPP,
        &[
            Refusal::DirtyTracking,
            Refusal::NestParent,
            Refusal::PageFaults,
            Refusal::HwptForPasid,
            Refusal::AutoHwpt,
            Refusal::DmaBuffer,
            Refusal::NotShmem,
            Refusal::UnknownTable,
        ],
    ),
    (Errno::BUSY, &[Refusal::MappingUnsettled]),
];

const DEVICE: &[Row] = &[
    (
        Errno::INVAL,
        &[
            Refusal::NoIommufd,
            Refusal::NotAttached,
            Refusal::NotMarked,
            Refusal::IommufdNotInSession,
            Refusal::HwptNotPreserved,
            Refusal::OtherTable,
        ],
    ),
    (
        Errno::OPNOTSUPP,
        &[
            Refusal::VirtualFunction,
            Refusal::HasVirtualFunctions,
            Refusal::UsesPasids,
            Refusal::SharedGroup,
            Refusal::OtherIommu,
            Refusal::NoGroup,
            Refusal::TooManyBridges,
            Refusal::UsesAts,
            Refusal::SharedHwpt,
        ],
    ),
    (
        Errno::BUSY,
        &[
            Refusal::NotPoweredOn,
            Refusal::InterruptsOn,
            Refusal::StillRestored,
            Refusal::AlreadyRecorded,
        ],
    ),
];

const FREEZE: &[Row] = &[
    (Errno::BUSY, &[Refusal::NotSwapped, Refusal::Unsettled]),
    (
        Errno::INVAL,
        &[
            Refusal::NoHandover,
            Refusal::ImageWithoutHitless,
            Refusal::ImageOfOtherFormat,
            Refusal::ImageTakesLess,
            Refusal::ImageNeedsMore,
            Refusal::ImageOwnLine,
            Refusal::NextHitlessOff,
            Refusal::NextHandoverOff,
            Refusal::NextIommuOff,
            Refusal::NextOtherRemapping,
            Refusal::NextOtherPci,
        ],
    ),
];

const SWAP: &[Row] = &[(Errno::BUSY, &[Refusal::NotSwappable])];

const ARRIVED: &[Row] = &[
    (
        Errno::NODEV,
        &[
            Refusal::OtherSegment,
            Refusal::OtherMode,
            Refusal::OtherRoot,
            Refusal::OtherCapabilities,
            Refusal::NotTranslating,
            Refusal::OtherDevice,
            Refusal::UnitRefused,
        ],
    ),
    (Errno::AGAIN, &[Refusal::NoDriverYet]),
];

/// What makes a refusal about the records of one family.
type OfFamily = fn(Family) -> Refusal;

const RECORDS: &[(Errno, &[OfFamily])] = &[
    (
        Errno::IO,
        &[
            Refusal::NotARecord,
            Refusal::Damaged,
            Refusal::Malformed,
            Refusal::Duplicate,
            Refusal::Contradictory,
            Refusal::Aliased,
            Refusal::NotHandedOver,
        ],
    ),
    (
        Errno::OPNOTSUPP,
        &[Refusal::UnknownVersion, Refusal::UnknownFeature],
    ),
    (Errno::NOSPC, &[Refusal::Full]),
    (Errno::NOENT, &[Refusal::NotRecorded]),
];

/// The refusals that give this error number at this step about this object.
pub(crate) fn of(step: Step, object: &Object, errno: Errno) -> Vec<Refusal> {
    use Object::Named;
    let own: &[&[Row]] = match (step, object) {
        (Step::Preserve, Named(Kind::Iommufd, _)) => &[IOMMUFD],
        (Step::Preserve, Named(Kind::Device, _)) => &[DEVICE],
        (Step::Jump, _) => &[FREEZE, DEVICE],
        (Step::Retrieve, Named(Kind::Device, _)) => &[ARRIVED],
        (Step::Swap, Named(Kind::Device, _)) => &[SWAP],
        _ => &[],
    };
    let own = own.iter().flat_map(|rows| rows.iter());
    let own = own.filter(|(of, _)| *of == errno).flat_map(|(_, all)| *all);
    let families: &[Family] = match (step, object) {
        (Step::Preserve | Step::Retrieve, Named(Kind::Iommufd, _)) => &[Family::Iommufd],
        (Step::Preserve | Step::Retrieve, Named(Kind::Device, _)) => {
            &[Family::VfioPci, Family::Pci, Family::Iommu]
        }
        _ => &[],
    };
    let of_records = RECORDS.iter().filter(|(of, _)| *of == errno);
    let of_records = of_records.flat_map(|(_, all)| *all);
    let of_records = of_records.flat_map(|refusal| families.iter().map(|family| refusal(*family)));
    own.copied().chain(of_records).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The page, which is in the repository and not in the published package.
    fn page() -> Option<String> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/refusals.md");
        std::fs::read_to_string(path).ok()
    }

    /// The names of the refusals under a heading of the page, with their error numbers in words.
    fn listed(page: &str, heading: &str) -> BTreeSet<(String, String)> {
        let (_, rest) = page
            .split_once(&format!("\n## {heading}\n"))
            .expect(heading);
        let section = rest.split("\n## ").next().unwrap_or_default();
        let rows = section.lines().filter(|line| line.ends_with("` |"));
        rows.map(|row| {
            let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
            let name = cells.last().expect("a name").trim().trim_matches('`');
            let errno = cells[1].trim().trim_matches('`');
            (name.to_owned(), errno.to_owned())
        })
        .collect()
    }

    fn name(refusal: Refusal) -> String {
        let name = format!("{refusal:?}");
        name.split('(').next().unwrap_or_default().to_owned()
    }

    fn errno(errno: Errno) -> String {
        let known = [
            (Errno::INVAL, "EINVAL"),
            (Errno::OPNOTSUPP, "EOPNOTSUPP"),
            (Errno::BUSY, "EBUSY"),
            (Errno::NODEV, "ENODEV"),
            (Errno::AGAIN, "EAGAIN"),
            (Errno::IO, "EIO"),
            (Errno::NOSPC, "ENOSPC"),
            (Errno::NOENT, "ENOENT"),
        ];
        let found = known.iter().find(|(number, _)| *number == errno);
        found.expect("a known number").1.to_owned()
    }

    #[test]
    fn they_are_those_of_the_page() {
        let Some(page) = page() else { return };
        for (heading, rows) in [
            ("When an iommufd is preserved", IOMMUFD),
            (
                "When a device file is preserved, and again at freeze",
                DEVICE,
            ),
            ("When the device is swapped", SWAP),
            ("At freeze", FREEZE),
            ("After the jump", ARRIVED),
        ] {
            let ours = rows.iter().flat_map(|(number, all)| {
                all.iter().map(|refusal| (name(*refusal), errno(*number)))
            });
            assert_eq!(
                ours.collect::<BTreeSet<_>>(),
                listed(&page, heading),
                "{heading}"
            );
        }
        let records = RECORDS
            .iter()
            .flat_map(|(number, all)| all.iter().map(|of| (name(of(Family::Pci)), errno(*number))));
        let heading = "About the records, whatever is done with them";
        assert_eq!(records.collect::<BTreeSet<_>>(), listed(&page, heading));
    }

    #[test]
    fn an_error_names_those_of_its_step_only() {
        let device = Object::Named(Kind::Device, "nic".into());
        assert_eq!(
            of(Step::Swap, &device, Errno::BUSY),
            [Refusal::NotSwappable]
        );
        assert_eq!(of(Step::Swap, &device, Errno::INVAL), []);
        let busy = of(Step::Preserve, &device, Errno::BUSY);
        assert!(busy.contains(&Refusal::InterruptsOn) && !busy.contains(&Refusal::NotSwapped));
        let memory = Object::Named(Kind::Memory, "ram".into());
        assert_eq!(of(Step::Preserve, &memory, Errno::INVAL), []);
    }
}
