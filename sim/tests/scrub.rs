// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A scrub leaves the preserved devices' entries and nothing else, whatever it finds.

use std::collections::{BTreeMap, BTreeSet};

use hitless_core::iommu::address::DomainId;
use hitless_core::iommu::bdf::Bdf;
use hitless_core::iommu::pt::format::Format;
use hitless_core::iommu::vtd::mode::{Mode, UnitTables};
use hitless_core::iommu::vtd::scrub::{scrub, OnBus, Scrub};
use hitless_sim::build::entry;
use hitless_sim::memory::table;
use hitless_sim::unit::Caches;
use hitless_sim::{Access, Dma, PageTable, PhysicalMemory, Tables};
use proptest::prelude::*;

const IOVA: u64 = 0x5000;
const PAGE: u64 = 0x0100_0000_0000;

struct Machine {
    memory: PhysicalMemory,
    tables: Tables,
}

/// All `devices` can reach `PAGE`.
fn machine(mode: Mode, devices: &BTreeSet<Bdf>) -> Machine {
    let memory = PhysicalMemory::new();
    let tables = Tables::new(&memory, mode);
    let mut page_table = PageTable::new(&memory, Format::vtdss(4).expect("4"));
    page_table.map(&memory, IOVA, PAGE, 12, true);
    let words = entry(mode, &page_table, DomainId(5));
    for bdf in devices {
        tables.place(&memory, *bdf).write(&memory, &words);
    }
    Machine { memory, tables }
}

fn reaches(machine: &Machine, bdf: Bdf) -> bool {
    let mut unit = hitless_sim::Unit::new(machine.tables.mode, machine.tables.root, Caches::NONE);
    let dma = Dma {
        bdf,
        iova: IOVA,
        access: Access::Write,
    };
    unit.dma(&machine.memory, dma) == Ok(PAGE)
}

/// The preserved devices with the context tables that are recorded for them.
type Records = BTreeMap<Bdf, u64>;

impl Machine {
    /// The records of devices that are set up.
    fn records(&self, devices: &BTreeSet<Bdf>) -> Records {
        let context = |bdf: &Bdf| self.tables.context(&self.memory, *bdf).page;
        devices.iter().map(|bdf| (*bdf, context(bdf))).collect()
    }
}

fn kept(mode: Mode, bus: u8, records: &Records) -> OnBus {
    let records = records.iter().map(|(bdf, page)| (*bdf, table(*page)));
    OnBus::new(mode, bus, records)
}

fn run(memory: &PhysicalMemory, unit: UnitTables, records: &Records) -> u64 {
    let on_bus = |bus| kept(unit.mode, bus, records);
    let clear = |clear: hitless_core::iommu::vtd::scrub::Clear| {
        memory.write(clear.table.get(), clear.index, 0);
        Ok(())
    };
    scrub(memory, unit, on_bus, clear).expect("clearing succeeds")
}

fn modes() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Legacy), Just(Mode::Scalable)]
}

/// Devices crowded on a few buses, on both halves of each.
fn devices() -> impl Strategy<Value = BTreeSet<Bdf>> {
    let bus = prop_oneof![Just(0u8), Just(3), Just(255)];
    let devfn = prop_oneof![any::<u8>(), 0x7eu8..0x82, Just(0), Just(255)];
    let bdf = (bus, devfn).prop_map(|(bus, devfn)| Bdf::new(bus, devfn));
    prop::collection::btree_set(bdf, 0..12)
}

