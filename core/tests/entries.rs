// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Decoders of VT-d entries take any words, and what they accept they can write again.

use hitless_core::iommu::address::{DomainId, HostAddressWidth, TableAddress};
use hitless_core::iommu::bdf::Bdf;
use hitless_core::iommu::flaw::Flaw;
use hitless_core::iommu::plan::{Plan, Step};
use hitless_core::iommu::pt::entry::PageEntry;
use hitless_core::iommu::pt::format::Format;
use hitless_core::iommu::pt::vtdss::Levels;
use hitless_core::iommu::pt::x86_64;
use hitless_core::iommu::vtd::context::{ContextEntry, ContextTarget, ScalableContextEntry};
use hitless_core::iommu::vtd::devfn::DevfnSet;
use hitless_core::iommu::vtd::pasid::{
    DirectorySize, PasidDirectoryEntry, PasidEntry, PasidTarget,
};
use hitless_core::iommu::vtd::root::{RootEntry, RootHalf};
use hitless_core::iommu::vtd::swap::{plan_context, plan_pasid, Capabilities};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

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

/// Tables that every width has room for.
fn table() -> impl Strategy<Value = TableAddress> {
    (0u64..1 << 20).prop_map(|page| {
        TableAddress::new(page << 12, HostAddressWidth::MAX).expect("a table below 4 GiB")
    })
}

fn levels() -> impl Strategy<Value = Levels> {
    prop_oneof![Just(Levels::Three), Just(Levels::Four), Just(Levels::Five)]
}

fn context_entry() -> impl Strategy<Value = ContextEntry> {
    let translated = (table(), levels(), any::<bool>()).prop_map(|(table, levels, device_tlb)| {
        ContextTarget::SecondStage {
            table,
            levels,
            device_tlb,
        }
    });
    let through = levels().prop_map(|levels| ContextTarget::PassThrough { levels });
    (
        prop_oneof![4 => translated, 1 => through],
        any::<u16>(),
        any::<bool>(),
    )
        .prop_map(|(target, did, silent)| ContextEntry {
            domain_id: DomainId(did),
            target,
            fault_processing_disabled: silent,
        })
}

fn pasid_target() -> impl Strategy<Value = PasidTarget> {
    let first = (table(), any::<[bool; 4]>(), levels()).prop_map(
        |(table, [five, sre, wpe, eafe], address_width)| PasidTarget::FirstStage {
            table,
            levels: if five {
                x86_64::Levels::Five
            } else {
                x86_64::Levels::Four
            },
            address_width,
            supervisor_requests: sre,
            write_protect: wpe,
            extended_accessed: eafe,
        },
    );
    let second = (table(), levels(), any::<bool>()).prop_map(|(table, levels, accessed_dirty)| {
        PasidTarget::SecondStage {
            table,
            levels,
            accessed_dirty,
        }
    });
    let through = levels().prop_map(|address_width| PasidTarget::PassThrough { address_width });
    prop_oneof![3 => first, 3 => second, 1 => through]
}

fn pasid_entry() -> impl Strategy<Value = PasidEntry> {
    (pasid_target(), any::<u16>(), any::<[bool; 3]>()).prop_map(
        |(target, did, [walk, page, silent])| PasidEntry {
            domain_id: DomainId(did),
            target,
            page_walk_snoop: walk,
            page_snoop: page,
            fault_processing_disabled: silent,
        },
    )
}

fn scalable_context() -> impl Strategy<Value = ScalableContextEntry> {
    (table(), 0u8..8, 0u32..1 << 20, any::<[bool; 5]>()).prop_map(
        |(pasid_directory, size, request_pasid, [privileged, dte, paside, pre, silent])| {
            ScalableContextEntry {
                pasid_directory,
                directory_size: DirectorySize::from_code(size).expect("0 to 7"),
                request_pasid,
                request_privileged: privileged,
                device_tlb: dte,
                pasids: paside,
                page_requests: pre,
                fault_processing_disabled: silent,
            }
        },
    )
}

/// No, one or a few bits, mostly of the first words, where the fields are.
fn flips() -> impl Strategy<Value = Vec<usize>> {
    let bit = prop_oneof![3 => 0usize..192, 1 => any::<usize>()];
    prop::collection::vec(bit, 0..4)
}

