// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Round trips, refusals, golden bytes, and bytes that mean nothing.

mod refusals;

extern crate std;

use std::boxed::Box;
use std::vec::Vec;

use proptest::prelude::*;
use zerocopy::{transmute_ref, FromZeros, Immutable, IntoBytes};

use super::fixture::*;
use super::iommu::Iommu;
use super::iommufd::Iommufd;
use super::pci::Devices;
use super::tables::TableList;
use super::vfio::Vfio;
use crate::abi::iommu::{AttachmentSer, DomainSer, IommuSer, UnitSer};
use crate::abi::iommufd::{HwptSer, IommufdSer, MemorySer};
use crate::abi::pci::{DeviceSer, PciSer};
use crate::abi::{self, Page, PAGE_SIZE};
use crate::model::{Domain, DomainKey, Kind, Mode, Table};
use crate::refusal::{Family, Refusal};

fn changed(mut page: Box<Page>, offset: usize, value: u8) -> Box<Page> {
    page[offset] = value;
    page
}

/// A domain beside the two of the fixture.
fn third() -> Domain {
    Domain {
        table: Table {
            top: 0x0220_0000,
            ..DOMAIN.table
        },
        list: 0x0320_0000,
        iommufd: 0x0a00_0000,
        token: 7,
        ..DOMAIN
    }
}

#[test]
fn devices_and_bridges_come_back() {
    let devices = Devices::decode(pci().into_page()).unwrap();
    let device = devices.find(at(0x0100)).unwrap();
    assert_eq!((device.kind, device.identity), (Kind::Endpoint, IGB));
    let users = |bdf| devices.find(at(bdf)).map(|device| device.users);
    assert_eq!(users(0x0010), Some(2));
    assert_eq!(users(0x0008), Some(1));
    assert_eq!(users(0x0018), None);
}

#[test]
fn a_bridge_stays_while_a_device_needs_it() {
    let mut devices = pci();
    devices.remove(at(0x0100), [at(0x0008), at(0x0010)].into_iter());
    assert_eq!(devices.find(at(0x0100)), None);
    assert_eq!(devices.find(at(0x0008)), None);
    assert_eq!(devices.find(at(0x0010)).unwrap().users, 1);
    devices.remove(at(0x0200), [at(0x0010)].into_iter());
    assert_eq!(devices.iter().count(), 0);
}

/// The names may come from a record that lies.
#[test]
fn a_removal_takes_nothing_from_others() {
    let mut devices = pci();
    let before = *devices.page().clone();
    // A bridge as the device, and another device as a bridge.
    devices.remove(at(0x0008), [at(0x0200)].into_iter());
    assert!(**devices.page() == before);
    devices.remove(at(0x0100), [at(0x0200), at(0x0008), at(0x0010)].into_iter());
    assert!(devices.endpoint(at(0x0200)).is_some());
    assert_eq!(devices.find(at(0x0008)), None);
    assert_eq!(devices.find(at(0x0010)).unwrap().users, 1);
}

#[test]
fn bridges_of_a_device_file_are_recorded_bridges() {
    let devices = pci();
    let check = |bridges: &[u16]| devices.check_bridges(bridges.iter().copied().map(at));
    assert_eq!(devices.check_bridges(vfio().bridges()), Ok(()));
    assert_eq!(check(&[]), Ok(()));
    let refused = Err(Refusal::NotRecorded(Family::Pci));
    assert_eq!(check(&[0x0008, 0x0018]), refused);
    // A device is no bridge.
    assert_eq!(check(&[0x0008, 0x0200]), refused);
}

#[test]
fn a_device_that_does_not_fit_changes_nothing() {
    let mut devices = Devices::create(page());
    for bdf in 0..125 {
        devices.add(at(bdf), IGB, std::iter::empty()).unwrap();
    }
    let before = *devices.page().clone();
    let bridges = [at(0x1008), at(0x1010)];
    let refused = devices.add(at(0x1100), IGB, bridges.into_iter());
    assert_eq!(refused, Err(Refusal::Full(Family::Pci)));
    assert_eq!(**devices.page(), before);
    assert_eq!(
        devices.add(at(3), IGB, std::iter::empty()),
        Err(Refusal::AlreadyRecorded)
    );
}

