// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! One row per check of the decoders: a good record, what is written over it, and the refusal.

extern crate std;

use core::mem::{offset_of, size_of};
use std::boxed::Box;
use std::vec::Vec;

use super::super::fixture::*;
use super::super::iommu::Iommu;
use super::super::iommufd::Iommufd;
use super::super::pci::Devices;
use super::super::tables::TableList;
use super::super::vfio::Vfio;
use crate::abi::iommu::{AttachmentSer, DomainSer, IommuSer, UnitSer};
use crate::abi::iommufd::{HwptSer, IommufdSer, MemorySer};
use crate::abi::pci::{DeviceSer, PciSer};
use crate::abi::tables::TableListSer;
use crate::abi::vfio::VfioSer;
use crate::abi::Page;
use crate::model::{Attachment, Domain, DomainKey, Format};
use crate::refusal::{Family, Refusal};

/// Where a field is, and what is written over it.
type Edit = (usize, Vec<u8>);
/// A page with edits, and what comes of decoding it.
type Row = (Vec<Edit>, Refusal);

fn decode(family: Family, page: Box<Page>) -> Result<(), Refusal> {
    match family {
        Family::Pci => Devices::decode(page).map(drop),
        Family::Iommu => Iommu::decode(page).map(drop),
        Family::Iommufd => Iommufd::decode(page).map(drop),
        Family::VfioPci => Vfio::decode(page).map(drop),
        Family::TableList => TableList::decode(page).map(drop),
    }
}

fn good(family: Family) -> Box<Page> {
    match family {
        Family::Pci => pci().into_page(),
        Family::Iommu => iommu().into_page(),
        Family::Iommufd => iommufd().into_page(),
        Family::VfioPci => vfio().into_page(),
        Family::TableList => tables().into_page(),
    }
}

fn check(family: Family, rows: Vec<Row>) {
    assert_eq!(decode(family, good(family)), Ok(()));
    for (number, (edits, refusal)) in rows.into_iter().enumerate() {
        let mut page = good(family);
        for (offset, bytes) in &edits {
            page[*offset..*offset + bytes.len()].copy_from_slice(bytes);
        }
        let verdict = decode(family, page);
        assert_eq!(verdict, Err(refusal), "{family}, row {number}: {edits:x?}");
    }
}

/// Offset of a field of an entry of an array.
macro_rules! at {
    ($record:ident.$array:ident[$index:expr], $entry:ident.$field:ident) => {
        offset_of!($record, $array) + $index * size_of::<$entry>() + offset_of!($entry, $field)
    };
}

fn u16(offset: usize, value: u16) -> Edit {
    (offset, value.to_le_bytes().to_vec())
}

fn u32(offset: usize, value: u32) -> Edit {
    (offset, value.to_le_bytes().to_vec())
}

fn u64(offset: usize, value: u64) -> Edit {
    (offset, value.to_le_bytes().to_vec())
}

/// The last byte of a field that has to be 0.
fn last(offset: usize, size: usize) -> Edit {
    (offset + size - 1, [0x80].to_vec())
}

/// Each edit alone is refused in the same way.
fn each(refusal: Refusal, edits: impl IntoIterator<Item = Edit>) -> Vec<Row> {
    let edits = edits.into_iter();
    edits.map(|edit| ([edit].to_vec(), refusal)).collect()
}

/// The edits together are refused.
fn all(refusal: Refusal, edits: impl IntoIterator<Item = Edit>) -> Vec<Row> {
    [(edits.into_iter().collect(), refusal)].to_vec()
}

