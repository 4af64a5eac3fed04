// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The walker lists exactly the tables that were built, translates as hardware does, and comes to an
//! end on anything.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use hitless_core::error::Error;
use hitless_core::iommu::address::{DomainId, TableAddress};

use hitless_core::iommu::bdf::Bdf;
use hitless_core::iommu::flaw::Flaw;
use hitless_core::iommu::memory::WORDS_PER_TABLE;
use hitless_core::iommu::pt::format::Format;
use hitless_core::iommu::pt::handover::{hand_over, release, take_back};
use hitless_core::iommu::pt::table::Table;
use hitless_core::iommu::pt::translate::translate;
use hitless_core::iommu::pt::walk::{Order, TablePage, TableWalk};
use hitless_core::iommu::vtd::mode::Mode;
use hitless_sim::build::entry;
use hitless_sim::memory::{table, width};
use hitless_sim::unit::Caches;
use hitless_sim::{Access, Dma, PageTable, PhysicalMemory, Tables, Unit};
use proptest::prelude::*;

fn formats() -> impl Strategy<Value = Format> {
    prop_oneof![
        (3u32..=5).prop_map(|levels| Format::vtdss(levels).expect("3 to 5")),
        (4u32..=5).prop_map(|levels| Format::x86_64(levels).expect("4 or 5")),
    ]
}

/// Gibibytes at positive addresses of the format, with a page size, pages and the write right each.
type Regions = BTreeMap<u64, (u32, Vec<u64>, bool)>;

fn regions() -> impl Strategy<Value = Regions> {
    let bits = prop_oneof![4 => Just(12u32), 2 => Just(21), 1 => Just(30)];
    let region = (
        bits,
        prop::collection::vec(0u64..1 << 18, 1..20),
        any::<bool>(),
    );
    prop::collection::btree_map(any::<u64>(), region, 0..6)
}

struct Built {
    memory: PhysicalMemory,
    table: PageTable,
    /// What is mapped: address, physical address, page bits, writable.
    pages: BTreeMap<u64, (u64, u32, bool)>,
}

fn build(format: Format, regions: &Regions) -> Built {
    let memory = PhysicalMemory::new();
    let mut table = PageTable::new(&memory, format);
    let mut pages = BTreeMap::new();
    for (slot, (bits, numbers, writable)) in regions {
        let slot = slot & ((1 << (format.address_bits() - 31)) - 1);
        for number in numbers {
            let iova = (slot << 30 | number << 12) >> bits << bits;
            let gigabyte = iova >> 30;
            let taken = pages.iter().any(|(other, (_, other_bits, _))| {
                other >> 30 == gigabyte && (other_bits != bits || *other == iova)
            });
            if taken {
                continue;
            }
            let physical = 0x0100_0000_0000 + (pages.len() as u64) * (1 << 30);
            table.map(&memory, iova, physical, *bits, *writable);
            pages.insert(iova, (physical, *bits, *writable));
        }
    }
    Built {
        memory,
        table,
        pages,
    }
}

fn collect(built: &Built, order: Order, limit: u64) -> Result<Vec<TablePage>, Flaw> {
    let root = table(built.table.root);
    let mut walk = TableWalk::new(root, built.table.format, width(), order, limit);
    let mut tables = Vec::new();
    while let Some(table) = walk.next(&built.memory)? {
        tables.push(table);
    }
    assert_eq!(walk.next(&built.memory), Ok(None), "the end stays the end");
    Ok(tables)
}