#[test]
fn units_domains_and_attachments_come_back() {
    let iommu = Iommu::decode(iommu().into_page()).unwrap();
    assert_eq!(iommu.unit(UNIT.register_base), Some(UNIT));
    assert_eq!(iommu.unit(SCALABLE.register_base), Some(SCALABLE));
    let (key, domain) = iommu.domain_of(DOMAIN.iommufd, DOMAIN.token).unwrap();
    assert_eq!(domain, DOMAIN);
    let expected = attachment(0x0100, &UNIT, key);
    assert_eq!(iommu.attachment(at(0x0100)), Some(expected));
    assert_eq!(iommu.domain_id(UNIT.register_base, 0), Some(5));
    assert_eq!(iommu.domain_id(UNIT.register_base, 1), None);
}

#[test]
fn a_shared_domain_id_counts_once() {
    let mut iommu = iommu();
    let (key, _) = iommu.domain_of(DOMAIN.iommufd, DOMAIN.token).unwrap();
    let other = iommu.add_domain(&third()).unwrap();
    for (bdf, domain) in [(0x0108, key), (0x0110, other), (0x0118, other)] {
        let attachment = attachment(bdf, &UNIT, domain);
        iommu.add_attachment(&UNIT, &attachment).unwrap();
    }
    let ids: Vec<_> = (0..4)
        .map(|index| iommu.domain_id(UNIT.register_base, index))
        .collect();
    assert_eq!(ids, [Some(5), Some(7), None, None]);
}

#[test]
fn a_unit_goes_with_its_last_attachment() {
    let mut iommu = iommu();
    let other = DomainKey::new(2).unwrap();
    assert!(iommu.uses_page(UNIT.root_table));
    let (directory, pages) = (attachment(0x0200, &SCALABLE, other).pasid_directory, 32);
    assert!(iommu.uses_page(directory + ((pages - 1) << 12)));
    assert!(!iommu.uses_page(directory + (pages << 12)));
    iommu.remove_attachment(at(0x0100));
    assert_eq!(iommu.unit(UNIT.register_base), None);
    assert!(!iommu.uses_page(UNIT.root_table));
    assert!(iommu.unit(SCALABLE.register_base).is_some());
    assert!(Iommu::decode(iommu.into_page()).is_ok());
}

#[test]
fn a_unit_may_not_change_between_devices() {
    let mut iommu = iommu();
    let (key, _) = iommu.domain_of(DOMAIN.iommufd, DOMAIN.token).unwrap();
    let mut unit = UNIT;
    unit.root_table = 0x0999_9000;
    let refused = iommu.add_attachment(&unit, &attachment(0x0108, &unit, key));
    assert_eq!(refused, Err(Refusal::OtherRoot));
}

#[test]
fn an_attachment_needs_its_domain() {
    let mut iommu = iommu();
    iommu.remove_domain(DomainKey::new(1).unwrap());
    assert_eq!(
        Iommu::decode(iommu.into_page()).err(),
        Some(Refusal::NotRecorded(Family::Iommu))
    );
}

#[test]
fn hwpts_and_memory_come_back() {
    let iommufd = Iommufd::decode(iommufd().into_page()).unwrap();
    let key = DomainKey::new(1).unwrap();
    assert_eq!(iommufd.domain(DOMAIN.token), Some(key));
    assert_eq!(iommufd.domain(1), None);
    let memories: Vec<_> = iommufd.memories().collect();
    let other = DomainKey::new(2).unwrap();
    assert_eq!(memories, [(key, 0x0800_0000), (other, 0x0800_0000)]);
}

#[test]
fn memory_needs_its_hwpt() {
    let mut iommufd = iommufd();
    let other = DomainKey::new(3).unwrap();
    let refusal = Refusal::NotRecorded(Family::Iommufd);
    assert_eq!(iommufd.add_memory(other, 1), Err(refusal));
    // Domain of the first memory.
    let page = changed(iommufd.into_page(), 320 + 8, 3);
    assert_eq!(Iommufd::decode(page).err(), Some(refusal));
}

#[test]
fn a_device_file_comes_back() {
    let vfio = Vfio::decode(vfio().into_page()).unwrap();
    assert_eq!(vfio.file(), FILE);
    let bridges: Vec<_> = vfio.bridges().collect();
    assert_eq!(bridges, [at(0x0008), at(0x0010)]);
    let many = Vfio::create(page(), &FILE, &[0; 17]);
    assert_eq!(many.err(), Some(Refusal::TooManyBridges));
}