#[test]
fn of_pci_records() {
    const FAMILY: Family = Family::Pci;
    let field =
        |index, offset| offset_of!(PciSer, devices) + index * size_of::<DeviceSer>() + offset;
    let users = offset_of!(DeviceSer, users);
    let reserved = offset_of!(DeviceSer, reserved);
    let malformed = [
        last(offset_of!(PciSer, reserved), 32),
        u16(field(0, offset_of!(DeviceSer, kind)), 3),
        u32(field(0, users), 0),
        u32(field(0, users), 2),
        // Entry 1 is a bridge.
        u32(field(1, users), 0),
        u16(field(1, offset_of!(DeviceSer, vendor)), 1),
        last(field(0, reserved), 8),
        last(field(1, reserved), 8),
        // Entry 4 is free, and so is the last.
        last(field(4, reserved), 8),
        u16(field(125, offset_of!(DeviceSer, bdf)), 1),
    ];
    check(FAMILY, each(Refusal::Malformed(FAMILY), malformed));
    let twice = [u16(field(3, offset_of!(DeviceSer, bdf)), 0x0100)];
    check(FAMILY, each(Refusal::Duplicate(FAMILY), twice));
}

#[test]
fn of_units() {
    const FAMILY: Family = Family::Iommu;
    let root = at!(IommuSer.units[0], UnitSer.root_table);
    let malformed = [
        last(offset_of!(IommuSer, reserved), 32),
        u32(at!(IommuSer.units[0], UnitSer.mode), 3),
        // A unit in the other mode than its attachments.
        u32(at!(IommuSer.units[0], UnitSer.mode), 2),
        u32(at!(IommuSer.units[1], UnitSer.mode), 1),
        u64(root, 0),
        u64(root, UNIT.root_table | 8),
        // A free one.
        u32(at!(IommuSer.units[2], UnitSer.segment), 1),
    ];
    check(FAMILY, each(Refusal::Malformed(FAMILY), malformed));
    let other = [u32(at!(IommuSer.units[0], UnitSer.segment), 1)];
    check(FAMILY, each(Refusal::Contradictory(FAMILY), other));
    let same = [u64(
        at!(IommuSer.units[1], UnitSer.register_base),
        UNIT.register_base,
    )];
    check(FAMILY, each(Refusal::Duplicate(FAMILY), same));
    let lost = [u64(at!(IommuSer.units[0], UnitSer.register_base), 0x1000)];
    check(FAMILY, each(Refusal::NotRecorded(FAMILY), lost));
}

#[test]
fn of_domains() {
    const FAMILY: Family = Family::Iommu;
    let top = at!(IommuSer.domains[0], DomainSer.top);
    let list = at!(IommuSer.domains[0], DomainSer.list);
    let iommufd = at!(IommuSer.domains[0], DomainSer.iommufd);
    let malformed = [
        u32(at!(IommuSer.domains[0], DomainSer.format), 3),
        u32(at!(IommuSer.domains[0], DomainSer.levels), 2),
        u32(at!(IommuSer.domains[0], DomainSer.levels), 6),
        // First stage has no three levels.
        u32(at!(IommuSer.domains[1], DomainSer.levels), 3),
        u32(at!(IommuSer.domains[0], DomainSer.flags), 4),
        u32(at!(IommuSer.domains[0], DomainSer.reserved), 1),
        u64(top, 0),
        u64(top, DOMAIN.table.top | 8),
        u64(list, 0),
        u64(list, DOMAIN.list | 8),
        u64(iommufd, 0),
        u64(iommufd, DOMAIN.iommufd | 8),
        u64(at!(IommuSer.domains[0], DomainSer.tables), 0),
        // A free one.
        u64(at!(IommuSer.domains[2], DomainSer.token), 1),
    ];
    check(FAMILY, each(Refusal::Malformed(FAMILY), malformed));
    let same = [u64(at!(IommuSer.domains[1], DomainSer.token), DOMAIN.token)];
    check(FAMILY, each(Refusal::Duplicate(FAMILY), same));
}