proptest! {
    #[test]
    fn lists_what_was_built(format in formats(), regions in regions()) {
        let built = build(format, &regions);
        let mut expected = built.table.tables.clone();
        expected.sort();
        let count = expected.len() as u64;

        let parents_first = collect(&built, Order::ParentsFirst, count);
        let children_first = collect(&built, Order::ChildrenFirst, count);
        for tables in [parents_first, children_first] {
            let mut tables = tables.expect("accepted");
            tables.sort();
            prop_assert_eq!(&tables, &expected);
        }
        prop_assert_eq!(collect(&built, Order::ParentsFirst, count - 1), Err(Flaw::TooManyTables));
    }

    /// A table comes before (or after) all those below it, so that tables can be freed on the way.
    #[test]
    fn children_first_never_reads_what_came_out(format in formats(), regions in regions()) {
        let built = build(format, &regions);
        let root = table(built.table.root);
        let mut walk = TableWalk::new(root, format, width(), Order::ChildrenFirst, u64::MAX);
        let mut count = 0;
        while let Some(table) = walk.next(&built.memory).expect("accepted") {
            built.memory.free(table.address.get());
            count += 1;
        }
        prop_assert_eq!(count, built.table.tables.len());
    }

    #[test]
    fn reads_upper_levels_only(format in formats(), regions in regions()) {
        let built = build(format, &regions);
        let upper = built.table.tables.iter().filter(|table| table.level > 1).count();
        let before = built.memory.reads();
        collect(&built, Order::ParentsFirst, u64::MAX).expect("accepted");
        prop_assert_eq!(built.memory.reads() - before, (upper * WORDS_PER_TABLE) as u64);
    }

    /// `translate`, the pretend hardware and the builder agree, inside pages and beside them.
    #[test]
    fn translates_as_hardware_does(format in formats(), regions in regions(), offset: u64, other: u64) {
        let built = build(format, &regions);
        let mode = Mode::Scalable;
        let bdf = Bdf::new(3, 0x91);
        let tables = Tables::new(&built.memory, mode);
        let words = entry(mode, &built.table, DomainId(5));
        tables.place(&built.memory, bdf).write(&built.memory, &words);
        let mut unit = Unit::new(mode, tables.root, Caches::UNIT);
        let root = table(built.table.root);
        let mut dma = |iova, access| unit.dma(&built.memory, Dma { bdf, iova, access }).ok();
        let look = |iova| translate(&built.memory, root, format, width(), iova);

        for (iova, (physical, bits, writable)) in &built.pages {
            let offset = offset & ((1 << bits) - 1);
            let found = look(iova | offset).expect("accepted").expect("mapped");
            prop_assert_eq!(found.physical, physical | offset);
            prop_assert_eq!(found.page_bits, *bits);
            prop_assert_eq!((found.rights.read, found.rights.write), (true, *writable));
            prop_assert_eq!(dma(iova | offset, Access::Read), Some(physical | offset));
            prop_assert_eq!(dma(iova | offset, Access::Write).is_some(), *writable);
        }
        for iova in [other, other & ((1 << format.address_bits()) - 1)] {
            let hardware = dma(iova, Access::Read);
            let ours = look(iova);
            prop_assert_eq!(ours.ok().flatten().map(|found| found.physical), hardware);
        }
    }

    /// Garbage in every page: walks and look-ups end, with a refusal or without.
    #[test]
    fn garbage_ends(
        format in formats(),
        pages in prop::collection::vec(prop::collection::vec(words(), 1..20), 1..8),
        iovas in prop::collection::vec(any::<u64>(), 1..10),
    ) {
        let memory = PhysicalMemory::new();
        for (number, words) in pages.iter().enumerate() {
            for (index, word) in words.iter().enumerate() {
                memory.write((number as u64) << 12, index * 7 % WORDS_PER_TABLE, *word);
            }
        }
        let limit = 200;
        for order in [Order::ParentsFirst, Order::ChildrenFirst] {
            let mut walk = TableWalk::new(table(0), format, width(), order, limit);
            let mut count = 0;
            while let Ok(Some(_)) = walk.next(&memory) {
                count += 1;
            }
            prop_assert!(count <= limit);
            prop_assert_eq!(walk.next(&memory), Ok(None));
        }
        prop_assert!(memory.reads() <= 2 * (limit + 1) * WORDS_PER_TABLE as u64);
        for iova in iovas {
            let _ = translate(&memory, table(0), format, width(), iova);
        }
    }
}

/// Words that look like entries: arbitrary ones, and pointers to the first few pages.
fn words() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0u64..8, 0u64..0x1000).prop_map(|(page, flags)| page << 12 | flags),
        (0u64..8).prop_map(|page| page << 12 | 7),
    ]
}

/// A right that is missing anywhere on the way is missing for the page, for us and for hardware.
#[test]
fn rights_of_the_whole_way_count() {
    for format in [Format::vtdss(4), Format::x86_64(4)] {
        let format = format.expect("4");
        let memory = PhysicalMemory::new();
        let mut built = PageTable::new(&memory, format);
        built.map(&memory, 0, 0x0100_0000_0000, 12, true);
        let bdf = Bdf::new(3, 0x91);
        let tables = Tables::new(&memory, Mode::Scalable);
        let words = entry(Mode::Scalable, &built, DomainId(5));
        tables.place(&memory, bdf).write(&memory, &words);
        let writes = || {
            let mut unit = Unit::new(Mode::Scalable, tables.root, Caches::UNIT);
            let dma = |access| Dma {
                bdf,
                iova: 0,
                access,
            };
            assert!(unit.dma(&memory, dma(Access::Read)).is_ok());
            let hardware = unit.dma(&memory, dma(Access::Write)).is_ok();
            let found = translate(&memory, table(built.root), format, width(), 0);
            let rights = found.expect("accepted").expect("mapped").rights;
            assert!(rights.read);
            assert_eq!(rights.write, hardware);
            rights.write
        };
        assert!(writes());
        // Bit 1 is the right to write in both formats, in tables of every level.
        for table in built.tables.clone() {
            memory.flip(table.address.get(), 0, 1);
            assert!(!writes());
            memory.flip(table.address.get(), 0, 1);
        }
    }
}

