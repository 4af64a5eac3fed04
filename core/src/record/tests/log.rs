// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The log of a kernel: written as ever, read as it was written, and refused by name where it was not.

extern crate std;

use core::mem::offset_of;
use core::time::Duration;
use std::boxed::Box;
use std::string::{String, ToString};
use std::vec::Vec;

use super::super::log::{Event, Log, Name, Object, Step};
use super::fixture::{LOG, ONE, TWO};
use super::lent::{seal, Handover, Lent, NoMemory};
use crate::abi::header::HeaderSer;
use crate::abi::list::{Page, ENTRIES, ENTRY_SIZE, PAGE_SIZE};
use crate::abi::log::EventSer;
use crate::error::Error;
use crate::iommu::flaw::{Entry, Flaw};
use crate::refusal::{Family, Refusal};

const GOLDEN: &[u8] = include_bytes!("../../../testdata/abi/v1/log.bin");

/// The event with a number. Every step and every object is there after a few.
fn event(number: u64) -> Event {
    let index = usize::try_from(number).unwrap();
    let step = Step::ALL[index % Step::ALL.len()];
    Event {
        real: Duration::from_millis(1_764_131_696_000 + number),
        monotonic: Duration::from_nanos(1_000_000_007 * number),
        step,
        object: match index % 5 {
            0 => Object::Function(ONE),
            1 => Object::Function(TWO),
            2 => Object::Unit(0xfed9_0000),
            3 => Object::Iommufd(0x0400_0000),
            _ => Object::None,
        },
        name: match step {
            Step::Refused => Refusal::NextOtherRemapping.into(),
            Step::ImageOverruled => Refusal::Contradictory(Family::Iommufd).into(),
            _ => Name::NONE,
        },
    }
}

/// A log of so many pages after so many events.
fn log(pages: u32, events: u64) -> Log<Lent> {
    let mut log = Log::create(Lent::at(LOG), pages).unwrap();
    log.lender().limit(0);
    (0..events).for_each(|number| log.append(&event(number)));
    log
}

fn handed_over(bytes: &[u8]) -> Handover {
    let handover = Handover::default();
    for (address, page) in (LOG..).step_by(PAGE_SIZE).zip(bytes.chunks(PAGE_SIZE)) {
        let page = Box::new(page.try_into().unwrap());
        handover.borrow_mut().insert(address, page);
    }
    handover
}

fn take(handover: &Handover) -> Result<Log<Lent>, Refusal> {
    match Log::decode(Lent::of(handover), LOG) {
        Ok(log) => Ok(log),
        Err(Error::Refused(refusal)) => Err(refusal),
        Err(Error::Lender(NoMemory)) => panic!("memory is lent"),
    }
}

/// What becomes of a log with one of its pages changed.
fn changed(bytes: &[u8], page: u64, change: impl FnOnce(&mut Page)) -> Result<Log<Lent>, Refusal> {
    let handover = handed_over(bytes);
    let address = LOG + page * 0x1000;
    change(handover.borrow_mut().get_mut(&address).expect("a page"));
    take(&handover)
}

fn events(log: &Log<Lent>) -> Vec<(u64, Event)> {
    let events = log.numbers().map(|number| (number, log.event(number)));
    events
        .filter_map(|(number, event)| Some((number, event?)))
        .collect()
}

#[test]
fn logs_are_written_as_ever() {
    assert!(GOLDEN == log(2, 140).lender().bytes());
}

#[test]
fn logs_are_read_as_ever() {
    let log = take(&handed_over(GOLDEN)).unwrap();
    let expected: Vec<_> = (14..140).map(|number| (number, event(number))).collect();
    assert_eq!(events(&log), expected);
}

#[test]
#[ignore = "writes the golden bytes of a version that is not released yet"]
fn write_golden_bytes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/abi/v1/log.bin");
    std::fs::write(path, log(2, 140).lender().bytes()).unwrap();
}

#[test]
fn the_oldest_events_make_room() {
    for count in [0, 1, 62, 63, 64, 125, 126, 127, 400] {
        let log = log(2, count);
        assert_eq!(log.numbers(), count.saturating_sub(126)..count);
        let mut copy = Log::create(Lent::at(LOG), 2).unwrap();
        copy.copy(&log);
        assert!(copy.lender().bytes() == log.lender().bytes(), "{count}");
        let taken = take(&handed_over(&log.lender().bytes())).unwrap();
        assert_eq!(events(&taken), events(&log));
        assert_eq!(events(&log).len(), usize::try_from(count.min(126)).unwrap());
    }
}

#[test]
fn an_event_is_a_line() {
    let lines: Vec<String> = [0, 2, 4, 7, 12]
        .map(|number| event(number).to_string())
        .into();
    assert_eq!(
        lines,
        [
            "1764131696.000000000 [    0.000000] preserved device 0000:01:00.0",
            "1764131696.002000000 [    2.000000] refused unit at 0xfed90000: NextOtherRemapping",
            "1764131696.004000000 [    4.000000] image not accepted and overruled: Contradictory(Iommufd)",
            "1764131696.007000000 [    7.000000] scrubbed unit at 0xfed90000",
            "1764131696.012000000 [   12.000000] preserved unit at 0xfed90000",
        ]
    );
}

