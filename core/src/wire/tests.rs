// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Round trips, refusals, golden bytes, and bytes that mean nothing.

extern crate std;

use std::boxed::Box;
use std::vec::Vec;

use proptest::prelude::*;

use super::iommu::Iommu;
use super::iommufd::Iommufd;
use super::pci::Devices;
use super::tables::TableList;
use super::vfio::{Vfio, VfioFile};
use crate::abi::{self, Page, PAGE_SIZE};
use crate::model::{
    Attachment, DeviceAddress, Domain, DomainKey, EntryFacts, Format, Identity, Kind, Mode, Table,
    Unit,
};
use crate::refusal::{Family, Refusal};

fn page() -> Box<Page> {
    Box::new([0xa5; PAGE_SIZE])
}

fn at(bdf: u16) -> DeviceAddress {
    DeviceAddress { segment: 0, bdf }
}

const IGB: Identity = Identity {
    vendor: 0x8086,
    device: 0x10c9,
    subsystem_vendor: 0x8086,
    subsystem_device: 0xa03c,
    class_revision: 0x0200_0001,
};

const UNIT: Unit = Unit {
    register_base: 0xfed9_0000,
    root_table: 0x0123_4000,
    live_root: 0x0123_4000,
    capability: 0x00d2_008c_2266_0286,
    extended_capability: 0x00f0_0f5a,
    mode: Mode::Legacy,
};

const SCALABLE: Unit = Unit {
    register_base: 0xfed9_1000,
    root_table: 0x0223_4000,
    live_root: 0x0223_4400,
    capability: UNIT.capability,
    extended_capability: UNIT.extended_capability,
    mode: Mode::Scalable,
};

const DOMAIN: Domain = Domain {
    table: Table {
        top: 0x0200_0000,
        format: Format::SecondStage,
        levels: 4,
        incoherent: false,
        snoop: true,
    },
    list: 0x0300_0000,
    tables: 39,
    iommufd: 0x0400_0000,
    token: 0x0102_0304_0506_0708,
};

fn attachment(bdf: u16, unit: &Unit, domain: DomainKey) -> Attachment {
    let scalable = unit.mode == Mode::Scalable;
    Attachment {
        address: at(bdf),
        register_base: unit.register_base,
        context_table: 0x0500_0000,
        pasid_directory: if scalable { 0x0600_0000 } else { 0 },
        pasid_table: if scalable { 0x0700_0000 } else { 0 },
        max_pasid: if scalable { 1 << 20 } else { 0 },
        domain_id: 5,
        domain,
        entry: EntryFacts {
            device_tlb: true,
            walk_snoop: scalable,
            page_snoop: false,
        },
    }
}

fn pci() -> Devices<Box<Page>> {
    let mut devices = Devices::create(page());
    let bridges = [at(0x0008), at(0x0010)];
    devices.add(at(0x0100), IGB, bridges.into_iter()).unwrap();
    let bridges = [at(0x0010)];
    devices.add(at(0x0200), IGB, bridges.into_iter()).unwrap();
    devices
}

fn iommu() -> Iommu<Box<Page>> {
    let mut iommu = Iommu::create(page());
    let first = iommu.add_domain(&DOMAIN).unwrap();
    let mut other = DOMAIN;
    other.token = 9;
    other.table.format = Format::FirstStage;
    let second = iommu.add_domain(&other).unwrap();
    iommu
        .add_attachment(&UNIT, &attachment(0x0100, &UNIT, first))
        .unwrap();
    iommu
        .add_attachment(&SCALABLE, &attachment(0x0200, &SCALABLE, second))
        .unwrap();
    iommu
}

fn iommufd() -> Iommufd<Box<Page>> {
    let mut iommufd = Iommufd::create(page());
    let key = DomainKey::new(1).unwrap();
    iommufd.add_hwpt(DOMAIN.token, key).unwrap();
    iommufd.add_memory(key, 0x0800_0000, 1).unwrap();
    iommufd
}

const FILE: VfioFile = VfioFile {
    address: DeviceAddress {
        segment: 0,
        bdf: 0x0100,
    },
    iommufd: DOMAIN.iommufd,
    iommufd_token: 2,
    hwpt_token: DOMAIN.token,
};

fn vfio() -> Vfio<Box<Page>> {
    Vfio::create(page(), &FILE, &[0x0008, 0x0010]).unwrap()
}

