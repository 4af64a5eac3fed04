// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Pages and chains: damage is refused by its own name, and every chain comes to an end.

extern crate std;

use core::mem::{offset_of, size_of};
use std::vec::Vec;

use proptest::prelude::*;

use super::super::iommu::Iommu;
use super::super::iommufd::Iommufd;
use super::super::log::Log;
use super::super::pci::Devices;
use super::super::set::{State, Verdict};
use super::super::vfio::Vfio;
use super::fixture::*;
use super::lent::{seal, Handover, Lent, NoMemory};
use crate::abi::header::HeaderSer;
use crate::abi::list::{Page, ENTRY_SIZE, PAGE_SIZE};
use crate::error::Error;
use crate::refusal::{Family, Refusal};

const FIRST: [(Family, u64); 4] = [
    (Family::Pci, PCI),
    (Family::Iommu, IOMMU),
    (Family::Iommufd, IOMMUFD),
    (Family::VfioPci, VFIO),
];

fn refusal<T>(result: Result<T, Error<NoMemory>>) -> Option<Refusal> {
    match result {
        Ok(_) => None,
        Err(Error::Refused(refusal)) => Some(refusal),
        Err(Error::Lender(NoMemory)) => panic!("memory is lent"),
    }
}

/// What becomes of a family.
fn verdict(family: Family, handover: &Handover) -> Option<Refusal> {
    let lend = || Lent::of(handover);
    match family {
        Family::Pci => refusal(Devices::decode(lend(), PCI)),
        Family::Iommu => refusal(Iommu::decode(lend(), IOMMU, KINDS)),
        Family::Iommufd => refusal(Iommufd::decode(lend(), IOMMUFD)),
        Family::VfioPci => refusal(Vfio::decode(lend(), VFIO)),
        Family::Log => refusal(Log::decode(lend(), LOG)),
    }
}

fn change(handover: &Handover, phys: u64, change: impl FnOnce(&mut Page)) {
    let mut pages = handover.borrow_mut();
    change(pages.get_mut(&phys).expect("a page"));
}

fn put(page: &mut Page, offset: usize, bytes: &[u8]) {
    page[offset..offset + bytes.len()].copy_from_slice(bytes);
}

fn pages() -> Vec<u64> {
    handed_over().borrow().keys().copied().collect()
}

/// Every bit of every page: what is damaged is not read.
#[test]
fn every_bit_counts() {
    for (family, first) in FIRST {
        for phys in pages().into_iter().filter(|phys| phys >> 20 == first >> 20) {
            let whole = handed_over();
            whole
                .borrow_mut()
                .retain(|phys, _| phys >> 20 == first >> 20);
            for (offset, bit) in (0..PAGE_SIZE).flat_map(|offset| (0..8).map(move |b| (offset, b)))
            {
                let handover = Handover::new(whole.as_ref().clone());
                change(&handover, phys, |page| page[offset] ^= 1 << bit);
                let expected = match offset {
                    0..8 => Refusal::NotARecord(family),
                    _ => Refusal::Damaged(family),
                };
                assert_eq!(
                    verdict(family, &handover),
                    Some(expected),
                    "{phys:#x} {offset}"
                );
            }
        }
    }
}

/// Asks for everything there is. Nothing panics, and what is kept agrees with itself.
fn ask_all(handover: &Handover) -> usize {
    let mut records = take(handover);
    let _ = Vfio::decode(Lent::of(handover), VFIO).map(|vfio| records.file(vfio.file()));
    let mut kept = 0;
    for address in [ONE, TWO, at(0x0008), at(0x0010)] {
        if let Verdict::Kept(device) = records.device(address) {
            kept += 1;
            assert_eq!(device.function.address, address);
            let (key, domain) = records
                .hwpt(device.domain.iommufd, device.domain.token)
                .unwrap();
            assert_eq!((key, domain), (device.attachment.domain, device.domain));
            assert!(records.mappings(domain.iommufd, domain.token, 0).count() > 0);
            assert!(records.is_running(address));
            assert!(records.users(key) > 0);
            assert!(records.is_outstanding(domain.iommufd));
        }
        let _ = records.keeps(address);
    }
    if let State::Taken(iommu) = records.iommu() {
        for unit in iommu.units() {
            let _ = iommu.behind(unit.base).count() + iommu.domain_ids(unit.base).count();
        }
        for address in [ONE, TWO] {
            let _ = iommu.pages(address).count() + iommu.pages_alone(address).count();
        }
    }
    // And everything ends.
    records.set_ready();
    for address in [ONE, TWO] {
        records.device_left(address);
        records.finish_device(address);
        assert!(!records.is_running(address));
    }
    if let State::Taken(iommu) = records.iommu() {
        assert!(!iommu.is_any_running() || iommu.behind(0).count() == 0);
        let domains: Vec<_> = iommu.domains().map(|(key, _)| key).collect();
        for key in domains {
            let _ = records.release(key);
        }
    }
    kept
}

