// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A scrub leaves the preserved devices' entries and nothing else, whatever it finds.

use std::collections::BTreeSet;

use hitless_core::vtd::page_table::Format;
use hitless_core::vtd::scrub::{scrub, Scrub};
use hitless_core::vtd::{Bdf, DevfnSet, DomainId, Mode, Unit};
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
    let mut page_table = PageTable::new(&memory, Format::second_stage(4).expect("4"));
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

fn run(memory: &PhysicalMemory, unit: Unit, preserved: &BTreeSet<Bdf>) -> u64 {
    let on_bus = |bus| DevfnSet::on_bus(bus, preserved.iter().copied());
    let clear = |clear: hitless_core::vtd::scrub::Clear| {
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

        run(&machine.memory, machine.tables.unit(), &preserved);
        for bdf in &all {
            prop_assert_eq!(reaches(&machine, *bdf), preserved.contains(bdf), "{}", bdf);
        }
        // Nothing has been written but zeros, and a second scrub finds nothing to do.
        let after = machine.memory.words();
        prop_assert!(after.iter().all(|word| before.contains(word)));
        prop_assert_eq!(run(&machine.memory, machine.tables.unit(), &preserved), 0);
    }

    /// The bit that makes an entry present goes first, so no entry is ever half an entry.
    #[test]
    fn words_of_an_entry_go_in_rising_order(mode in modes(), preserved in devices(), others in devices()) {
        let all: BTreeSet<_> = preserved.union(&others).copied().collect();
        let machine = machine(mode, &all);
        let mut scrub = Scrub::new(machine.tables.unit());
        let on_bus = |bus| DevfnSet::on_bus(bus, preserved.iter().copied());
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

    /// Garbage in root and context tables: only what is preserved can still be present.
    #[test]
    fn garbage_is_cleared(
        mode in modes(),
        preserved in devices(),
        root in prop::collection::vec((root_index(), word()), 0..40),
        context in prop::collection::vec((0usize..512, word()), 0..40),
    ) {
        let memory = PhysicalMemory::new();
        for (index, word) in &root {
            memory.write(0, *index, *word);
        }
        for page in 1..4u64 {
            for (index, word) in &context {
                memory.write(page << 12, *index, *word);
            }
        }
        let tables = Tables { mode, root: 0 };
        run(&memory, tables.unit(), &preserved);
        let machine = Machine { memory, tables };
        for (_, index, word) in machine.memory.words().iter().filter(|(page, _, _)| *page == 0) {
            let bus = u8::try_from(index / 2).expect("512 words");
            let kept = DevfnSet::on_bus(bus, preserved.iter().copied());
            let any = match (mode, index % 2) {
                (Mode::Legacy, 0) => !kept.is_empty(),
                (Mode::Legacy, _) => false,
                (Mode::Scalable, 0) => kept.any_lower(),
                (Mode::Scalable, _) => kept.any_upper(),
            };
            prop_assert!(any && word & 1 == 1 && word >> 12 < 4);
        }
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
        (1u64..6).prop_map(|page| page << 12 | 1),
        (1u64..6, 0u64..0x1000).prop_map(|(page, flags)| page << 12 | flags),
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
    assert_eq!(run(&memory, tables.unit(), &BTreeSet::new()), 0);
}
