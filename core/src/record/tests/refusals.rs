// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! One row per check of what entries say: good records, what is written over them, and who is refused for it.

extern crate std;

use core::mem::offset_of;
use std::vec::Vec;

use super::super::attachment::{Domain, DomainKey};
use super::super::set::Verdict;
use super::super::vfio::Vfio;
use super::fixture::*;
use super::lent::{seal, Handover, Lent};
use crate::abi::iommu::{AttachmentSer, DomainSer, UnitSer};
use crate::abi::iommufd::{HwptSer, MappingSer, MemorySer};
use crate::abi::list::{ENTRIES, ENTRY_SIZE};
use crate::abi::pci::FunctionSer;
use crate::abi::vfio::DeviceFileSer;
use crate::abi::vtd::{VtdAttachmentSer, VtdUnitSer};
use crate::error::Error;
use crate::iommu::pt::format::Format;
use crate::iommu::vtd::record::Registers;
use crate::refusal::{Family, Refusal};

// Keys of the fixture's entries.
const BRIDGE: u32 = 1;
const NEAR_BRIDGE: u32 = 2;
const FUNCTION_ONE: u32 = 3;
const FUNCTION_TWO: u32 = 4;
const DOMAIN_ONE: u32 = 1;
const DOMAIN_TWO: u32 = 2;
const UNIT_ONE: u32 = 3;
const ATTACHMENT_ONE: u32 = 4;
const UNIT_TWO: u32 = 5;
const ATTACHMENT_TWO: u32 = 6;
const MEMORY_FILE: u32 = 1;
const HWPT_ONE: u32 = 2;
const MAPPING: u32 = 3;
const HWPT_TWO: u32 = 5;

/// First page of the record, key of the entry, offset in it, and what is written there.
#[derive(Clone, Debug)]
struct Edit(u64, u32, usize, Vec<u8>);

macro_rules! edit {
    ($record:ident[$key:expr].$entry:ident.$field:ident = $value:expr) => {
        Edit(
            $record,
            $key,
            offset_of!($entry, $field),
            $value.to_le_bytes().to_vec(),
        )
    };
    // A field of a payload.
    ($record:ident[$key:expr].$entry:ident.payload.$payload:ident.$field:ident = $value:expr) => {
        Edit(
            $record,
            $key,
            offset_of!($entry, payload) + offset_of!($payload, $field),
            $value.to_le_bytes().to_vec(),
        )
    };
}

fn apply(handover: &Handover, Edit(first, key, offset, bytes): &Edit) {
    let number = *key as usize - 1;
    let phys = first + ((number / ENTRIES) << 12) as u64;
    let mut pages = handover.borrow_mut();
    let page = pages.get_mut(&phys).expect("a page");
    let offset = 64 + number % ENTRIES * ENTRY_SIZE + offset;
    page[offset..offset + bytes.len()].copy_from_slice(bytes);
    seal(page);
}

/// What the devices are refused for; `None`: kept.
type Blame = [Option<Refusal>; 2];

fn blame(edits: &[Edit]) -> Blame {
    let handover = handed_over();
    edits.iter().for_each(|edit| apply(&handover, edit));
    let records = take(&handover);
    [ONE, TWO].map(|address| match records.device(address) {
        Verdict::Kept(_) => None,
        Verdict::Refused(refusal) => Some(refusal),
        other => panic!("{other:?} after {edits:x?}"),
    })
}

fn one(refusal: Refusal) -> Blame {
    [Some(refusal), None]
}

fn two(refusal: Refusal) -> Blame {
    [None, Some(refusal)]
}

fn both(refusal: Refusal) -> Blame {
    [Some(refusal), Some(refusal)]
}

/// Each edit alone has this effect.
fn each(expected: Blame, edits: impl IntoIterator<Item = Edit>) {
    for edit in edits {
        let edits = [edit];
        assert_eq!(blame(&edits), expected, "{edits:x?}");
    }
}

#[test]
fn good_records_are_kept() {
    assert_eq!(blame(&[]), [None, None]);
}