fn flipped<const N: usize>(mut words: [u64; N], flips: &[usize]) -> [u64; N] {
    for flip in flips {
        words[flip / 64 % N] ^= 1 << (flip % 64);
    }
    words
}

/// A change of one field of an entry, which always makes a difference.
type Change<T> = fn(&mut T);

const CONTEXT_CHANGES: [Change<ContextEntry>; 5] = [
    |entry| {
        if let ContextTarget::SecondStage { table, .. } = &mut entry.target {
            *table = other(*table);
        }
    },
    |entry| entry.domain_id.0 ^= 1,
    |entry| match &mut entry.target {
        ContextTarget::SecondStage { levels, .. } | ContextTarget::PassThrough { levels } => {
            *levels = next(*levels);
        }
    },
    |entry| {
        if let ContextTarget::SecondStage { device_tlb, .. } = &mut entry.target {
            *device_tlb ^= true;
        }
    },
    |entry| entry.fault_processing_disabled ^= true,
];

const PASID_CHANGES: [Change<PasidEntry>; 9] = [
    |entry| match &mut entry.target {
        PasidTarget::FirstStage { table, .. } | PasidTarget::SecondStage { table, .. } => {
            *table = other(*table);
        }
        PasidTarget::PassThrough { .. } => {}
    },
    |entry| entry.domain_id.0 ^= 1,
    |entry| entry.page_walk_snoop ^= true,
    |entry| entry.page_snoop ^= true,
    |entry| entry.fault_processing_disabled ^= true,
    |entry| match &mut entry.target {
        PasidTarget::FirstStage { address_width, .. } => *address_width = next(*address_width),
        PasidTarget::SecondStage { levels, .. } => *levels = next(*levels),
        PasidTarget::PassThrough { address_width } => *address_width = next(*address_width),
    },
    |entry| match &mut entry.target {
        PasidTarget::FirstStage { write_protect, .. } => *write_protect ^= true,
        PasidTarget::SecondStage { accessed_dirty, .. } => *accessed_dirty ^= true,
        PasidTarget::PassThrough { .. } => entry.domain_id.0 ^= 2,
    },
    |entry| match &mut entry.target {
        PasidTarget::FirstStage {
            supervisor_requests,
            ..
        } => *supervisor_requests ^= true,
        _ => entry.domain_id.0 ^= 4,
    },
    |entry| match &mut entry.target {
        PasidTarget::FirstStage {
            extended_accessed, ..
        } => *extended_accessed ^= true,
        _ => entry.domain_id.0 ^= 8,
    },
];

fn other(table: TableAddress) -> TableAddress {
    TableAddress::new(table.get() ^ 0x1000, HostAddressWidth::MAX).expect("a table")
}

fn next(levels: Levels) -> Levels {
    match levels {
        Levels::Three => Levels::Four,
        Levels::Four => Levels::Five,
        Levels::Five => Levels::Three,
    }
}

/// Which fields change: often the table alone.
fn changes() -> impl Strategy<Value = u16> {
    prop_oneof![
        Just(1),
        Just(0),
        (0u32..9).prop_map(|bit| 1 << bit | 1),
        any::<u16>()
    ]
}

fn change<T: Copy>(entry: T, all: &[Change<T>], which: u16) -> T {
    let mut changed = entry;
    for (number, change) in all.iter().enumerate() {
        if which >> number & 1 == 1 {
            change(&mut changed);
        }
    }
    changed
}

fn capabilities() -> impl Strategy<Value = Capabilities> {
    any::<[bool; 2]>().prop_map(|[compare_exchange_128, device_tlb]| Capabilities {
        compare_exchange_128,
        device_tlb,
    })
}

/// The first step is the one write, and turns the old entry into the new one.
fn writes<const N: usize>(plan: &Plan, old: [u64; N]) -> [u64; N] {
    let mut now = old;
    let mut steps = plan.steps();
    match steps.next() {
        Some(Step::Store64 { word, value }) => now[word] = value,
        Some(Step::CompareExchange128 { word, old, new }) => {
            assert_eq!(now[word..word + 2], old);
            now[word..word + 2].copy_from_slice(&new);
        }
        step => panic!("begins with {step:?}"),
    }
    assert!(
        !steps.any(|step| matches!(step, Step::Store64 { .. } | Step::CompareExchange128 { .. }))
    );
    now
}