#[test]
fn of_attachments() {
    const FAMILY: Family = Family::Iommu;
    let context = at!(IommuSer.attachments[0], AttachmentSer.context_table);
    let directory = at!(IommuSer.attachments[1], AttachmentSer.pasid_directory);
    let table = at!(IommuSer.attachments[1], AttachmentSer.pasid_table);
    let max_pasid = at!(IommuSer.attachments[1], AttachmentSer.max_pasid);
    let id = at!(IommuSer.attachments[0], AttachmentSer.domain_id);
    let flags = |index| at!(IommuSer.attachments[index], AttachmentSer.flags);
    let malformed = [
        u64(context, 0),
        u64(context, 0x1008),
        u64(directory, 0),
        u64(directory, 0x1008),
        u64(table, 0),
        u64(table, 0x1008),
        // In legacy mode there is nothing of this.
        u64(
            at!(IommuSer.attachments[0], AttachmentSer.pasid_directory),
            0x1000,
        ),
        u64(
            at!(IommuSer.attachments[0], AttachmentSer.pasid_table),
            0x1000,
        ),
        u32(
            at!(IommuSer.attachments[0], AttachmentSer.max_pasid),
            0x8000,
        ),
        u16(flags(0), 2),
        u16(flags(0), 4),
        // And nothing unknown in either.
        u16(flags(0), 8),
        u16(flags(1), 8),
        // Numbers of PASIDs that Linux does not arrive at.
        u32(max_pasid, 0),
        u32(max_pasid, 0x4000),
        u32(max_pasid, 0x8040),
        u32(max_pasid, 0x1_8000),
        u32(max_pasid, 0x20_0000),
        u16(id, 0),
        u16(id, 1),
        // A free one.
        u16(at!(IommuSer.attachments[2], AttachmentSer.bdf), 1),
    ];
    check(FAMILY, each(Refusal::Malformed(FAMILY), malformed));
    // CAP_REG.ND 0 is 16 domain ids.
    let few = u64(at!(IommuSer.units[0], UnitSer.capability), 0);
    let beyond = [few, u16(id, 16)];
    check(FAMILY, all(Refusal::Malformed(FAMILY), beyond));

    let lost = [u16(at!(IommuSer.attachments[0], AttachmentSer.domain), 3)];
    check(FAMILY, each(Refusal::NotRecorded(FAMILY), lost));
    let same = [u16(at!(IommuSer.attachments[1], AttachmentSer.bdf), 0x0100)];
    check(FAMILY, each(Refusal::Duplicate(FAMILY), same));
    let contradictory = [
        u32(at!(IommuSer.attachments[0], AttachmentSer.segment), 1),
        // Page-walk snoop of coherent tables, page snoop of a domain that does not force it.
        u16(flags(1), 1),
        u16(flags(1), 7),
    ];
    check(FAMILY, each(Refusal::Contradictory(FAMILY), contradictory));
    // A domain on two units of which one is in scalable mode.
    let shared = [u16(at!(IommuSer.attachments[1], AttachmentSer.domain), 1)];
    let coherent = [u16(flags(1), 3)];
    check(
        FAMILY,
        all(Refusal::SharedHwpt, shared.into_iter().chain(coherent)),
    );
}

/// All pages that the fixture speaks of: the field that names each, and its address.
fn pages() -> [(usize, u64); 11] {
    let records = iommu();
    let attachment = |bdf| records.attachment(at(bdf)).unwrap();
    let (legacy, scalable) = (attachment(0x0100), attachment(0x0200));
    [
        (at!(IommuSer.units[0], UnitSer.root_table), UNIT.root_table),
        (
            at!(IommuSer.units[1], UnitSer.root_table),
            SCALABLE.root_table,
        ),
        (
            at!(IommuSer.attachments[0], AttachmentSer.context_table),
            legacy.context_table,
        ),
        (
            at!(IommuSer.attachments[1], AttachmentSer.context_table),
            scalable.context_table,
        ),
        (
            at!(IommuSer.attachments[1], AttachmentSer.pasid_table),
            scalable.pasid_table,
        ),
        (at!(IommuSer.domains[0], DomainSer.top), DOMAIN.table.top),
        (at!(IommuSer.domains[1], DomainSer.top), OTHER.table.top),
        (at!(IommuSer.domains[0], DomainSer.list), DOMAIN.list),
        (at!(IommuSer.domains[1], DomainSer.list), OTHER.list),
        (at!(IommuSer.domains[1], DomainSer.iommufd), OTHER.iommufd),
        (
            at!(IommuSer.attachments[1], AttachmentSer.pasid_directory),
            scalable.pasid_directory,
        ),
    ]
}