#[test]
fn of_functions() {
    let malformed = Refusal::Malformed(Family::Pci);
    each(
        one(malformed),
        [
            edit!(PCI[FUNCTION_ONE].FunctionSer.reserved = 1_u8),
            edit!(PCI[FUNCTION_ONE].FunctionSer.reserved_path = 1_u32),
            edit!(PCI[FUNCTION_ONE].FunctionSer.reserved_identity = 1_u16),
            edit!(PCI[FUNCTION_ONE].FunctionSer.reserved_end = 1_u8),
            edit!(PCI[FUNCTION_ONE].FunctionSer.depth = 0_u16),
            edit!(PCI[FUNCTION_ONE].FunctionSer.upstream = 0_u32),
            // The bridge above the first device alone.
            edit!(PCI[NEAR_BRIDGE].FunctionSer.vendor = 1_u16),
            edit!(PCI[NEAR_BRIDGE].FunctionSer.reserved = 1_u8),
        ],
    );
    each(
        both(malformed),
        [
            edit!(PCI[BRIDGE].FunctionSer.class_revision = 1_u32),
            edit!(PCI[BRIDGE].FunctionSer.reserved_end = 1_u8),
        ],
    );
    let contradictory = Refusal::Contradictory(Family::Pci);
    each(
        one(contradictory),
        [
            edit!(PCI[FUNCTION_ONE].FunctionSer.depth = 3_u16),
            // The far bridge as the one above: the depth is another.
            edit!(PCI[FUNCTION_ONE].FunctionSer.upstream = 1_u32),
            edit!(PCI[NEAR_BRIDGE].FunctionSer.depth = 2_u16),
            edit!(PCI[NEAR_BRIDGE].FunctionSer.segment = 1_u32),
            // Its own bridge, in a circle.
            edit!(PCI[NEAR_BRIDGE].FunctionSer.upstream = NEAR_BRIDGE),
        ],
    );
    each(
        both(contradictory),
        [
            edit!(PCI[BRIDGE].FunctionSer.segment = 1_u32),
            edit!(PCI[BRIDGE].FunctionSer.depth = 1_u16),
        ],
    );
    each(
        one(Refusal::NotRecorded(Family::Pci)),
        [
            // A device as the bridge above, and nothing.
            edit!(PCI[FUNCTION_ONE].FunctionSer.upstream = FUNCTION_TWO),
            edit!(PCI[FUNCTION_ONE].FunctionSer.upstream = 60_u32),
            // Another address: nobody is there.
            edit!(PCI[FUNCTION_ONE].FunctionSer.bdf = 0x0108_u16),
        ],
    );
    // Two at one address. The other's own is gone.
    let duplicate = Refusal::Duplicate(Family::Pci);
    let not_recorded = Refusal::NotRecorded(Family::Pci);
    let edits = [edit!(PCI[FUNCTION_TWO].FunctionSer.bdf = 0x0100_u16)];
    assert_eq!(blame(&edits), [Some(duplicate), Some(not_recorded)]);
}

/// A bridge at a device's place is no device.
#[test]
fn a_bridge_is_no_device() {
    let edits = [
        edit!(PCI[FUNCTION_ONE].FunctionSer.bdf = 0x0008_u16),
        edit!(PCI[NEAR_BRIDGE].FunctionSer.bdf = 0x0100_u16),
    ];
    assert_eq!(blame(&edits), one(Refusal::NotRecorded(Family::Pci)));
}

#[test]
fn of_units() {
    let malformed = Refusal::Malformed(Family::Iommu);
    each(
        one(malformed),
        [
            edit!(IOMMU[UNIT_ONE].UnitSer.reserved = 1_u16),
            edit!(IOMMU[UNIT_ONE].UnitSer.payload.VtdUnitSer.mode = 3_u32),
            edit!(IOMMU[UNIT_ONE].UnitSer.payload.VtdUnitSer.mode = 0_u32),
            edit!(IOMMU[UNIT_ONE].UnitSer.payload.VtdUnitSer.reserved = 1_u8),
            edit!(IOMMU[UNIT_ONE].UnitSer.payload.VtdUnitSer.root_table = 0_u64),
            edit!(IOMMU[UNIT_ONE].UnitSer.payload.VtdUnitSer.root_table = 0x1008_u64),
            // In the other mode than its devices.
            edit!(IOMMU[UNIT_ONE].UnitSer.payload.VtdUnitSer.mode = 2_u32),
        ],
    );
    each(
        two(malformed),
        [edit!(
            IOMMU[UNIT_TWO].UnitSer.payload.VtdUnitSer.mode = 1_u32
        )],
    );
    each(
        one(Refusal::OtherIommu),
        [edit!(IOMMU[UNIT_ONE].UnitSer.hardware = 2_u8)],
    );
    each(
        one(Refusal::Contradictory(Family::Iommu)),
        [edit!(IOMMU[UNIT_ONE].UnitSer.segment = 1_u32)],
    );
    each(
        both(Refusal::Duplicate(Family::Iommu)),
        [edit!(IOMMU[UNIT_TWO].UnitSer.base = unit().base)],
    );
}