/// Plans the change of an entry in the fields of `which`; says whether the planner accepts what it shall
/// accept, and which changes it did.
fn plans_context(old: ContextEntry, which: u16, capabilities: Capabilities) -> bool {
    let new = change(old, &CONTEXT_CHANGES, which);
    let (ContextTarget::SecondStage { device_tlb, .. }, [table, did, levels, tlb, silent]) =
        (old.target, std::array::from_fn(|bit| which >> bit & 1 == 1))
    else {
        let plan = plan_context(
            old.encode(),
            new.encode(),
            capabilities,
            HostAddressWidth::MAX,
        );
        assert!(plan.is_err());
        return false;
    };
    let loses_tlb = tlb && device_tlb && capabilities.device_tlb;
    let wide = did || levels;
    let possible = table && !silent && !loses_tlb && (!wide || capabilities.compare_exchange_128);
    let (from, to) = (old.encode(), new.encode());
    let plan = plan_context(from, to, capabilities, HostAddressWidth::MAX);
    assert_eq!(plan.is_ok(), possible, "{old:?} {which:#b} {plan:?}");
    if let Ok(plan) = &plan {
        assert_eq!(writes(plan, from), to);
    }
    plan.is_ok()
}

/// The same for a PASID entry: in first stage nothing may change but the table.
fn plans_pasid(old: PasidEntry, which: u16, capabilities: Capabilities) -> bool {
    let new = change(old, &PASID_CHANGES, which);
    let (from, to) = (old.encode(), new.encode());
    let has = |bit: u32| which >> bit & 1 == 1;
    let possible = match old.target {
        PasidTarget::FirstStage { .. } => which & 0x1ff == 1,
        PasidTarget::SecondStage { .. } => {
            let wide = from[1] != to[1];
            has(0) && !has(4) && (!wide || capabilities.compare_exchange_128)
        }
        PasidTarget::PassThrough { .. } => false,
    };
    let plan = plan_pasid(from, to, 0, capabilities, HostAddressWidth::MAX);
    assert_eq!(plan.is_ok(), possible, "{old:?} {which:#b} {plan:?}");
    if let Ok(plan) = &plan {
        assert_eq!(writes(plan, from), to);
        let one_word = from[1] == to[1];
        let store = matches!(plan.steps().next(), Some(Step::Store64 { .. }));
        assert_eq!(store, one_word);
    }
    plan.is_ok()
}

/// How many of a strategy's first thousand values satisfy `f`: the same ones in each run.
fn count<S: Strategy>(strategy: S, f: impl Fn(S::Value) -> bool) -> usize {
    let mut runner = TestRunner::deterministic();
    let mut value = || strategy.new_tree(&mut runner).expect("a value").current();
    (0..1000).filter(|_| f(value())).count()
}