proptest! {
    #[test]
    fn leaves_the_preserved_alone(mode in modes(), preserved in devices(), others in devices()) {
        let all: BTreeSet<_> = preserved.union(&others).copied().collect();
        let machine = machine(mode, &all);
        let before = machine.memory.words();
        for bdf in &all {
            prop_assert!(reaches(&machine, *bdf));
        }

        let records = machine.records(&preserved);
        run(&machine.memory, machine.tables.unit(), &records);
        for bdf in &all {
            prop_assert_eq!(reaches(&machine, *bdf), preserved.contains(bdf), "{}", bdf);
        }
        // Nothing has been written but zeros, and a second scrub finds nothing to do.
        let after = machine.memory.words();
        prop_assert!(after.iter().all(|word| before.contains(word)));
        prop_assert_eq!(run(&machine.memory, machine.tables.unit(), &records), 0);
    }

    /// The bit that makes an entry present goes first, so no entry is ever half an entry.
    #[test]
    fn words_of_an_entry_go_in_rising_order(mode in modes(), preserved in devices(), others in devices()) {
        let all: BTreeSet<_> = preserved.union(&others).copied().collect();
        let machine = machine(mode, &all);
        let mut scrub = Scrub::new(machine.tables.unit());
        let records = machine.records(&preserved);
        let on_bus = |bus| kept(mode, bus, &records);
        let mut last = None;
        while let Some(clear) = scrub.next(&machine.memory, on_bus) {
            machine.memory.write(clear.table.get(), clear.index, 0);
            if let Some((page, index)) = last {
                prop_assert!(page != clear.table || index < clear.index);
            }
            last = Some((clear.table, clear.index));
            for bdf in &preserved {
                prop_assert!(reaches(&machine, *bdf));
            }
        }
    }

    /// Garbage in root and context tables: what is left is recorded context tables with nothing but
    /// preserved devices' entries in them, and nothing else has been written to.
    #[test]
    fn garbage_is_cleared(
        mode in modes(),
        preserved in devices(),
        root in prop::collection::vec((root_index(), word()), 0..40),
        right in prop::collection::vec(any::<bool>(), 6),
        context in prop::collection::vec((0usize..512, word()), 0..40),
    ) {
        let garbage = Garbage::new(mode, &preserved, &root, &right, &context);
        let before = garbage.machine.memory.words();
        run(&garbage.machine.memory, garbage.machine.tables.unit(), &garbage.records);
        garbage.check(&before);
    }
}

/// The pages of garbage: the root table is page 0; recorded are pages 1 to 6, one for each half of the
/// three buses; what is in the others is somebody else's.
const BUSES: [u8; 3] = [0, 3, 255];
const PAGES: u64 = 9;

struct Garbage {
    machine: Machine,
    records: Records,
}

impl Garbage {
    /// Root entries of `right` lead to the recorded tables, whatever else `root` says.
    fn new(
        mode: Mode,
        preserved: &BTreeSet<Bdf>,
        root: &[(usize, u64)],
        right: &[bool],
        context: &[(usize, u64)],
    ) -> Self {
        let memory = PhysicalMemory::new();
        for (index, word) in root {
            memory.write(0, *index, *word);
        }
        for (number, right) in right.iter().enumerate() {
            if *right {
                let index = usize::from(BUSES[number / 2]) * 2 + number % 2;
                memory.write(0, index, (number as u64 + 1) << 12 | 1);
            }
        }
        for page in 1..PAGES {
            for (index, word) in context {
                memory.write(page << 12, *index, *word);
            }
        }
        let records = preserved.iter().map(|bdf| (*bdf, recorded(mode, *bdf)));
        Self {
            records: records.collect(),
            machine: Machine {
                memory,
                tables: Tables { mode, root: 0 },
            },
        }
    }

    fn check(&self, before: &[(u64, usize, u64)]) {
        let mode = self.machine.tables.mode;
        let after = self.machine.memory.words();
        let root = after.iter().filter(|(page, _, _)| *page == 0);
        let mut left = BTreeSet::new();
        for (_, index, word) in root {
            let bus = u8::try_from(index / 2).expect("512 words");
            let upper = index % 2 == 1;
            assert!(!(mode == Mode::Legacy && upper));
            let mut records = self.records.iter();
            let of_half = |bdf: &Bdf| {
                bdf.bus() == bus && (mode == Mode::Legacy || (bdf.devfn() >= 0x80) == upper)
            };
            let device = records.find(|(bdf, _)| of_half(bdf));
            let (_, page) = device.expect("a root entry is left for preserved devices only");
            assert_eq!(*word, page | 1);
            left.insert(*page);
        }
        for (page, index, word) in before.iter().filter(|(page, _, _)| *page != 0) {
            let keeps = !left.contains(page) || self.is_kept(*page, *index);
            let now = self.machine.memory.get(*page, *index).expect("a page");
            assert_eq!(now, if keeps { *word } else { 0 }, "{page:#x}[{index}]");
        }
        for bus in BUSES {
            for bdf in (0..=255).map(|devfn| Bdf::new(bus, devfn)) {
                assert!(self.records.contains_key(&bdf) || !is_alive(&self.machine, bdf));
            }
        }
    }