#[test]
fn of_domains() {
    each(
        one(Refusal::Malformed(Family::Iommu)),
        [
            edit!(IOMMU[DOMAIN_ONE].DomainSer.format = 0_u8),
            edit!(IOMMU[DOMAIN_ONE].DomainSer.format = 3_u8),
            edit!(IOMMU[DOMAIN_ONE].DomainSer.levels = 2_u8),
            edit!(IOMMU[DOMAIN_ONE].DomainSer.levels = 6_u8),
            edit!(IOMMU[DOMAIN_ONE].DomainSer.flags = 4_u8),
            edit!(IOMMU[DOMAIN_ONE].DomainSer.reserved = 1_u32),
            edit!(IOMMU[DOMAIN_ONE].DomainSer.reserved_end = 1_u8),
            edit!(IOMMU[DOMAIN_ONE].DomainSer.top = 0_u64),
            edit!(IOMMU[DOMAIN_ONE].DomainSer.top = 0x1008_u64),
            edit!(IOMMU[DOMAIN_ONE].DomainSer.top = 1_u64 << 52),
            edit!(IOMMU[DOMAIN_ONE].DomainSer.iommufd = 0_u64),
            edit!(IOMMU[DOMAIN_ONE].DomainSer.iommufd = 0x1008_u64),
            edit!(IOMMU[DOMAIN_ONE].DomainSer.tables = 0_u64),
        ],
    );
    // The processor's format has no three levels, and legacy mode not this format.
    each(
        two(Refusal::Malformed(Family::Iommu)),
        [edit!(IOMMU[DOMAIN_TWO].DomainSer.levels = 3_u8)],
    );
    each(
        one(Refusal::Contradictory(Family::Iommu)),
        [edit!(IOMMU[DOMAIN_ONE].DomainSer.format = 2_u8)],
    );
    each(
        both(Refusal::Duplicate(Family::Iommu)),
        [edit!(IOMMU[DOMAIN_TWO].DomainSer.token = domain().token)],
    );
    // No iommufd lists it: another token, and another iommufd.
    each(
        one(Refusal::NotRecorded(Family::Iommufd)),
        [edit!(IOMMU[DOMAIN_ONE].DomainSer.token = 77_u64)],
    );
    each(
        one(Refusal::NotHandedOver(Family::Iommufd)),
        [edit!(IOMMU[DOMAIN_ONE].DomainSer.iommufd = 0x0b00_0000_u64)],
    );
    each(
        one(Refusal::NotHandedOver(Family::Iommufd)),
        [edit!(
            IOMMU[DOMAIN_ONE].DomainSer.iommufd = (IOMMUFD + 0x1000)
        )],
    );
    // Each other's tokens.
    let swapped = [
        edit!(IOMMU[DOMAIN_ONE].DomainSer.token = other().token),
        edit!(IOMMU[DOMAIN_TWO].DomainSer.token = domain().token),
    ];
    assert_eq!(
        blame(&swapped),
        both(Refusal::Contradictory(Family::Iommufd))
    );
}

