// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Entries of page tables, bit by bit (VT-d 9.7 and 9.8).

use hitless_core::iommu::address::HostAddressWidth;
use hitless_core::iommu::flaw::{Entry, Flaw};
use hitless_core::iommu::pt::entry::{PageEntry, Rights};
use hitless_core::iommu::pt::format::Format;

/// Reading and writing, in both formats; in first stage also present and for users.
const ALL: u64 = 7;
/// PS.
const LARGE: u64 = 1 << 7;
const PAGE: u64 = 0x12_4000_0000;

const RESERVED: Result<PageEntry, Flaw> = Err(Flaw::Reserved(Entry::Page));

fn second() -> Format {
    Format::vtdss(5).expect("5")
}

fn first() -> Format {
    Format::x86_64(5).expect("5")
}

fn decode(format: Format, word: u64, level: u32) -> Result<PageEntry, Flaw> {
    format.decode(word, level, HostAddressWidth::MAX)
}

/// Physical address and size of a page.
fn leaf(format: Format, word: u64, level: u32) -> (u64, u32) {
    match decode(format, word, level) {
        Ok(PageEntry::Leaf {
            physical,
            page_bits,
            ..
        }) => (physical, page_bits),
        other => panic!("{other:?}"),
    }
}

fn rights(format: Format, word: u64, level: u32) -> Rights {
    match decode(format, word, level) {
        Ok(PageEntry::Leaf { rights, .. } | PageEntry::Table { rights, .. }) => rights,
        other => panic!("{other:?}"),
    }
}

#[test]
fn there_are_no_pages_above_level_3() {
    for format in [second(), first()] {
        for level in [4, 5] {
            // Aligned to what would be the page's size, so that nothing else is wrong with it.
            assert_eq!(decode(format, 1 << 48 | LARGE | ALL, level), RESERVED);
            let table = decode(format, PAGE | ALL, level);
            assert!(matches!(table, Ok(PageEntry::Table { table, .. }) if table.get() == PAGE));
        }
        assert_eq!(leaf(format, PAGE | LARGE | ALL, 3), (PAGE, 30));
        assert_eq!(leaf(format, PAGE | LARGE | ALL, 2), (PAGE, 21));
        // At level 1 the bit is ignored in second stage, and selects a memory type in first stage.
        assert_eq!(leaf(format, PAGE | LARGE | ALL, 1), (PAGE, 12));
        assert_eq!(leaf(format, PAGE | ALL, 1), (PAGE, 12));
    }
}

#[test]
fn address_bits_below_a_large_page_are_reserved() {
    for format in [second(), first()] {
        for (level, bits) in [(2, 21), (3, 30)] {
            for bit in 13..bits {
                let word = PAGE | LARGE | ALL | 1 << bit;
                assert_eq!(decode(format, word, level), RESERVED, "{format:?} {bit}");
            }
            let next = PAGE ^ 1 << bits;
            assert_eq!(leaf(format, next | LARGE | ALL, level), (next, bits));
        }
    }
}

/// In first stage it is PAT, which is bit 7 of a small page.
#[test]
fn bit_12_of_a_large_first_stage_page_is_no_address() {
    for (level, bits) in [(2, 21), (3, 30)] {
        let word = PAGE | LARGE | ALL | 1 << 12;
        assert_eq!(leaf(first(), word, level), (PAGE, bits));
        assert_eq!(decode(second(), word, level), RESERVED);
    }
    for format in [second(), first()] {
        assert_eq!(leaf(format, PAGE | ALL | 1 << 12, 1), (PAGE | 1 << 12, 12));
    }
}

/// Requests without PASID come with user privilege: without U/S there is neither reading nor writing.
#[test]
fn first_stage_rights_need_the_user_bit() {
    const PRESENT: u64 = 1;
    const WRITE: u64 = 2;
    const USER: u64 = 4;
    for level in 1..=5 {
        for (bits, read, write) in [
            (PRESENT, false, false),
            (PRESENT | WRITE, false, false),
            (PRESENT | USER, true, false),
            (PRESENT | WRITE | USER, true, true),
        ] {
            let expected = Rights { read, write };
            assert_eq!(rights(first(), PAGE | bits, level), expected);
        }
        for bits in [0, WRITE, USER, WRITE | USER] {
            assert_eq!(decode(first(), PAGE | bits, level), Ok(PageEntry::Absent));
        }
    }
}

/// A second-stage entry counts if it allows anything, and allows each on its own.
#[test]
fn second_stage_rights_stand_alone() {
    for level in 1..=5 {
        for (bits, read, write) in [(1, true, false), (2, false, true), (3, true, true)] {
            let expected = Rights { read, write };
            assert_eq!(rights(second(), PAGE | bits, level), expected);
        }
        for bits in [0, 4] {
            assert_eq!(decode(second(), PAGE | bits, level), Ok(PageEntry::Absent));
        }
    }
}

#[test]
fn addresses_beyond_the_host_are_refused() {
    let width = HostAddressWidth::new(40).expect("40");
    let beyond = Err(Flaw::PointerBeyondHost(Entry::Page));
    for format in [second(), first()] {
        for level in 1..=5 {
            assert_eq!(format.decode(1 << 40 | ALL, level, width), beyond);
            assert!(format.decode(1 << 39 | ALL, level, width).is_ok());
        }
    }
}