/// Every bit of what is used, and of what follows it, in a page whose checksum is right all the same.
#[test]
fn a_lie_is_refused_or_is_another_truth() {
    let mut kept = [0; 3];
    for phys in pages() {
        let whole = handed_over();
        let used = size_of::<HeaderSer>() + 8 * ENTRY_SIZE;
        for (offset, bit) in (0..used).flat_map(|offset| (0..8).map(move |bit| (offset, bit))) {
            let handover = Handover::new(whole.as_ref().clone());
            change(&handover, phys, |page| {
                page[offset] ^= 1 << bit;
                seal(page);
            });
            kept[ask_all(&handover)] += 1;
        }
    }
    // Nearly all lies cost somebody something, and many cost one device only.
    assert!(kept.iter().all(|count| *count > 500), "{kept:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_page_is_read_or_refused(
        which in 0_usize..5,
        damage in proptest::collection::vec((0..PAGE_SIZE, any::<u8>()), 1..40),
    ) {
        let handover = handed_over();
        let phys = pages()[which];
        change(&handover, phys, |page| {
            for (offset, value) in damage {
                page[offset % if value & 1 == 0 { PAGE_SIZE } else { 512 }] ^= value;
            }
            seal(page);
        });
        ask_all(&handover);
    }
}

/// Each field of the header.
#[test]
fn every_header_is_checked() {
    let field = |offset: usize, value: u8| (offset, value);
    for (family, first) in FIRST {
        for ((offset, value), expected) in [
            (field(0, 0x77), Refusal::NotARecord(family)),
            (field(8, 2), Refusal::UnknownVersion(family)),
            (field(16, 1), Refusal::UnknownFeature(family)),
            (field(33, 0x40), Refusal::Contradictory(family)),
            (field(40, 1), Refusal::Malformed(family)),
            (field(48, 5), Refusal::Contradictory(family)),
            (field(52, 0x3f), Refusal::Malformed(family)),
            (field(56, 0x20), Refusal::Malformed(family)),
            (field(60, 1), Refusal::Malformed(family)),
            // Kinds: one that has to be known, and a free entry that is not empty.
            (field(64 + 62 * 64, 0x7f), Refusal::UnknownFeature(family)),
            (field(64 + 62 * 64 + 9, 1), Refusal::Malformed(family)),
        ] {
            let handover = handed_over();
            // Of a chain only the last page has free entries.
            let mut pages = pages().into_iter();
            let last = pages.rfind(|phys| phys >> 20 == first >> 20);
            let phys = if offset >= 64 { last.unwrap() } else { first };
            change(&handover, phys, |page| {
                page[offset] ^= value;
                seal(page);
            });
            assert_eq!(verdict(family, &handover), Some(expected), "{offset}");
        }
        // An optional feature may be passed over, and so may an optional kind of entry.
        let handover = handed_over();
        change(&handover, first, |page| {
            page[24] ^= 0x77;
            seal(page);
        });
        assert_eq!(verdict(family, &handover), None);
        let handover = handed_over();
        let mut pages = pages().into_iter();
        let last = pages.rfind(|phys| phys >> 20 == first >> 20).unwrap();
        change(&handover, last, |page| {
            page[64 + 62 * 64] = 0x85;
            page[64 + 62 * 64 + 7] = 1;
            page[52] += 1;
            seal(page);
        });
        assert_eq!(verdict(family, &handover), None, "{family}");
    }
}

#[test]
fn chains_end() {
    let next = offset_of!(HeaderSer, next);
    let second = IOMMUFD + 0x1000;
    let lead = |from: u64, to: u64| {
        let handover = handed_over();
        change(&handover, from, |page| {
            put(page, next, &to.to_le_bytes());
            seal(page);
        });
        verdict(Family::Iommufd, &handover)
    };
    let family = Family::Iommufd;
    assert_eq!(lead(IOMMUFD, second), None);
    // In a circle, to nowhere, and to somebody else's page.
    for to in [IOMMUFD, second, 0x1_2345_6000] {
        assert_eq!(lead(second, to), Some(Refusal::NotHandedOver(family)));
    }
    assert_eq!(lead(IOMMUFD, IOMMUFD), Some(Refusal::NotHandedOver(family)));
    assert_eq!(lead(IOMMUFD, PCI), Some(Refusal::NotARecord(family)));
    assert_eq!(lead(second, VFIO), Some(Refusal::NotARecord(family)));
    // Cut off: the mappings of the second HWPT are missing.
    assert_eq!(lead(IOMMUFD, 0), Some(Refusal::NotRecorded(family)));
}

#[test]
fn a_page_belongs_to_one_chain() {
    let handover = handed_over();
    // Another iommufd that leads into the first one's chain.
    let mut thief = iommufd().into_lender();
    thief.pages.truncate(1);
    let (phys, page) = &mut thief.pages[0];
    *phys = 0x0b00_0000;
    let first = phys.to_le_bytes();
    put(page, offset_of!(HeaderSer, first), &first);
    seal(page);
    thief.jump(&handover);
    let stolen = Iommufd::decode(Lent::of(&handover), 0x0b00_0000);
    let refused = Some(Refusal::Contradictory(Family::Iommufd));
    assert_eq!(refusal(stolen), refused);
}

/// An error of the lender comes through, at whichever moment.
#[test]
fn without_memory_nothing_is_taken() {
    let mut failures = 0;
    for limit in 0.. {
        let handover = handed_over();
        let lender = Lent::of(&handover);
        lender.limit(limit);
        match Iommufd::decode(lender, IOMMUFD) {
            Err(Error::Lender(NoMemory)) => failures += 1,
            Err(Error::Refused(refusal)) => panic!("{refusal}"),
            Ok(_) => break,
        }
    }
    // Two pages, two HWPTs by token and domain, one memory file.
    assert_eq!(failures, 7);
}