#[test]
fn of_attachments() {
    macro_rules! payload {
        ($key:expr, $field:ident = $value:expr) => {
            edit!(IOMMU[$key].AttachmentSer.payload.VtdAttachmentSer.$field = $value)
        };
    }
    let malformed = Refusal::Malformed(Family::Iommu);
    each(
        one(malformed),
        [
            edit!(IOMMU[ATTACHMENT_ONE].AttachmentSer.reserved = 1_u8),
            edit!(IOMMU[ATTACHMENT_ONE].AttachmentSer.reserved_id = 1_u32),
            edit!(IOMMU[ATTACHMENT_ONE].AttachmentSer.domain = 0_u32),
            payload!(ATTACHMENT_ONE, context_table = 0_u64),
            payload!(ATTACHMENT_ONE, context_table = 0x1008_u64),
            payload!(ATTACHMENT_ONE, reserved = 1_u8),
            // In legacy mode there is nothing of this.
            payload!(ATTACHMENT_ONE, pasid_directory = 0x1000_u64),
            payload!(ATTACHMENT_ONE, pasid_table = 0x1000_u64),
            payload!(ATTACHMENT_ONE, max_pasid = 0x8000_u32),
            payload!(ATTACHMENT_ONE, flags = 2_u32),
            payload!(ATTACHMENT_ONE, flags = 4_u32),
            // And nothing unknown in either.
            payload!(ATTACHMENT_ONE, flags = 8_u32),
            edit!(IOMMU[ATTACHMENT_ONE].AttachmentSer.domain_id = 0_u32),
            edit!(IOMMU[ATTACHMENT_ONE].AttachmentSer.domain_id = 1_u32),
            edit!(IOMMU[ATTACHMENT_ONE].AttachmentSer.domain_id = 0x1_0000_u32),
        ],
    );
    each(
        two(malformed),
        [
            payload!(ATTACHMENT_TWO, pasid_directory = 0_u64),
            payload!(ATTACHMENT_TWO, pasid_directory = 0x1008_u64),
            payload!(ATTACHMENT_TWO, pasid_table = 0_u64),
            payload!(ATTACHMENT_TWO, pasid_table = 0x1008_u64),
            payload!(ATTACHMENT_TWO, flags = 8_u32),
            // Numbers of PASIDs that Linux does not arrive at.
            payload!(ATTACHMENT_TWO, max_pasid = 0_u32),
            payload!(ATTACHMENT_TWO, max_pasid = 0x4000_u32),
            payload!(ATTACHMENT_TWO, max_pasid = 0x8040_u32),
            payload!(ATTACHMENT_TWO, max_pasid = 0x1_8000_u32),
            payload!(ATTACHMENT_TWO, max_pasid = 0x20_0000_u32),
        ],
    );
    // CAP_REG.ND 0 is 16 domain ids.
    let few = edit!(IOMMU[UNIT_ONE].UnitSer.payload.VtdUnitSer.capability = 0_u64);
    let id = |id: u32| edit!(IOMMU[ATTACHMENT_ONE].AttachmentSer.domain_id = id);
    assert_eq!(blame(&[few.clone(), id(16)]), one(malformed));
    assert_eq!(blame(&[few, id(15)]), [None, None]);

    let not_recorded = Refusal::NotRecorded(Family::Iommu);
    each(
        one(not_recorded),
        [
            edit!(IOMMU[ATTACHMENT_ONE].AttachmentSer.domain = 7_u32),
            edit!(IOMMU[ATTACHMENT_ONE].AttachmentSer.domain = UNIT_ONE),
            edit!(IOMMU[ATTACHMENT_ONE].AttachmentSer.unit = 0_u32),
            edit!(IOMMU[ATTACHMENT_ONE].AttachmentSer.unit = DOMAIN_ONE),
            // Another device's.
            edit!(IOMMU[ATTACHMENT_ONE].AttachmentSer.bdf = 0x0108_u16),
            edit!(IOMMU[ATTACHMENT_ONE].AttachmentSer.segment = 1_u32),
        ],
    );
    each(
        two(Refusal::Contradictory(Family::Iommu)),
        [
            // Page-walk snoop of coherent tables, page snoop of a domain that does not force it.
            payload!(ATTACHMENT_TWO, flags = 1_u32),
            payload!(ATTACHMENT_TWO, flags = 7_u32),
        ],
    );
    // Two attachments of one device.
    let twice = [edit!(IOMMU[ATTACHMENT_TWO].AttachmentSer.bdf = 0x0100_u16)];
    let duplicate = Refusal::Duplicate(Family::Iommu);
    assert_eq!(blame(&twice), [Some(duplicate), Some(not_recorded)]);
}

/// All pages that the fixture speaks of: the field that names each, its address, and who is refused for it.
fn pages() -> Vec<(Edit, u64, usize)> {
    macro_rules! page {
        ($key:expr, $entry:ident.$payload:ident.$field:ident, $value:expr, $owner:expr) => {
            (
                edit!(IOMMU[$key].$entry.payload.$payload.$field = $value),
                $value,
                $owner,
            )
        };
    }
    let first = tables(0x0100, &REGISTERS);
    let second = tables(0x0200, &SCALABLE_REGISTERS);
    let pasid = second.pasid.unwrap();
    std::vec![
        page!(
            UNIT_ONE,
            UnitSer.VtdUnitSer.root_table,
            REGISTERS.root_table,
            0
        ),
        page!(
            UNIT_TWO,
            UnitSer.VtdUnitSer.root_table,
            SCALABLE_REGISTERS.root_table,
            1
        ),
        page!(
            ATTACHMENT_ONE,
            AttachmentSer.VtdAttachmentSer.context_table,
            first.context_table,
            0
        ),
        page!(
            ATTACHMENT_TWO,
            AttachmentSer.VtdAttachmentSer.context_table,
            second.context_table,
            1
        ),
        page!(
            ATTACHMENT_TWO,
            AttachmentSer.VtdAttachmentSer.pasid_table,
            pasid.table,
            1
        ),
        page!(
            ATTACHMENT_TWO,
            AttachmentSer.VtdAttachmentSer.pasid_directory,
            pasid.directory,
            1
        ),
        (
            edit!(IOMMU[DOMAIN_ONE].DomainSer.top = domain().table.top.get()),
            domain().table.top.get(),
            0
        ),
        (
            edit!(IOMMU[DOMAIN_TWO].DomainSer.top = other().table.top.get()),
            other().table.top.get(),
            1
        ),
    ]
}