#[test]
fn a_list_of_tables_comes_back_and_ends() {
    let list = TableList::decode(tables().into_page()).unwrap();
    assert_eq!(
        list.tables().collect::<Vec<_>>(),
        [0x0200_0000, 0x0200_1000]
    );
    assert_eq!(list.next(), Some(0x0900_0000));
    let mut list = TableList::create(page());
    let pushed = (1_u64..).take_while(|n| list.push(n << 12).is_ok()).count();
    assert_eq!(pushed, abi::tables::TABLES);
    assert_eq!(list.next(), None);
    assert!(TableList::decode(list.into_page()).is_ok());
}

/// Magic number, version, length and an unknown required feature, in the first byte of each.
#[test]
fn every_header_is_checked() {
    let expected = |family| {
        [
            (0, Refusal::NotARecord(family)),
            (8, Refusal::UnknownVersion(family)),
            (12, Refusal::Malformed(family)),
            (16, Refusal::UnknownFeature(family)),
        ]
    };
    for (offset, refusal) in expected(Family::Pci) {
        let page = changed(pci().into_page(), offset, 0x77);
        assert_eq!(Devices::decode(page).err(), Some(refusal));
    }
    for (offset, refusal) in expected(Family::Iommu) {
        let page = changed(iommu().into_page(), offset, 0x77);
        assert_eq!(Iommu::decode(page).err(), Some(refusal));
    }
    for (offset, refusal) in expected(Family::Iommufd) {
        let page = changed(iommufd().into_page(), offset, 0x77);
        assert_eq!(Iommufd::decode(page).err(), Some(refusal));
    }
    for (offset, refusal) in expected(Family::VfioPci) {
        let page = changed(vfio().into_page(), offset, 0x77);
        assert_eq!(Vfio::decode(page).err(), Some(refusal));
    }
    // An optional feature may be passed over.
    let page = changed(vfio().into_page(), 24, 0x77);
    assert!(Vfio::decode(page).is_ok());
}

/// The golden bytes of version 1. A change that fails here needs a new version and new files; the
/// old files stay.
#[test]
fn golden_bytes_of_version_1() {
    let golden: [(&[u8], Box<Page>); 5] = [
        (
            include_bytes!("../../testdata/abi/v1/pci.bin"),
            pci().into_page(),
        ),
        (
            include_bytes!("../../testdata/abi/v1/iommu.bin"),
            iommu().into_page(),
        ),
        (
            include_bytes!("../../testdata/abi/v1/iommufd.bin"),
            iommufd().into_page(),
        ),
        (
            include_bytes!("../../testdata/abi/v1/vfio.bin"),
            vfio().into_page(),
        ),
        (
            include_bytes!("../../testdata/abi/v1/tables.bin"),
            tables().into_page(),
        ),
    ];
    for (index, (golden, page)) in golden.iter().enumerate() {
        assert!(
            *golden == page.as_slice(),
            "family {index} encodes differently"
        );
    }
    let read = |bytes: &[u8]| -> Box<Page> { Box::new(bytes.try_into().unwrap()) };
    let [pci, iommu, iommufd, vfio, tables] = golden.map(|(golden, _)| read(golden));
    assert_eq!(Devices::decode(pci).unwrap().iter().count(), 4);
    assert_eq!(Iommu::decode(iommu).unwrap().attachments().count(), 2);
    assert_eq!(Iommufd::decode(iommufd).unwrap().hwpts().count(), 2);
    assert_eq!(Vfio::decode(vfio).unwrap().file(), FILE);
    assert_eq!(TableList::decode(tables).unwrap().tables().count(), 2);
}

#[test]
#[ignore = "writes the golden bytes of a version that is not released yet"]
fn write_golden_bytes() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/abi/v1");
    let files = [
        ("pci", pci().into_page()),
        ("iommu", iommu().into_page()),
        ("iommufd", iommufd().into_page()),
        ("vfio", vfio().into_page()),
        ("tables", tables().into_page()),
    ];
    for (name, page) in files {
        std::fs::write(std::format!("{folder}/{name}.bin"), page.as_slice()).unwrap();
    }
}

/// Decodes a page as each family, and says how many accept it. Of what is accepted the invariants hold,
/// and writing the values again gives the same bytes: nothing in the page has been passed over but the
/// optional features.
fn decode_all(bytes: &[u8]) -> usize {
    let page = || -> Box<Page> { Box::new(bytes.try_into().unwrap()) };
    let accepted = [
        Devices::decode(page()).map(check_devices).is_ok(),
        Iommu::decode(page()).map(check_iommu).is_ok(),
        Iommufd::decode(page()).map(check_iommufd).is_ok(),
        Vfio::decode(page()).map(check_vfio).is_ok(),
        TableList::decode(page()).map(check_tables).is_ok(),
    ];
    accepted.into_iter().filter(|accepted| *accepted).count()
}