#[test]
fn of_pages_with_two_uses() {
    const FAMILY: Family = Family::Iommu;
    let pages = pages();
    let (_, directory) = pages[10];
    let mut rows = Vec::new();
    for (field, own) in pages {
        for (_, other) in pages {
            if own != other {
                rows.push(u64(field, other));
            }
        }
        // Each page of the directory counts.
        if own != directory {
            rows.push(u64(field, directory + (31 << 12)));
        }
    }
    check(FAMILY, each(Refusal::Aliased(FAMILY), rows));
    // The page after it is somebody else's.
    let mut page = good(FAMILY);
    let after = (directory + (32 << 12)).to_le_bytes();
    page[pages[0].0..][..8].copy_from_slice(&after);
    assert_eq!(decode(FAMILY, page), Ok(()));
}

#[test]
fn of_iommufd_records() {
    const FAMILY: Family = Family::Iommufd;
    let reserved = offset_of!(HwptSer, reserved);
    assert_eq!(reserved, offset_of!(MemorySer, reserved));
    let hwpt = |index| offset_of!(IommufdSer, hwpts) + index * size_of::<HwptSer>();
    let memory = |index| offset_of!(IommufdSer, memories) + index * size_of::<MemorySer>();
    let malformed = [
        last(offset_of!(IommufdSer, reserved), 32),
        last(offset_of!(IommufdSer, reserved_end), 16),
        last(hwpt(0) + reserved, 6),
        last(hwpt(1) + reserved, 6),
        last(memory(0) + reserved, 6),
        last(memory(1) + reserved, 6),
        // Free ones.
        last(hwpt(2) + reserved, 6),
        u64(hwpt(15) + offset_of!(HwptSer, token), 1),
        last(memory(2) + reserved, 6),
        u64(memory(234) + offset_of!(MemorySer, data), 1),
    ];
    check(FAMILY, each(Refusal::Malformed(FAMILY), malformed));
    let same = [u64(hwpt(1) + offset_of!(HwptSer, token), DOMAIN.token)];
    check(FAMILY, each(Refusal::Duplicate(FAMILY), same));
    let orphan = [u16(memory(1) + offset_of!(MemorySer, domain), 3)];
    check(FAMILY, each(Refusal::NotRecorded(FAMILY), orphan));
}

#[test]
fn of_vfio_records() {
    const FAMILY: Family = Family::VfioPci;
    let count = offset_of!(VfioSer, bridge_count);
    let bridges = offset_of!(VfioSer, bridges);
    let malformed = [
        last(offset_of!(VfioSer, reserved), 32),
        last(offset_of!(VfioSer, reserved_end), 3976),
        u16(count, 17),
        u16(count, u16::MAX),
        // Two bridges are there.
        u16(count, 1),
        u16(bridges + 30, 7),
    ];
    check(FAMILY, each(Refusal::Malformed(FAMILY), malformed));
    let same = [
        u16(bridges + 2, 0x0008),
        u16(bridges, 0x0100),
        u16(offset_of!(VfioSer, bdf), 0x0010),
    ];
    check(FAMILY, each(Refusal::Duplicate(FAMILY), same));
}