fn tables() -> TableList<Box<Page>> {
    let mut list = TableList::create(page());
    list.push(0x0200_0000).unwrap();
    list.push(0x0200_1000).unwrap();
    list.set_next(0x0900_0000);
    list
}

fn changed(mut page: Box<Page>, offset: usize, value: u8) -> Box<Page> {
    page[offset] = value;
    page
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
    for (bdf, id) in [(0x0108, 5), (0x0110, 7), (0x0118, 7)] {
        let mut attachment = attachment(bdf, &UNIT, key);
        attachment.domain_id = id;
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
    assert!(iommu.uses_page(UNIT.root_table));
    assert!(iommu.uses_page(0x0601_f000) && !iommu.uses_page(0x0602_0000));
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
    assert_eq!(memories, [(key, 0x0800_0000)]);
}

#[test]
fn memory_needs_its_hwpt() {
    let mut iommufd = iommufd();
    let other = DomainKey::new(2).unwrap();
    let refusal = Refusal::NotRecorded(Family::Iommufd);
    assert_eq!(iommufd.add_memory(other, 1, 1), Err(refusal));
    // Domain of the first memory.
    let page = changed(iommufd.into_page(), 320 + 16, 2);
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
    assert_eq!(Iommufd::decode(iommufd).unwrap().hwpts().count(), 1);
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

/// Decodes a page as each family, and uses whatever is accepted.
fn decode_all(bytes: &[u8]) {
    let page = || -> Box<Page> { Box::new(bytes.try_into().unwrap()) };
    if let Ok(devices) = Devices::decode(page()) {
        assert!(devices.iter().all(|device| device.users > 0));
    }
    if let Ok(iommu) = Iommu::decode(page()) {
        for attachment in iommu.attachments() {
            assert!(iommu.unit(attachment.register_base).is_some());
            assert!(iommu.domain(attachment.domain).is_some());
            assert!(attachment.pages(0).count() <= 2 + 32 + 1);
        }
        for index in 0..4 {
            let _ = iommu.domain_id(UNIT.register_base, index);
        }
    }
    if let Ok(iommufd) = Iommufd::decode(page()) {
        for (domain, _) in iommufd.memories() {
            assert!(iommufd.hwpts().any(|(_, other)| other == domain));
        }
    }
    if let Ok(vfio) = Vfio::decode(page()) {
        assert!(vfio.bridges().count() <= abi::vfio::BRIDGES);
    }
    if let Ok(list) = TableList::decode(page()) {
        assert!(list.tables().all(|table| table % 4096 == 0));
    }
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
        damage in proptest::collection::vec((0..PAGE_SIZE, any::<u8>()), 1..8),
    ) {
        let mut page = match which {
            0 => pci().into_page(),
            1 => iommu().into_page(),
            2 => iommufd().into_page(),
            3 => vfio().into_page(),
            _ => tables().into_page(),
        };
        for (offset, value) in damage {
            // Half of the damage goes where something is written.
            let offset = if value & 1 == 0 { offset } else { offset % 512 };
            page[offset] = value;
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
        domain_id: u16,
        device_tlb: bool,
        walk_snoop: bool,
        page_snoop: bool,
        order in 15_u32..=20,
    ) {
        let mut iommu = iommu();
        let second = DomainKey::new(2).unwrap();
        iommu.remove_attachment(at(0x0200));
        let before = *iommu.page().clone();
        let mut wanted = attachment(bdf, &SCALABLE, second);
        wanted.domain_id = domain_id;
        wanted.max_pasid = 1 << order;
        wanted.entry = EntryFacts { device_tlb, walk_snoop, page_snoop };
        iommu.add_attachment(&SCALABLE, &wanted).unwrap();
        let mut iommu = Iommu::decode(iommu.into_page()).unwrap();
        prop_assert_eq!(iommu.attachment(at(bdf)), Some(wanted));
        iommu.remove_attachment(at(bdf));
        prop_assert_eq!(**iommu.page(), before);
    }

    #[test]
    fn domains_come_back(token: u64, top in 1_u64..1 << 40, levels in 3_u32..=5, tables in 1_u64..) {
        let mut iommu = iommu();
        let domain = Domain {
            table: Table { top: top << 12, levels, incoherent: true, ..DOMAIN.table },
            tables,
            token,
            iommufd: 0x0a00_0000,
            ..DOMAIN
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