/// Whoever names another's page is refused, and the other with it; nobody else is.
#[test]
fn of_pages_with_two_uses() {
    let aliased = Some(Refusal::Aliased(Family::Iommu));
    let (_, directory, _) = pages()[5];
    for (field, own, owner) in pages() {
        let at = |address: u64| {
            let mut edit = field.clone();
            edit.3 = address.to_le_bytes().to_vec();
            edit
        };
        for (_, page, other) in pages() {
            let mut expected = [None, None];
            expected[owner] = aliased;
            expected[other] = aliased;
            if own != page {
                assert_eq!(blame(&[at(page)]), expected, "{field:x?} {page:#x}");
            }
        }
        // Each page of the directory counts, and the one after it is somebody else's.
        if own != directory {
            let blamed = blame(&[at(directory + (31 << 12))]);
            assert!(blamed[owner] == aliased && blamed[1] == aliased);
            assert_eq!(blame(&[at(directory + (32 << 12))]), [None, None]);
        }
        // The record of an iommufd is no table.
        assert_eq!(blame(&[at(IOMMUFD)]), both(Refusal::Aliased(Family::Iommu)));
    }
}

#[test]
fn of_iommufds() {
    let check = |refusal: Refusal, edits: &[Edit]| each(both(refusal), edits.to_vec());
    check(
        Refusal::Malformed(Family::Iommufd),
        &[
            edit!(IOMMUFD[HWPT_ONE].HwptSer.reserved = 1_u8),
            edit!(IOMMUFD[HWPT_ONE].HwptSer.reserved_end = 1_u8),
            edit!(IOMMUFD[HWPT_ONE].HwptSer.domain = 0_u32),
            edit!(IOMMUFD[HWPT_ONE].HwptSer.first = 0_u32),
            edit!(IOMMUFD[HWPT_ONE].HwptSer.count = 0_u32),
            edit!(IOMMUFD[MEMORY_FILE].MemorySer.reserved = 1_u8),
            edit!(IOMMUFD[MEMORY_FILE].MemorySer.reserved_end = 1_u8),
            edit!(IOMMUFD[MAPPING].MappingSer.reserved = 1_u8),
            edit!(IOMMUFD[MAPPING].MappingSer.reserved_end = 1_u8),
            edit!(IOMMUFD[MAPPING].MappingSer.rights = 0_u8),
            edit!(IOMMUFD[MAPPING].MappingSer.rights = 4_u8),
            edit!(IOMMUFD[MAPPING].MappingSer.length = 0_u64),
            edit!(IOMMUFD[MAPPING].MappingSer.length = u64::MAX),
            edit!(IOMMUFD[MAPPING].MappingSer.offset = u64::MAX),
        ],
    );
    check(
        Refusal::Contradictory(Family::Iommufd),
        &[
            // A mapping of the other HWPT, and one of no HWPT's.
            edit!(IOMMUFD[MAPPING].MappingSer.hwpt = HWPT_TWO),
            edit!(IOMMUFD[HWPT_ONE].HwptSer.count = 1_u32),
        ],
    );
    check(
        Refusal::NotRecorded(Family::Iommufd),
        &[
            edit!(IOMMUFD[HWPT_ONE].HwptSer.count = 3_u32),
            edit!(IOMMUFD[HWPT_ONE].HwptSer.first = HWPT_ONE),
            edit!(IOMMUFD[MAPPING].MappingSer.memory = HWPT_ONE),
            edit!(IOMMUFD[MAPPING].MappingSer.memory = 0_u32),
        ],
    );
    check(
        Refusal::Duplicate(Family::Iommufd),
        &[
            edit!(IOMMUFD[HWPT_TWO].HwptSer.token = domain().token),
            edit!(IOMMUFD[HWPT_TWO].HwptSer.domain = 1_u32),
        ],
    );
    check(
        Refusal::Aliased(Family::Iommufd),
        &[
            // The second begins below the first's end, at its end, and below its beginning.
            edit!(IOMMUFD[MAPPING].MappingSer.length = 0x4001_u64),
            edit!(IOMMUFD[MAPPING].MappingSer.iova = 0x2_0000_0000_u64),
        ],
    );
    // Right up to the next.
    let adjacent = [edit!(IOMMUFD[MAPPING].MappingSer.length = 0x4000_u64)];
    assert_eq!(blame(&adjacent), [None, None]);
    // What the other family does not have: another token, another domain.
    each(
        one(Refusal::NotRecorded(Family::Iommufd)),
        [edit!(IOMMUFD[HWPT_ONE].HwptSer.token = 8_u64)],
    );
    each(
        one(Refusal::Contradictory(Family::Iommufd)),
        [edit!(IOMMUFD[HWPT_ONE].HwptSer.domain = 3_u32)],
    );
}