#[test]
fn of_lists_of_tables() {
    const FAMILY: Family = Family::TableList;
    let table = |index: usize| offset_of!(TableListSer, tables) + 8 * index;
    let malformed = [
        u32(offset_of!(TableListSer, reserved), 1),
        u32(offset_of!(TableListSer, count), 510),
        u32(offset_of!(TableListSer, count), u32::MAX),
        // Two are there.
        u32(offset_of!(TableListSer, count), 1),
        u32(offset_of!(TableListSer, count), 3),
        u64(offset_of!(TableListSer, next), 0x1008),
        u64(table(0), 0),
        u64(table(1), 0x1008),
        u64(table(2), 0x1000),
        u64(table(508), 1),
    ];
    check(FAMILY, each(Refusal::Malformed(FAMILY), malformed));
    let magic = [u64(offset_of!(TableListSer, magic), 0)];
    check(FAMILY, each(Refusal::NotARecord(FAMILY), magic));
}

#[test]
fn of_a_full_list_that_says_it_has_more() {
    let mut list = TableList::create(page());
    while list.push(0x1000).is_ok() {}
    let mut page = list.into_page();
    assert_eq!(decode(Family::TableList, page.clone()), Ok(()));
    page[offset_of!(TableListSer, count)..][..4].copy_from_slice(&510_u32.to_le_bytes());
    let malformed = Refusal::Malformed(Family::TableList);
    assert_eq!(decode(Family::TableList, page), Err(malformed));
}

/// What a reader would refuse is refused when it is written, and changes nothing.
fn added(change: impl FnOnce(&mut Attachment)) -> Result<(), Refusal> {
    let mut records = iommu();
    let before = *records.page().clone();
    let mut another = attachment(0x0108, &UNIT, DomainKey::new(1).unwrap());
    change(&mut another);
    let unit = if another.pasid_directory == 0 {
        UNIT
    } else {
        SCALABLE
    };
    let verdict = records.add_attachment(&unit, &another);
    let after = records.into_page();
    match verdict {
        Ok(()) => assert_eq!(decode(Family::Iommu, after), Ok(())),
        Err(_) => assert!(*after == before, "a refused attachment has left something"),
    }
    verdict
}

#[test]
fn devices_of_a_bus_share_a_context_table() {
    const FAMILY: Family = Family::Iommu;
    let contradictory = Err(Refusal::Contradictory(FAMILY));
    assert_eq!(added(|_| {}), Ok(()));
    let elsewhere = |other: &mut Attachment| other.context_table += 0x10_0000;
    assert_eq!(added(elsewhere), contradictory);
    // Another bus has another one.
    let bus = |other: &mut Attachment| other.address.bdf = 0x0308;
    assert_eq!(added(bus), Err(Refusal::Aliased(FAMILY)));
}

#[test]
fn halves_of_a_bus_have_their_own_context_tables() {
    let second = |bdf, context_of| {
        let mut records = iommu();
        records.remove_attachment(at(0x0100));
        let first = DomainKey::new(1).unwrap();
        let mut another = attachment(bdf, &SCALABLE, first);
        another.context_table = attachment(context_of, &SCALABLE, first).context_table;
        records.add_attachment(&SCALABLE, &another)
    };
    // The fixture's device is in the lower half.
    assert_eq!(second(0x0210, 0x0200), Ok(()));
    assert_eq!(second(0x0280, 0x0280), Ok(()));
    let aliased = Err(Refusal::Aliased(Family::Iommu));
    assert_eq!(second(0x0280, 0x0200), aliased);
    let contradictory = Err(Refusal::Contradictory(Family::Iommu));
    assert_eq!(second(0x0210, 0x0280), contradictory);
}

#[test]
fn a_domain_has_one_domain_id_on_a_unit() {
    let contradictory = Err(Refusal::Contradictory(Family::Iommu));
    // One domain under two ids.
    assert_eq!(added(|other| other.domain_id += 1), contradictory);
    // Two domains under one id.
    let mut records = iommu();
    records.remove_attachment(at(0x0200));
    let mut another = attachment(0x0108, &UNIT, DomainKey::new(2).unwrap());
    another.domain_id = attachment(0x0100, &UNIT, DomainKey::new(1).unwrap()).domain_id;
    assert_eq!(records.add_attachment(&UNIT, &another), contradictory);
    another.domain_id += 1;
    assert_eq!(records.add_attachment(&UNIT, &another), Ok(()));
}