/// Whether an entry's bytes are those that its value is written as; free entries are all 0.
fn comes_back<T, V>(
    entry: &T,
    decode: impl Fn(&T) -> Result<Option<V>, Refusal>,
    encode: impl Fn(V) -> T,
) -> bool
where
    T: IntoBytes + Immutable + FromZeros,
{
    let value = decode(entry).unwrap();
    value.map_or_else(T::new_zeroed, encode).as_bytes() == entry.as_bytes()
}

fn check_devices(devices: Devices<Box<Page>>) {
    let record: &PciSer = transmute_ref!(&**devices.page());
    let mut entries = record.devices.iter();
    assert!(
        entries.all(|entry| comes_back(entry, DeviceSer::decode, |device| {
            DeviceSer::encode(&device)
        }))
    );
    for device in devices.iter() {
        assert_eq!(devices.find(device.address), Some(device));
        assert!(device.users > 0);
    }
}

fn check_iommu(iommu: Iommu<Box<Page>>) {
    let record: &IommuSer = transmute_ref!(&**iommu.page());
    let mut units = record.units.iter();
    assert!(units.all(|entry| comes_back(entry, UnitSer::decode, |unit| UnitSer::encode(&unit))));
    let mut domains = record.domains.iter();
    assert!(
        domains.all(|entry| comes_back(entry, DomainSer::decode, |domain| {
            DomainSer::encode(&domain)
        }))
    );
    let mut attachments = record.attachments.iter();
    assert!(attachments.all(
        |entry| comes_back(entry, AttachmentSer::decode, |attachment| {
            AttachmentSer::encode(&attachment)
        })
    ));
    for attachment in iommu.attachments() {
        let unit = iommu.unit(attachment.register_base).unwrap();
        assert!(iommu.domain(attachment.domain).is_some());
        assert!(unit.has_domain_id(attachment.domain_id));
        let scalable = unit.mode == Mode::Scalable;
        let pages = if scalable {
            3 + attachment.directory_pages()
        } else {
            2
        };
        assert_eq!(attachment.pages(unit.root_table).count(), pages as usize);
    }
}

fn check_iommufd(iommufd: Iommufd<Box<Page>>) {
    let record: &IommufdSer = transmute_ref!(&**iommufd.page());
    let mut hwpts = record.hwpts.iter();
    assert!(hwpts.all(
        |entry| comes_back(entry, HwptSer::decode, |(token, domain)| {
            HwptSer::encode(token, domain)
        })
    ));
    let mut memories = record.memories.iter();
    assert!(memories.all(
        |entry| comes_back(entry, MemorySer::decode, |(domain, data)| {
            MemorySer::encode(domain, data)
        })
    ));
    for (domain, _) in iommufd.memories() {
        assert!(iommufd.hwpts().any(|(_, other)| other == domain));
    }
}

fn check_vfio(vfio: Vfio<Box<Page>>) {
    let bridges: Vec<_> = vfio.bridges().map(|bridge| bridge.bdf).collect();
    let again = Vfio::create(page(), &vfio.file(), &bridges).unwrap();
    assert!(same_but_optional(vfio.page(), again.page()));
}

fn check_tables(list: TableList<Box<Page>>) {
    let mut again = TableList::create(page());
    for table in list.tables() {
        again.push(table).unwrap();
    }
    if let Some(next) = list.next() {
        again.set_next(next);
    }
    assert!(list.page() == again.page());
}

fn same_but_optional(one: &Page, other: &Page) -> bool {
    one[..24] == other[..24] && one[32..] == other[32..]
}

/// Every bit of every record, and at least one that each family goes on accepting.
#[test]
fn no_single_bit_is_passed_over() {
    for page in [
        pci().into_page(),
        iommu().into_page(),
        iommufd().into_page(),
        vfio().into_page(),
        tables().into_page(),
    ] {
        let mut accepted = 0;
        for offset in 0..PAGE_SIZE {
            for bit in 0..8 {
                let damaged = changed(page.clone(), offset, page[offset] ^ 1 << bit);
                accepted += decode_all(damaged.as_slice());
            }
        }
        assert!(accepted > 16, "{accepted}");
    }
}

