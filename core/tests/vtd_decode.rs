// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Decoders of VT-d entries take any words, and what they accept they can write again.

use hitless_core::vtd::page_table::{Format, PageEntry};
use hitless_core::vtd::scalable::{self, DirectorySize, PasidDirectoryEntry, PasidEntry, RootHalf};
use hitless_core::vtd::swap::{plan_context, plan_pasid, Capabilities};
use hitless_core::vtd::{legacy, Bdf, DevfnSet, HostAddressWidth, Refusal, TableAddress};
use proptest::prelude::*;

fn width() -> impl Strategy<Value = HostAddressWidth> {
    (32u32..=52).prop_map(|bits| HostAddressWidth::new(bits).expect("in range"))
}

/// Arbitrary words, sparse ones, and ones that are present and well-formed more often.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        Just(0),
        (0u32..64).prop_map(|bit| 1 << bit),
        (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(a, b, c)| a & b & c),
        (0u64..1 << 30, 0u64..0x400).prop_map(|(page, flags)| page << 12 | flags | 1),
        (0u64..1 << 20, 0u64..8, 0u64..8)
            .prop_map(|(page, kind, aw)| page << 12 | kind << 6 | aw << 2 | 1),
    ]
}

fn words<const N: usize>() -> impl Strategy<Value = [u64; N]> {
    let sparse = prop_oneof![2 => word(), 1 => Just(0)];
    prop::collection::vec(sparse, N).prop_map(|words| words.try_into().expect("N words"))
}

/// PASID entries that are zero from the fourth word on, as accepted ones are.
fn pasid_words() -> impl Strategy<Value = [u64; 8]> {
    let plausible = (word(), any::<u16>(), 0u64..4, word()).prop_map(|(low, did, snoop, third)| {
        [low, u64::from(did) | snoop << 23, third, 0, 0, 0, 0, 0]
    });
    prop_oneof![words::<8>(), plausible]
}

fn context_words() -> impl Strategy<Value = [u64; 2]> {
    let plausible = (word(), any::<u16>(), 0u64..8)
        .prop_map(|(low, did, levels)| [low & !0xff0, u64::from(did) << 8 | levels]);
    prop_oneof![words::<2>(), plausible]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn legacy_entries(root in words::<2>(), context in context_words(), width in width()) {
        if let Ok(Some(entry)) = legacy::RootEntry::decode(root, width) {
            prop_assert_eq!(entry.encode(), root);
        }
        if let Ok(Some(entry)) = legacy::ContextEntry::decode(context, width) {
            prop_assert_eq!(entry.encode(), context);
        }
    }

    #[test]
    fn scalable_entries(half in word(), context in words::<4>(), directory in word(), width in width()) {
        if let Ok(Some(entry)) = RootHalf::decode(half, width) {
            prop_assert_eq!(entry.encode(), half);
        }
        if let Ok(Some(entry)) = scalable::ContextEntry::decode(context, width) {
            prop_assert_eq!(entry.encode(), context);
        }
        if let Ok(Some(entry)) = PasidDirectoryEntry::decode(directory, width) {
            prop_assert_eq!(entry.encode(), directory);
        }
    }

    #[test]
    fn pasid_entries(words in pasid_words(), width in width()) {
        if let Ok(Some(entry)) = PasidEntry::decode(words, width) {
            prop_assert_eq!(entry.encode(), words);
        }
    }

    #[test]
    fn page_entries(word in word(), level in 0u32..8, levels in 0u32..8, width in width()) {
        for format in [Format::second_stage(levels), Format::first_stage(levels)].into_iter().flatten() {
            match format.decode(word, level, width) {
                Ok(PageEntry::Table { table, .. }) => {
                    prop_assert!(level > 1 && width.holds(table.get()));
                    prop_assert_eq!(table.get(), word & 0x000f_ffff_ffff_f000);
                }
                Ok(PageEntry::Leaf { physical, page_bits, .. }) => {
                    prop_assert!(level <= 3 && width.holds(physical));
                    prop_assert_eq!(physical & ((1u64 << page_bits) - 1), 0);
                }
                Ok(PageEntry::Absent) | Err(_) => {}
            }
        }
    }

    /// The planner takes any pair of entries, and what it plans it plans for present ones.
    #[test]
    fn planner(
        context in [context_words(), context_words()],
        pasid in [pasid_words(), pasid_words()],
        wide: bool,
        device_tlb: bool,
        width in width(),
    ) {
        let capabilities = Capabilities { compare_exchange_128: wide, device_tlb };
        let [old, new] = context;
        if plan_context(old, new, capabilities, width).is_ok() {
            prop_assert_eq!(old[0] & new[0] & 1, 1);
        }
        let [old, new] = pasid;
        if plan_pasid(old, new, 0, capabilities, width).is_ok() {
            prop_assert_eq!(old[0] & new[0] & 1, 1);
        }
    }

    #[test]
    fn addresses(address: u64, width in width(), page: u16) {
        match TableAddress::new(address, width) {
            Ok(table) => {
                prop_assert_eq!(table.get(), address);
                if let Ok(next) = table.page(page, width) {
                    prop_assert_eq!(next.get(), address + u64::from(page) * 4096);
                }
            }
            Err(Refusal::Misaligned) => prop_assert!(address % 4096 != 0),
            Err(refusal) => {
                prop_assert_eq!(refusal, Refusal::BeyondHost);
                prop_assert!(address >> width.bits() != 0);
            }
        }
    }

    #[test]
    fn sets(devices in prop::collection::vec(any::<u16>(), 0..20), bus: u8) {
        let set = DevfnSet::on_bus(bus, devices.iter().copied().map(Bdf));
        let on_bus = |devfn| devices.contains(&Bdf::new(bus, devfn).0);
        for devfn in 0..=u8::MAX {
            prop_assert_eq!(set.contains(devfn), on_bus(devfn));
        }
        prop_assert_eq!(set.is_empty(), !(0..=255).any(on_bus));
        prop_assert_eq!(set.any_lower(), (0..0x80).any(on_bus));
        prop_assert_eq!(set.any_upper(), (0x80..=255).any(on_bus));
    }
}