#[test]
fn cycles_are_refused() {
    let memory = PhysicalMemory::new();
    let format = Format::vtdss(4).expect("4");
    let mut built = PageTable::new(&memory, format);
    built.map(&memory, 0, 0x0100_0000_0000, 12, true);
    // The second level points back to the top.
    let second = built.tables[2];
    assert_eq!(second.level, 2);
    memory.write(second.address.get(), 9, built.root | 3);
    let root = table(built.root);
    let mut walk = TableWalk::new(root, format, width(), Order::ParentsFirst, u64::MAX);
    let refused = loop {
        match walk.next(&memory) {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert_eq!(refused, Err(Flaw::Cycle));
}

fn of_domain(built: &PageTable) -> Table {
    Table {
        top: table(built.root),
        format: built.format,
        incoherent: false,
        snoop: false,
    }
}

fn addresses(built: &PageTable) -> BTreeSet<u64> {
    let tables = built.tables.iter();
    tables.map(|table| table.address.get()).collect()
}

proptest! {
    /// Whenever it fails, nothing is handed over; if it does not, everything is, and can be taken back.
    #[test]
    fn all_tables_are_handed_over_or_none(
        format in formats(),
        regions in regions(),
        fail: prop::sample::Index,
    ) {
        let built = build(format, &regions);
        let (memory, domain) = (&built.memory, of_domain(&built.table));
        let all = addresses(&built.table);
        let fail = fail.index(all.len() + 1);
        let handed = RefCell::new(BTreeSet::new());
        let undo = |page: TableAddress| assert!(handed.borrow_mut().remove(&page.get()));
        let keep = |page: TableAddress| {
            let mut handed = handed.borrow_mut();
            if handed.len() == fail {
                return Err(fail);
            }
            assert!(handed.insert(page.get()), "no page twice");
            Ok(())
        };
        let result = hand_over(memory, &domain, u64::MAX, keep, undo);
        if fail < all.len() {
            prop_assert_eq!(result, Err(Error::Lender(fail)));
            prop_assert!(handed.borrow().is_empty());
            return Ok(());
        }
        prop_assert_eq!(result, Ok(all.len() as u64));
        prop_assert_eq!(&*handed.borrow(), &all);
        take_back(memory, &domain, all.len() as u64, undo);
        prop_assert!(handed.borrow().is_empty());
        // One too few is none.
        let limit = all.len() as u64 - 1;
        let keep = |page: TableAddress| {
            handed.borrow_mut().insert(page.get());
            Ok::<(), ()>(())
        };
        let result = hand_over(memory, &domain, limit, keep, undo);
        prop_assert_eq!(result, Err(Flaw::TooManyTables.into()));
        prop_assert!(handed.borrow().is_empty());
    }

    /// What was handed over comes back, once, and nothing else is read or given out, whatever the tables
    /// point to.
    #[test]
    fn only_what_was_handed_over_is_released(
        format in formats(),
        regions in regions(),
        lost in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        links in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_usize..512), 0..6),
        fewer in 0_u64..3,
    ) {
        let built = build(format, &regions);
        let memory = &built.memory;
        let mut ours = addresses(&built.table);
        let all: Vec<_> = ours.iter().copied().collect();
        for index in &lost {
            let page = *index.get(&all);
            ours.remove(&page);
            // It is somebody else's now: to read it is to walk garbage.
            memory.free(page);
        }
        // Pointers from anywhere to anywhere: twice to one table, in a circle, to what is lost.
        for (from, to, index) in &links {
            let from = *from.get(&built.table.tables);
            if from.level > 1 && ours.contains(&from.address.get()) {
                memory.write(from.address.get(), *index, *to.get(&all) | 0b10_0111);
            }
        }
        let before = ours.clone();
        let left = RefCell::new(ours);
        let tables = (all.len() as u64).saturating_sub(fewer).max(1);
        let released = release(
            memory,
            &of_domain(&built.table),
            tables,
            |page| left.borrow().contains(&page.get()),
            |page| {
                assert!(left.borrow_mut().remove(&page.get()), "once");
                memory.free(page.get());
            },
        );
        prop_assert_eq!(released.freed, (before.len() - left.borrow().len()) as u64);
        prop_assert!(released.freed <= tables);
        if lost.is_empty() && links.is_empty() && fewer == 0 {
            prop_assert!(left.borrow().is_empty());
            prop_assert_eq!((released.missing, released.foreign, released.flaw), (0, 0, None));
        }
    }
}