/// A bit means a feature of its own in each family.
#[test]
fn a_feature_is_known_to_its_family_only() {
    let header = |family, known_required| super::Header {
        family,
        magic: *b"hitl-abc",
        version: 1,
        known_required,
    };
    let (one, other) = (header(Family::Pci, 2), header(Family::Iommu, 4));
    let mut needed = one.encode();
    needed.required = 2.into();
    assert_eq!(one.check(&needed), Ok(()));
    let unknown = Err(Refusal::UnknownFeature(Family::Iommu));
    assert_eq!(other.check(&needed), unknown);
    needed.required = 6.into();
    assert!(one.check(&needed).is_err() && other.check(&needed).is_err());
}

proptest! {
    #[test]
    fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), PAGE_SIZE)) {
        decode_all(&bytes);
    }

    /// Nearly right is more dangerous than noise.
    #[test]
    fn any_damage_decodes_or_is_refused(
        which in 0_usize..5,
        damage in proptest::collection::vec((0..PAGE_SIZE, any::<u8>()), 1..4),
    ) {
        let mut page = match which {
            0 => pci().into_page(),
            1 => iommu().into_page(),
            2 => iommufd().into_page(),
            3 => vfio().into_page(),
            _ => tables().into_page(),
        };
        let used: Vec<_> = (0..PAGE_SIZE).filter(|offset| page[*offset] != 0).collect();
        for (offset, value) in damage {
            // Half of the damage goes where something is written.
            let offset = if value & 1 == 0 { offset } else { used[offset % used.len()] };
            page[offset] ^= value >> 1;
        }
        decode_all(page.as_slice());
    }

    /// What was added and removed again has left nothing behind.
    #[test]
    fn removal_is_the_undo_of_addition(
        bdf in 0x0300_u16..,
        bridges in proptest::collection::vec(0_u16..0x20, 0..8),
    ) {
        let mut devices = pci();
        let before = *devices.page().clone();
        let bridges: Vec<_> = bridges.into_iter().map(at).collect();
        devices.add(at(bdf), IGB, bridges.iter().copied()).unwrap();
        devices.remove(at(bdf), bridges.iter().copied());
        prop_assert_eq!(**devices.page(), before);
    }

    #[test]
    fn attachments_come_back(
        bdf in 0x0300_u16..,
        domain_id in 2_u16..,
        device_tlb: bool,
        order in 15_u32..=20,
    ) {
        let mut iommu = iommu();
        let second = DomainKey::new(2).unwrap();
        iommu.remove_attachment(at(0x0200));
        let before = *iommu.page().clone();
        let mut wanted = attachment(bdf, &SCALABLE, second);
        wanted.domain_id = domain_id;
        wanted.max_pasid = 1 << order;
        wanted.entry.device_tlb = device_tlb;
        iommu.add_attachment(&SCALABLE, &wanted).unwrap();
        let mut iommu = Iommu::decode(iommu.into_page()).unwrap();
        prop_assert_eq!(iommu.attachment(at(bdf)), Some(wanted));
        iommu.remove_attachment(at(bdf));
        prop_assert_eq!(**iommu.page(), before);
    }

    #[test]
    fn domains_come_back(token: u64, top in 1_u64 << 30..1 << 40, levels in 3_u32..=5, tables in 1_u64..) {
        let mut iommu = iommu();
        let domain = Domain {
            table: Table { top: top << 12, levels, incoherent: true, ..DOMAIN.table },
            tables,
            token,
            ..third()
        };
        let key = iommu.add_domain(&domain).unwrap();
        let iommu = Iommu::decode(iommu.into_page()).unwrap();
        prop_assert_eq!(iommu.domain(key), Some(domain));
    }
}

#[test]
fn in_scalable_mode_a_unit_has_one_device_on_a_hwpt() {
    let mut iommu = iommu();
    let second = DomainKey::new(2).unwrap();
    let another = attachment(0x0300, &SCALABLE, second);
    assert_eq!(
        iommu.add_attachment(&SCALABLE, &another),
        Err(Refusal::SharedHwpt)
    );
    iommu.remove_attachment(at(0x0200));
    assert_eq!(iommu.add_attachment(&SCALABLE, &another), Ok(()));

    // In legacy mode one exchange changes domain id and table, so sharing does no harm.
    let first = DomainKey::new(1).unwrap();
    let another = attachment(0x0108, &UNIT, first);
    assert_eq!(iommu.add_attachment(&UNIT, &another), Ok(()));
}