#[test]
fn of_device_files() {
    let verdict = |edit: Edit| {
        let handover = handed_over();
        apply(&handover, &edit);
        let mut records = take(&handover);
        records.unit_adopted(unit().base);
        records.unit_adopted(scalable().base);
        match Vfio::decode(Lent::of(&handover), VFIO) {
            Ok(vfio) => records.file(vfio.file()).err(),
            Err(Error::Refused(refusal)) => Some(refusal),
            Err(Error::Lender(_)) => panic!("memory is lent"),
        }
    };
    let malformed = Some(Refusal::Malformed(Family::VfioPci));
    for edit in [
        edit!(VFIO[1].DeviceFileSer.reserved = 1_u8),
        edit!(VFIO[1].DeviceFileSer.reserved_end = 1_u8),
        edit!(VFIO[1].DeviceFileSer.iommufd = 0x1008_u64),
    ] {
        assert_eq!(verdict(edit), malformed);
    }
    assert_eq!(verdict(edit!(VFIO[1].DeviceFileSer.reserved = 0_u8)), None);
    let elsewhere = Some(Refusal::HwptNotPreserved);
    assert_eq!(
        verdict(edit!(VFIO[1].DeviceFileSer.iommufd = PCI)),
        elsewhere
    );
    assert_eq!(
        verdict(edit!(VFIO[1].DeviceFileSer.hwpt_token = 9_u64)),
        elsewhere
    );
    // Another device, and none: a bridge is none.
    assert_eq!(
        verdict(edit!(VFIO[1].DeviceFileSer.bdf = 0x0200_u16)),
        elsewhere
    );
    let none = Some(Refusal::NotRecorded(Family::Pci));
    for bdf in [0x0108_u16, 0x0010] {
        assert_eq!(verdict(edit!(VFIO[1].DeviceFileSer.bdf = bdf)), none);
    }
}

/// A device behind a unit that this kernel does not use, or has given other tables, is not taken over.
#[test]
fn of_units_that_are_not_adopted() {
    let handover = handed_over();
    let mut records = take(&handover);
    assert_eq!(records.file(&file()), Err(Refusal::UnitRefused));
    records.unit_adopted(scalable().base);
    assert_eq!(records.file(&file()), Err(Refusal::UnitRefused));
    records.unit_adopted(unit().base);
    assert!(records.file(&file()).is_ok());
}

/// A family that cannot be read refuses what it may have spoken of, and nothing else.
#[test]
fn of_families() {
    let without = |family: u64| {
        let handover = handed_over();
        handover.borrow_mut().remove(&family);
        let records = take(&handover);
        [ONE, TWO, at(0x0300)].map(|address| match records.device(address) {
            Verdict::Refused(refusal) => Some(refusal),
            _ => None,
        })
    };
    let lost = |family| Some(Refusal::NotHandedOver(family));
    // The other family says which devices there are.
    let pci = lost(Family::Pci);
    assert_eq!(without(PCI), [pci, pci, None]);
    let iommu = lost(Family::Iommu);
    assert_eq!(without(IOMMU), [iommu, iommu, None]);
    let iommufd = lost(Family::Iommufd);
    assert_eq!(without(IOMMUFD), [iommufd, iommufd, None]);
    assert_eq!(without(VFIO), [None, None, None]);
    // Without both it may be any.
    let handover = handed_over();
    handover.borrow_mut().clear();
    let records = take(&handover);
    assert_eq!(
        records.device(at(0x0300)),
        Verdict::Refused(Refusal::NotHandedOver(Family::Pci))
    );
    assert!(records.is_unknown_running() && records.maps(1));
}

/// What a reader would refuse is refused when it is written, and changes nothing.
mod writing {
    use super::*;

    const FIRST: Option<DomainKey> = DomainKey::new(1);
    const SECOND: Option<DomainKey> = DomainKey::new(2);

