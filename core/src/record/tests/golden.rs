// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The golden bytes of version 1. A change that fails here needs a new version and new files; the old files
//! stay.

extern crate std;

use std::boxed::Box;
use std::vec::Vec;

use super::super::set::Verdict;
use super::super::vfio::Vfio;
use super::fixture::*;
use super::lent::{Handover, Lent};
use crate::abi::list::PAGE_SIZE;

const GOLDEN: [(&str, u64, &[u8]); 4] = [
    (
        "pci",
        PCI,
        include_bytes!("../../../testdata/abi/v1/pci.bin"),
    ),
    (
        "iommu",
        IOMMU,
        include_bytes!("../../../testdata/abi/v1/iommu.bin"),
    ),
    (
        "iommufd",
        IOMMUFD,
        include_bytes!("../../../testdata/abi/v1/iommufd.bin"),
    ),
    (
        "vfio",
        VFIO,
        include_bytes!("../../../testdata/abi/v1/vfio.bin"),
    ),
];

fn encoded() -> [Vec<u8>; 4] {
    [
        pci().lender().bytes(),
        iommu().lender().bytes(),
        iommufd().lender().bytes(),
        vfio().lender().bytes(),
    ]
}

#[test]
fn records_are_written_as_ever() {
    for ((name, _, golden), encoded) in GOLDEN.iter().zip(encoded()) {
        assert!(*golden == encoded, "{name} is encoded differently");
    }
}

#[test]
fn records_are_read_as_ever() {
    let handover = Handover::default();
    for (_, first, golden) in GOLDEN {
        for (address, page) in (first..).step_by(PAGE_SIZE).zip(golden.chunks(PAGE_SIZE)) {
            let page = Box::new(page.try_into().unwrap());
            handover.borrow_mut().insert(address, page);
        }
    }
    let mut records = take(&handover);
    records.unit_adopted(unit().base);
    let file = Vfio::decode(Lent::of(&handover), VFIO).unwrap();
    let kept = records.file(file.file()).unwrap();
    assert_eq!(kept.domain, domain());
    assert!(matches!(records.device(TWO), Verdict::Kept(_)));
    assert_eq!(records.mappings(IOMMUFD, other().token, 0).count(), 70);
    assert!(handover.borrow().is_empty());
}

#[test]
#[ignore = "writes the golden bytes of a version that is not released yet"]
fn write_golden_bytes() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/abi/v1");
    for ((name, _, _), bytes) in GOLDEN.iter().zip(encoded()) {
        std::fs::write(std::format!("{folder}/{name}.bin"), bytes).unwrap();
    }
}