    /// Whether a word belongs to a preserved device's entry.
    fn is_kept(&self, page: u64, index: usize) -> bool {
        let entry = |bdf: &Bdf| match self.machine.tables.mode {
            Mode::Legacy => usize::from(bdf.devfn()) == index / 2,
            Mode::Scalable => usize::from(bdf.devfn() % 0x80) == index / 4,
        };
        let mut records = self.records.iter();
        records.any(|(bdf, recorded)| *recorded == page && entry(bdf))
    }
}

/// Where the context table of a device is recorded to be.
fn recorded(mode: Mode, bdf: Bdf) -> u64 {
    let bus = BUSES.iter().position(|bus| *bus == bdf.bus());
    let upper = mode == Mode::Scalable && bdf.devfn() >= 0x80;
    let number = 2 * bus.expect("one of the buses") + usize::from(upper);
    (number as u64 + 1) << 12
}

/// Whether any DMA of the device gets anywhere.
fn is_alive(machine: &Machine, bdf: Bdf) -> bool {
    let mut unit = hitless_sim::Unit::new(machine.tables.mode, machine.tables.root, Caches::NONE);
    [0, IOVA, 0x1000, 1 << 30, 1 << 46].into_iter().any(|iova| {
        [Access::Read, Access::Write].into_iter().any(|access| {
            let dma = Dma { bdf, iova, access };
            unit.dma(&machine.memory, dma).is_ok()
        })
    })
}

/// A context table of the live root table that is not the recorded one is nobody's to clear: it is not
/// followed, and nobody goes through it any more.
#[test]
fn another_context_table_is_not_touched() {
    let (mine, other) = (Bdf::new(3, 0x10), Bdf::new(3, 0x11));
    for mode in [Mode::Legacy, Mode::Scalable] {
        let machine = machine(mode, &BTreeSet::from([mine, other]));
        let live = machine.tables.context(&machine.memory, mine).page;
        let before = machine.memory.words();
        let records = Records::from([(mine, 0x7000)]);
        assert!(is_alive(&machine, mine) && is_alive(&machine, other));
        assert_eq!(run(&machine.memory, machine.tables.unit(), &records), 1);
        assert!(!is_alive(&machine, mine) && !is_alive(&machine, other));
        let of_page = |words: &[(u64, usize, u64)]| -> Vec<_> {
            let words = words.iter().copied();
            words.filter(|(page, _, _)| *page == live).collect()
        };
        assert_eq!(of_page(&machine.memory.words()), of_page(&before));
    }
}

/// Records that disagree about a context table keep the first of them only.
#[test]
fn of_two_recorded_context_tables_the_first_counts() {
    let (mine, other) = (Bdf::new(3, 0x10), Bdf::new(3, 0x11));
    for mode in [Mode::Legacy, Mode::Scalable] {
        let machine = machine(mode, &BTreeSet::from([mine, other]));
        let live = machine.tables.context(&machine.memory, mine).page;
        let records = Records::from([(mine, live), (other, 0x7000)]);
        run(&machine.memory, machine.tables.unit(), &records);
        assert!(reaches(&machine, mine) && !is_alive(&machine, other));
    }
}

/// Any word of the root table, and those of the buses that devices are on.
fn root_index() -> impl Strategy<Value = usize> {
    prop_oneof![
        0usize..512,
        prop::sample::select(vec![0usize, 1, 6, 7, 510, 511])
    ]
}

/// Arbitrary words, and pointers to the first few pages, root table excluded.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (1u64..PAGES).prop_map(|page| page << 12 | 1),
        (1u64..PAGES, 0u64..0x1000).prop_map(|(page, flags)| page << 12 | flags),
    ]
}

/// Twin: without a scrub the others go on reaching memory.
#[test]
fn without_a_scrub_all_reach_memory() {
    let devices = BTreeSet::from([Bdf::new(3, 0), Bdf::new(4, 0x80)]);
    for mode in [Mode::Legacy, Mode::Scalable] {
        let machine = machine(mode, &devices);
        assert!(devices.iter().all(|bdf| reaches(&machine, *bdf)));
    }
}

#[test]
fn a_root_table_that_is_not_there_ends_the_scrub() {
    let memory = PhysicalMemory::new();
    let tables = Tables {
        mode: Mode::Legacy,
        root: table(0x7000).get(),
    };
    assert_eq!(run(&memory, tables.unit(), &Records::new()), 0);
}