#[test]
fn a_long_name_is_cut_off() {
    let flaw = Flaw::NotPresent(Entry::PasidDirectory);
    let name = Name::from(Refusal::Table(flaw)).to_string();
    assert_eq!(name, ": Table(NotPresent(PasidDi");
}

#[test]
fn every_bit_counts() {
    let bytes = log(1, 70).lender().bytes();
    for (offset, bit) in (0..PAGE_SIZE).flat_map(|offset| (0..8).map(move |bit| (offset, bit))) {
        let expected = match offset {
            0..8 => Refusal::NotARecord(Family::Log),
            _ => Refusal::Damaged(Family::Log),
        };
        let taken = changed(&bytes, 0, |page| page[offset] ^= 1 << bit);
        assert_eq!(taken.map(|_| ()), Err(expected), "{offset}");
    }
}

/// With a checksum that is right all the same.
#[test]
fn a_lie_is_refused_or_can_be_printed() {
    let (mut refused, mut read) = (0, 0);
    let used = size_of::<HeaderSer>() + 13 * ENTRY_SIZE;
    for (offset, bit) in (0..used).flat_map(|offset| (0..8).map(move |bit| (offset, bit))) {
        let taken = changed(GOLDEN, 1, |page| {
            page[offset] ^= 1 << bit;
            seal(page);
        });
        let Ok(log) = taken else {
            refused += 1;
            continue;
        };
        read += 1;
        assert!(log.numbers().count() <= 2 * ENTRIES);
        for (_, event) in events(&log) {
            let text = event.to_string();
            assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')));
        }
    }
    assert!(refused > 1000 && read > 1000, "{refused} {read}");
}

#[test]
fn what_an_event_says_is_checked() {
    let at = |key: usize, field: usize| size_of::<HeaderSer>() + (key - 1) * ENTRY_SIZE + field;
    let written = |key, field, bytes: &[u8]| {
        let taken = changed(GOLDEN, 0, |page| {
            let at = at(key, field);
            page[at..at + bytes.len()].copy_from_slice(bytes);
            seal(page);
        });
        taken.map(|log| events(&log).len())
    };
    let malformed = Err(Refusal::Malformed(Family::Log));
    let contradictory = Err(Refusal::Contradictory(Family::Log));
    let number = offset_of!(EventSer, number);
    let name = offset_of!(EventSer, name);
    // Key 1 holds event 126, a step without a name; key 9 holds event 134, a refusal.
    for (key, field, bytes, expected) in [
        (1, offset_of!(EventSer, object), &[9][..], malformed),
        (1, offset_of!(EventSer, segment), &[1], Ok(126)),
        (1, offset_of!(EventSer, value), &[1], malformed),
        (9, offset_of!(EventSer, segment), &[1], malformed),
        (1, number, &126_u64.to_le_bytes(), Ok(126)),
        (1, number, &127_u64.to_le_bytes(), contradictory),
        (1, number, &(126_u64 * 9).to_le_bytes(), contradictory),
        (1, number, &[0xff; 8], contradictory),
        (1, name, b"X", malformed),
        (9, name, &[0; 24], malformed),
        (9, name, b"Ab\0c", malformed),
        (9, name, b"\x1b[2J", malformed),
        (9, name, &[0xc3, 0xa4], malformed),
        (9, name, b"no letters needed: ~24~~", Ok(126)),
        // A step of a later kernel's is passed over, unless it has to be known.
        (1, 0, &[0xf0], Ok(125)),
        (1, 0, &[0x70], Err(Refusal::UnknownFeature(Family::Log))),
    ] {
        assert_eq!(
            written(key, field, bytes),
            expected,
            "{key} {field} {bytes:?}"
        );
    }
}

#[test]
fn what_is_missing_is_missed() {
    let family = Family::Log;
    let handover = handed_over(&GOLDEN[..PAGE_SIZE]);
    assert_eq!(
        take(&handover).map(|_| ()),
        Err(Refusal::NotHandedOver(family))
    );
    // Cut off: the events are not where they would be in a shorter log.
    let cut = changed(GOLDEN, 0, |page| {
        let next = offset_of!(HeaderSer, next);
        page[next..next + 8].fill(0);
        seal(page);
    });
    assert_eq!(cut.map(|_| ()), Err(Refusal::Contradictory(family)));
    let nothing = Handover::default();
    assert_eq!(
        take(&nothing).map(|_| ()),
        Err(Refusal::NotHandedOver(family))
    );
}

#[test]
fn without_memory_there_is_no_log() {
    for limit in 0..3 {
        let lender = Lent::at(LOG);
        lender.limit(limit);
        let created = Log::create(lender, 3);
        assert!(matches!(created, Err(Error::Lender(NoMemory))));
        let handover = handed_over(&log(3, 5).lender().bytes());
        let lender = Lent::of(&handover);
        lender.limit(limit);
        let taken = Log::decode(lender, LOG);
        assert!(matches!(taken, Err(Error::Lender(NoMemory))));
    }
}