/// The decoders do accept things: a round trip that is never taken would prove nothing.
#[test]
fn accepts_what_linux_writes() {
    let width = HostAddressWidth::new(46).expect("46");
    // Second stage, 4 levels, domain 5, table at 0x1234000.
    let context = [0x0123_4001, 5 << 8 | 2];
    let entry = legacy::ContextEntry::decode(context, width).expect("accepted");
    assert_eq!(entry.map(legacy::ContextEntry::encode), Some(context));
    // The same as a PASID entry, page walks snooped.
    let pasid = [0x0123_4001 | 2 << 6 | 2 << 2, 5 | 1 << 23, 0, 0, 0, 0, 0, 0];
    let entry = PasidEntry::decode(pasid, width).expect("accepted");
    assert_eq!(entry.map(PasidEntry::encode), Some(pasid));
    // First stage, 5 levels, snooping forced.
    let pasid = [
        1 | 1 << 6 | 3 << 2,
        5 | 3 << 23,
        0x0123_4000 | 1 << 2,
        0,
        0,
        0,
        0,
        0,
    ];
    let entry = PasidEntry::decode(pasid, width).expect("accepted");
    assert_eq!(entry.map(PasidEntry::encode), Some(pasid));
    // A directory of 2 pages, PASIDs and a device TLB allowed.
    let context = [0x0123_4001 | 3 << 9 | 3 << 2, 0, 0, 0];
    let entry = scalable::ContextEntry::decode(context, width).expect("accepted");
    assert_eq!(entry.map(scalable::ContextEntry::encode), Some(context));
}

#[test]
fn refuses_by_name() {
    use hitless_core::vtd::Entry;
    let width = HostAddressWidth::new(40).expect("40");
    let context = |words| legacy::ContextEntry::decode(words, width).expect_err("refused");
    assert_eq!(
        context([1 | 3 << 2, 2]),
        Refusal::TranslationType(Entry::Context)
    );
    assert_eq!(
        context([1, 4]),
        Refusal::UnknownAddressWidth(Entry::Context)
    );
    assert_eq!(context([1, 2 | 1 << 24]), Refusal::Reserved(Entry::Context));
    let beyond = Refusal::PointerBeyondHost(Entry::Context);
    assert_eq!(context([1 | 1 << 40, 2]), beyond);

    let pasid = |low, third| {
        let words = [low, 5, third, 0, 0, 0, 0, 0];
        PasidEntry::decode(words, width).expect_err("refused")
    };
    let kind = |code: u64| code << 6 | 2 << 2 | 1;
    for code in [0, 3, 5, 6, 7] {
        assert_eq!(pasid(kind(code), 0), Refusal::TranslationType(Entry::Pasid));
    }
    assert_eq!(pasid(kind(2), 1), Refusal::Reserved(Entry::Pasid));
    assert_eq!(
        pasid(kind(1), 2 << 2),
        Refusal::UnknownAddressWidth(Entry::Pasid)
    );
    assert_eq!(
        pasid(kind(1), 1 << 40),
        Refusal::PointerBeyondHost(Entry::Pasid)
    );

    for bits in [0, 31, 53, u32::MAX] {
        assert_eq!(HostAddressWidth::new(bits), Err(Refusal::HostAddressWidth));
    }
}

/// The directory size of the PASID counts that Linux uses.
#[test]
fn directory_sizes() {
    for (max_pasid, entries) in [(0x8000, 512), (0x1_0000, 1024), (0x10_0000, 16384)] {
        let size = DirectorySize::for_max_pasid(max_pasid).expect("a size");
        assert_eq!(size.entries(), entries);
        assert_eq!(DirectorySize::from_code(size.code()), Some(size));
    }
    assert_eq!(DirectorySize::from_code(8), None);
    assert_eq!(DirectorySize::for_max_pasid(0), None);
}