/// The properties below do reach the cases that they are about.
#[test]
fn the_interesting_cases_are_drawn() {
    let accepted = count((context_entry(), changes(), capabilities()), |(a, b, c)| {
        plans_context(a, b, c)
    });
    assert!(accepted > 200, "{accepted}");
    let accepted = count((pasid_entry(), changes(), capabilities()), |(a, b, c)| {
        plans_pasid(a, b, c)
    });
    assert!(accepted > 200, "{accepted}");
    let flipped_ones = count((pasid_entry(), flips()), |(entry, flips)| {
        let words = flipped(entry.encode(), &flips);
        let decoded = PasidEntry::decode(words, HostAddressWidth::MAX);
        matches!(decoded, Ok(Some(decoded)) if decoded != entry)
    });
    assert!(flipped_ones > 50, "{flipped_ones}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// Arbitrary words: what is accepted is written as it was.
    #[test]
    fn arbitrary_words(words in words::<8>(), width in width()) {
        let [a, b, c, d, ..] = words;
        if let Ok(Some(entry)) = RootEntry::decode([a, b], width) {
            prop_assert_eq!(entry.encode(), [a, b]);
        }
        if let Ok(Some(entry)) = ContextEntry::decode([a, b], width) {
            prop_assert_eq!(entry.encode(), [a, b]);
        }
        if let Ok(Some(entry)) = RootHalf::decode(a, width) {
            prop_assert_eq!(entry.encode(), a);
        }
        if let Ok(Some(entry)) = PasidDirectoryEntry::decode(a, width) {
            prop_assert_eq!(entry.encode(), a);
        }
        if let Ok(Some(entry)) = ScalableContextEntry::decode([a, b, c, d], width) {
            prop_assert_eq!(entry.encode(), [a, b, c, d]);
        }
        if let Ok(Some(entry)) = PasidEntry::decode(words, width) {
            prop_assert_eq!(entry.encode(), words);
        }
    }

    #[test]
    fn root_entries(context_table in table(), flips in flips(), width in width()) {
        let entry = RootEntry { context_table };
        prop_assert_eq!(RootEntry::decode(entry.encode(), width), Ok(Some(entry)));
        let words = flipped(entry.encode(), &flips);
        if let Ok(Some(entry)) = RootEntry::decode(words, width) {
            prop_assert_eq!(entry.encode(), words);
        }
        let half = RootHalf { context_table };
        prop_assert_eq!(RootHalf::decode(half.encode(), width), Ok(Some(half)));
        let [word] = flipped([half.encode()], &flips);
        if let Ok(Some(half)) = RootHalf::decode(word, width) {
            prop_assert_eq!(half.encode(), word);
        }
    }

    #[test]
    fn context_entries(entry in context_entry(), flips in flips(), width in width()) {
        prop_assert_eq!(ContextEntry::decode(entry.encode(), width), Ok(Some(entry)));
        let words = flipped(entry.encode(), &flips);
        if let Ok(Some(entry)) = ContextEntry::decode(words, width) {
            prop_assert_eq!(entry.encode(), words);
        }
    }

    #[test]
    fn scalable_context_entries(entry in scalable_context(), flips in flips(), width in width()) {
        prop_assert_eq!(ScalableContextEntry::decode(entry.encode(), width), Ok(Some(entry)));
        let words = flipped(entry.encode(), &flips);
        if let Ok(Some(entry)) = ScalableContextEntry::decode(words, width) {
            prop_assert_eq!(entry.encode(), words);
        }
    }

    #[test]
    fn pasid_entries(entry in pasid_entry(), flips in flips(), width in width()) {
        prop_assert_eq!(PasidEntry::decode(entry.encode(), width), Ok(Some(entry)));
        let words = flipped(entry.encode(), &flips);
        if let Ok(Some(entry)) = PasidEntry::decode(words, width) {
            prop_assert_eq!(entry.encode(), words);
        }
    }

    #[test]
    fn page_entries(word in word(), level in 0u32..8, levels in 0u32..8, width in width()) {
        for format in [Format::vtdss(levels), Format::x86_64(levels)].into_iter().flatten() {
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

    /// The planner accepts a change of exactly the fields that it may, and its write makes it.
    #[test]
    fn planner_of_contexts(old in context_entry(), which in changes(), capabilities in capabilities()) {
        plans_context(old, which, capabilities);
    }

    #[test]
    fn planner_of_pasid_entries(old in pasid_entry(), which in changes(), capabilities in capabilities()) {
        plans_pasid(old, which, capabilities);
    }

    /// What it accepts of damaged entries, it makes too.
    #[test]
    fn planner_of_damaged_entries(
        context in context_entry(),
        pasid in pasid_entry(),
        flips in [flips(), flips()],
        capabilities in capabilities(),
        width in width(),
    ) {
        let [of_old, of_new] = flips;
        let old = flipped(context.encode(), &of_old);
        let new = flipped(change(context, &CONTEXT_CHANGES, 1).encode(), &of_new);
        if let Ok(plan) = plan_context(old, new, capabilities, width) {
            prop_assert_eq!(old[0] & new[0] & 1, 1);
            prop_assert_eq!(writes(&plan, old), new);
        }
        let old = flipped(pasid.encode(), &of_old);
        let new = flipped(change(pasid, &PASID_CHANGES, 1).encode(), &of_new);
        if let Ok(plan) = plan_pasid(old, new, 0, capabilities, width) {
            prop_assert_eq!(old[0] & new[0] & 1, 1);
            prop_assert_eq!(writes(&plan, old), new);
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
            Err(Flaw::Misaligned) => prop_assert!(address % 4096 != 0),
            Err(refusal) => {
                prop_assert_eq!(refusal, Flaw::BeyondHost);
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
    let entry = ContextEntry::decode(context, width).expect("accepted");
    assert_eq!(entry.map(ContextEntry::encode), Some(context));
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
    let entry = ScalableContextEntry::decode(context, width).expect("accepted");
    assert_eq!(entry.map(ScalableContextEntry::encode), Some(context));
}

#[test]
fn refuses_by_name() {
    use hitless_core::iommu::flaw::Entry;
    let width = HostAddressWidth::new(40).expect("40");
    let context = |words| ContextEntry::decode(words, width).expect_err("refused");
    assert_eq!(
        context([1 | 3 << 2, 2]),
        Flaw::TranslationType(Entry::Context)
    );
    assert_eq!(context([1, 4]), Flaw::UnknownAddressWidth(Entry::Context));
    assert_eq!(context([1, 2 | 1 << 24]), Flaw::Reserved(Entry::Context));
    let beyond = Flaw::PointerBeyondHost(Entry::Context);
    assert_eq!(context([1 | 1 << 40, 2]), beyond);

    let pasid = |low, third| {
        let words = [low, 5, third, 0, 0, 0, 0, 0];
        PasidEntry::decode(words, width).expect_err("refused")
    };
    let kind = |code: u64| code << 6 | 2 << 2 | 1;
    for code in [0, 3, 5, 6, 7] {
        assert_eq!(pasid(kind(code), 0), Flaw::TranslationType(Entry::Pasid));
    }
    assert_eq!(pasid(kind(2), 1), Flaw::Reserved(Entry::Pasid));
    assert_eq!(
        pasid(kind(1), 2 << 2),
        Flaw::UnknownAddressWidth(Entry::Pasid)
    );
    assert_eq!(
        pasid(kind(1), 1 << 40),
        Flaw::PointerBeyondHost(Entry::Pasid)
    );

    for bits in [0, 31, 53, u32::MAX] {
        assert_eq!(HostAddressWidth::new(bits), Err(Flaw::HostAddressWidth));
    }
}

/// `intel_pasid_alloc_table()` of Linux 7.3.4: how many PASIDs the directory of a device that supports
/// `supported` of them has room for.
fn linux_max_pasid(supported: u32) -> u32 {
    let bytes = supported >> 3;
    let pages = bytes.div_ceil(4096).max(1);
    pages.next_power_of_two() << 15
}

/// `context_get_sm_pds()` of Linux 7.3.4: the PDTS field for that.
fn linux_size_code(max_pasid: u32) -> u32 {
    (max_pasid >> 6).trailing_zeros().max(7) - 7
}

/// The directory sizes are those that Linux arrives at, and no others.
#[test]
fn directory_sizes() {
    let mut counts: Vec<_> = (0..=20).map(|bits| linux_max_pasid(1 << bits)).collect();
    counts.push(linux_max_pasid(0));
    counts.sort_unstable();
    counts.dedup();
    assert_eq!(counts.len(), 6);
    for max_pasid in counts.iter().copied() {
        let size = DirectorySize::for_max_pasid(max_pasid).expect("a size");
        assert_eq!(u32::from(size.code()), linux_size_code(max_pasid));
        assert_eq!(u32::from(size.entries()), max_pasid / 64);
        assert_eq!(DirectorySize::from_code(size.code()), Some(size));
    }
    for bits in 0..32 {
        let near = [
            (1 << bits) - 1,
            1 << bits,
            (1 << bits) + 1,
            (1 << bits) + 64,
        ];
        for max_pasid in near {
            let known = counts.contains(&max_pasid);
            let size = DirectorySize::for_max_pasid(max_pasid);
            assert_eq!(size.is_some(), known, "{max_pasid:#x}");
        }
    }
    assert_eq!(DirectorySize::from_code(8), None);
}