    #[test]
    fn devices_of_a_bus_share_a_context_table() {
        let mut iommu = iommu();
        let first = FIRST.unwrap();
        let before = iommu.lender().bytes();
        let elsewhere = attach(&mut iommu, &unit(), 0x0108, first, |tables, _| {
            tables.context_table += 0x10_0000;
        });
        assert_eq!(elsewhere, Err(Refusal::Contradictory(Family::Iommu)));
        // Another bus has another one.
        let shared = tables(0x0100, &REGISTERS).context_table;
        let bus = attach(&mut iommu, &unit(), 0x0308, first, |tables, _| {
            tables.context_table = shared;
        });
        assert_eq!(bus, Err(Refusal::Aliased(Family::Iommu)));
        assert!(before == iommu.lender().bytes());
        assert_eq!(
            attach(&mut iommu, &unit(), 0x0108, first, |_, _| {}),
            Ok(())
        );
    }

    #[test]
    fn halves_of_a_bus_have_their_own_context_tables() {
        let second = |bdf, context_of| {
            let mut iommu = iommu();
            iommu.remove_attachment(ONE);
            let context = tables(context_of, &SCALABLE_REGISTERS).context_table;
            attach(&mut iommu, &scalable(), bdf, FIRST.unwrap(), |tables, _| {
                tables.context_table = context;
            })
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
        let mut iommu = iommu();
        let (first, second) = (FIRST.unwrap(), SECOND.unwrap());
        let another = attach(&mut iommu, &unit(), 0x0108, first, |_, id| id.0 += 1);
        assert_eq!(another, contradictory);
        // Two domains under one id, which is a matter of the unit.
        let third = iommu.add_domain(&third()).unwrap();
        let theirs = id(first);
        let shared = attach(&mut iommu, &unit(), 0x0108, third, |_, id| *id = theirs);
        assert_eq!(shared, contradictory);
        let elsewhere = attach(&mut iommu, &scalable(), 0x0280, third, |_, id| *id = theirs);
        assert_eq!(elsewhere, Ok(()));
        let theirs = id(second);
        let shared = attach(&mut iommu, &scalable(), 0x0288, first, |_, id| *id = theirs);
        assert_eq!(shared, contradictory);
    }

    /// One exchange changes table and domain id of a second-stage entry; the other needs the id handed over.
    #[test]
    fn first_stage_is_not_shared() {
        let mut iommu = iommu();
        let (first, second) = (FIRST.unwrap(), SECOND.unwrap());
        let shared = attach(&mut iommu, &scalable(), 0x0300, second, |_, _| {});
        assert_eq!(shared, Err(Refusal::SharedHwpt));
        for bdf in [0x0308, 0x0310] {
            assert_eq!(attach(&mut iommu, &unit(), bdf, first, |_, _| {}), Ok(()));
            let bdf = bdf + 0x100;
            assert_eq!(
                attach(&mut iommu, &scalable(), bdf, first, |_, _| {}),
                Ok(())
            );
        }
        // On another unit it is alone again.
        let registers = Registers {
            root_table: 0x0933_4000,
            ..SCALABLE_REGISTERS
        };
        let elsewhere = registers.unit(0xfed9_2000, 0);
        assert_eq!(
            attach(&mut iommu, &elsewhere, 0x0500, second, |_, _| {}),
            Ok(())
        );
    }

    #[test]
    fn a_unit_may_not_change_between_devices() {
        let mut iommu = iommu();
        let registers = Registers {
            root_table: 0x0999_9000,
            ..REGISTERS
        };
        let changed = registers.unit(unit().base, 0);
        let refused = attach(&mut iommu, &changed, 0x0108, FIRST.unwrap(), |_, _| {});
        assert_eq!(refused, Err(Refusal::OtherRoot));
    }

    #[test]
    fn a_refused_device_leaves_no_unit_behind() {
        let mut iommu = iommu();
        let before = iommu.lender().bytes();
        let registers = Registers {
            root_table: 0x0999_9000,
            ..REGISTERS
        };
        let fresh = registers.unit(0xfed9_2000, 0);
        let refused = attach(&mut iommu, &fresh, 0x0108, FIRST.unwrap(), |_, id| id.0 = 1);
        assert_eq!(refused, Err(Refusal::Malformed(Family::Iommu)));
        assert!(iommu.unit(fresh.base).is_none());
        assert!(before == iommu.lender().bytes());
    }

    /// For each kind of table the one pair of snoop bits that a PASID entry of it has.
    #[test]
    fn snoop_bits_follow_from_the_table() {
        let (second, first) = (Format::vtdss(4).unwrap(), Format::x86_64(4).unwrap());
        for (format, incoherent, snoop, expected) in [
            (first, false, false, (true, false)),
            (first, false, true, (true, true)),
            (first, true, true, (false, true)),
            (second, false, true, (true, false)),
            (second, true, false, (false, false)),
        ] {
            let mut domain = third();
            domain.table.format = format;
            domain.table.incoherent = incoherent;
            domain.table.snoop = snoop;
            for bits in [(false, false), (false, true), (true, false), (true, true)] {
                let mut iommu = iommu();
                let key = iommu.add_domain(&domain).unwrap();
                let verdict = attach(&mut iommu, &scalable(), 0x0300, key, |tables, _| {
                    (tables.entry.walk_snoop, tables.entry.page_snoop) = bits;
                });
                let expected = match bits == expected {
                    true => Ok(()),
                    false => Err(Refusal::Contradictory(Family::Iommu)),
                };
                assert_eq!(verdict, expected);
            }
        }
    }

    #[test]
    fn a_domain_with_tables_of_another_is_not_written() {
        let mut iommu = iommu();
        let before = iommu.lender().bytes();
        let root = REGISTERS.root_table;
        for top in [domain().table.top.get(), root, IOMMUFD] {
            let mut fresh: Domain = third();
            fresh.table.top = table(top);
            let aliased = Err(Error::Refused(Refusal::Aliased(Family::Iommu)));
            assert_eq!(iommu.add_domain(&fresh), aliased);
        }
        let duplicate = Err(Error::Refused(Refusal::Duplicate(Family::Iommu)));
        let again = Domain {
            token: domain().token,
            iommufd: IOMMUFD,
            ..third()
        };
        assert_eq!(iommu.add_domain(&again), duplicate);
        assert!(before == iommu.lender().bytes());
    }

    #[test]
    fn a_device_has_one_place() {
        let mut devices = pci();
        let before = devices.lender().bytes();
        let mut add = |bdf: u16, bridges: &[u16]| match devices.add(
            at(bdf),
            IGB,
            bridges.iter().copied().map(at),
        ) {
            Err(Error::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        };
        let duplicate = Refusal::Duplicate(Family::Pci);
        let contradictory = Refusal::Contradictory(Family::Pci);
        assert_eq!(add(0x0100, &[]), Refusal::AlreadyRecorded);
        assert_eq!(add(0x0008, &[]), Refusal::AlreadyRecorded);
        // A device as a bridge, a bridge twice, itself.
        assert_eq!(add(0x0300, &[0x0200]), duplicate);
        assert_eq!(add(0x0300, &[0x0020, 0x0020]), duplicate);
        assert_eq!(add(0x0300, &[0x0300]), duplicate);
        // A recorded bridge is below others.
        assert_eq!(add(0x0300, &[0x0008]), contradictory);
        assert_eq!(add(0x0300, &[0x0010, 0x0018]), contradictory);
        let many: Vec<_> = (0x1000..0x1100).collect();
        assert_eq!(add(0x0300, &many), Refusal::TooManyBridges);
        assert!(before == devices.lender().bytes());
    }

    #[test]
    fn mappings_are_in_a_row() {
        let mut iommufd = iommufd();
        let memory = iommufd.memory_with(MEMORY.data).unwrap();
        let key = DomainKey::new(7).unwrap();
        let hwpt = iommufd.add_hwpt(11, key).unwrap();
        let mapping = super::super::super::iommufd::Mapping {
            iova: 0x1000,
            length: 0x1000,
            memory,
            offset: 0,
            rights: READ_WRITE,
        };
        iommufd.add_mapping(hwpt, &mapping).unwrap();
        let aliased = Err(Error::Refused(Refusal::Aliased(Family::Iommufd)));
        assert_eq!(iommufd.add_mapping(hwpt, &mapping), aliased);
        let last = iommufd.add_hwpt(12, DomainKey::new(8).unwrap()).unwrap();
        let next = super::super::super::iommufd::Mapping {
            iova: 0x2000,
            ..mapping
        };
        let contradictory = Err(Error::Refused(Refusal::Contradictory(Family::Iommufd)));
        assert_eq!(iommufd.add_mapping(hwpt, &next), contradictory);
        assert_eq!(iommufd.add_mapping(last, &next), Ok(()));
        let duplicate = Err(Error::Refused(Refusal::Duplicate(Family::Iommufd)));
        assert_eq!(iommufd.add_hwpt(12, DomainKey::new(9).unwrap()), duplicate);
        assert_eq!(iommufd.add_hwpt(13, key), duplicate);
    }
}