/// Ids belong to a unit.
#[test]
fn on_another_unit_the_id_may_be_the_same() {
    let mut records = iommu();
    let mut unit = UNIT;
    unit.register_base += 0x10_0000;
    unit.root_table += 0x1000_0000;
    unit.live_root = unit.root_table;
    let first = DomainKey::new(1).unwrap();
    // One domain under two ids, under one id, and two domains under one id.
    let mut another = attachment(0x0308, &unit, first);
    for id in [another.domain_id, another.domain_id + 5] {
        another.domain_id = id;
        assert_eq!(records.add_attachment(&unit, &another), Ok(()));
        records.remove_attachment(at(0x0308));
    }
    let mut others = iommu();
    others.remove_attachment(at(0x0200));
    let mut another = attachment(0x0308, &unit, DomainKey::new(2).unwrap());
    another.domain_id = attachment(0x0100, &UNIT, first).domain_id;
    assert_eq!(others.add_attachment(&unit, &another), Ok(()));
    // The context table of another unit is not this one's.
    let mut another = attachment(0x0108, &unit, first);
    another.context_table = attachment(0x0100, &UNIT, first).context_table;
    let aliased = Err(Refusal::Aliased(Family::Iommu));
    assert_eq!(records.add_attachment(&unit, &another), aliased);
}

/// For each kind of table the one pair of snoop bits that a PASID entry of it has.
#[test]
fn snoop_bits_follow_from_the_table() {
    for (format, incoherent, snoop, expected) in [
        (Format::FirstStage, false, false, (true, false)),
        (Format::FirstStage, false, true, (true, true)),
        (Format::FirstStage, true, true, (false, true)),
        (Format::SecondStage, false, true, (true, false)),
        (Format::SecondStage, true, false, (false, false)),
    ] {
        let mut domain = super::third();
        domain.table.format = format;
        domain.table.incoherent = incoherent;
        domain.table.snoop = snoop;
        for (walk_snoop, page_snoop) in [(false, false), (false, true), (true, false), (true, true)]
        {
            let mut records = iommu();
            let key = records.add_domain(&domain).unwrap();
            let mut another = attachment(0x0300, &SCALABLE, key);
            another.entry.walk_snoop = walk_snoop;
            another.entry.page_snoop = page_snoop;
            let verdict = match (walk_snoop, page_snoop) == expected {
                true => Ok(()),
                false => Err(Refusal::Contradictory(Family::Iommu)),
            };
            assert_eq!(records.add_attachment(&SCALABLE, &another), verdict);
        }
    }
}

#[test]
fn an_attachment_is_added_with_its_own_unit() {
    let mut records = iommu();
    let another = attachment(0x0108, &UNIT, DomainKey::new(1).unwrap());
    let malformed = Err(Refusal::Malformed(Family::Iommu));
    assert_eq!(records.add_attachment(&SCALABLE, &another), malformed);
    // Nor is a unit recorded that nobody is attached to.
    let mut elsewhere = UNIT;
    elsewhere.register_base += 0x10_0000;
    elsewhere.root_table += 0x1000_0000;
    assert_eq!(records.add_attachment(&elsewhere, &another), malformed);
    assert_eq!(records.unit(elsewhere.register_base), None);
}

#[test]
fn a_domain_with_tables_of_another_is_not_written() {
    let mut records = iommu();
    let before = *records.page().clone();
    let changes: [fn(&mut Domain); 2] = [
        |domain| domain.list = DOMAIN.list,
        |domain| domain.table.top = DOMAIN.table.top,
    ];
    for change in changes {
        let mut domain = super::third();
        change(&mut domain);
        let aliased = Err(Refusal::Aliased(Family::Iommu));
        assert_eq!(records.add_domain(&domain), aliased);
        assert!(**records.page() == before);
    }
}
