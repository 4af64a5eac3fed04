// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The pretend hardware itself: the fault reasons it gives, and its agreement with `hitless_core`
//! about what an entry is.

use hitless_core::vtd::legacy;
use hitless_core::vtd::page_table::Format;
use hitless_core::vtd::scalable::PasidEntry;
use hitless_core::vtd::{Bdf, DomainId, Mode};
use hitless_sim::build::entry;
use hitless_sim::memory::width;
use hitless_sim::unit::Caches;
use hitless_sim::{Access, Dma, Fault, PageTable, PhysicalMemory, Place, Tables, Unit};
use proptest::prelude::*;

const DEVICE: Bdf = Bdf::new(3, 0x91);
const IOVA: u64 = 0x5000;
const PAGE: u64 = 0x0100_0000_0000;

struct Machine {
    memory: PhysicalMemory,
    tables: Tables,
    table: PageTable,
    place: Place,
}

fn machine(mode: Mode, format: Format) -> Machine {
    let memory = PhysicalMemory::new();
    let tables = Tables::new(&memory, mode);
    let mut table = PageTable::new(&memory, format);
    table.map(&memory, IOVA, PAGE, 12, false);
    let place = tables.place(&memory, DEVICE);
    place.write(&memory, &entry(mode, &table, DomainId(5)));
    Machine {
        memory,
        tables,
        table,
        place,
    }
}

impl Machine {
    fn dma(&self, bdf: Bdf, iova: u64, access: Access) -> Result<u64, Fault> {
        let mut unit = Unit::new(self.tables.mode, self.tables.root, Caches::UNIT);
        unit.dma(&self.memory, Dma { bdf, iova, access })
    }

    fn fault(&self, iova: u64, access: Access) -> u8 {
        self.dma(DEVICE, iova, access).expect_err("faults").code()
    }
}

fn second(levels: u32) -> Format {
    Format::second_stage(levels).expect("3 to 5")
}

#[test]
fn legacy_faults() {
    let machine = machine(Mode::Legacy, second(3));
    assert_eq!(machine.dma(DEVICE, IOVA | 7, Access::Read), Ok(PAGE | 7));
    assert_eq!(machine.fault(IOVA, Access::Write), 0x05);
    assert_eq!(machine.fault(IOVA + 0x1000, Access::Read), 0x06);
    assert_eq!(machine.fault(1 << 39, Access::Read), 0x04);
    let beside = machine.dma(Bdf::new(3, 0), IOVA, Access::Read);
    assert_eq!(beside, Err(Fault::ContextNotPresent));
    let elsewhere = machine.dma(Bdf::new(4, 0), IOVA, Access::Read);
    assert_eq!(elsewhere, Err(Fault::RootNotPresent));
    let [low, high] = machine.place.read(&machine.memory);
    machine.place.write(&machine.memory, &[low, high | 4]);
    assert_eq!(machine.fault(IOVA, Access::Read), 0x03);
    machine.place.write(&machine.memory, &[low, high | 1 << 24]);
    assert_eq!(machine.fault(IOVA, Access::Read), 0x0b);
    machine.place.write(&machine.memory, &[0x7777_0001, high]);
    assert_eq!(machine.fault(IOVA, Access::Read), 0x07);
}

#[test]
fn scalable_faults() {
    let machine = machine(Mode::Scalable, second(4));
    assert_eq!(machine.dma(DEVICE, IOVA | 7, Access::Read), Ok(PAGE | 7));
    assert_eq!(machine.fault(IOVA, Access::Write), 0x79);
    assert_eq!(machine.fault(1 << 48, Access::Read), 0x84);
    let beside = machine.dma(Bdf::new(3, 0x90), IOVA, Access::Read);
    assert_eq!(beside, Err(Fault::ScalableContextNotPresent));
    // Lower and upper half of a bus are apart.
    let lower = machine.dma(Bdf::new(3, 0x11), IOVA, Access::Read);
    assert_eq!(lower, Err(Fault::ScalableRootNotPresent));
    let words: [u64; 8] = machine.place.read(&machine.memory);
    machine.memory.write(machine.place.page, 0, words[0] & !1);
    assert_eq!(machine.fault(IOVA, Access::Read), 0x59);
    machine
        .memory
        .write(machine.place.page, 0, words[0] | 7 << 6);
    assert_eq!(machine.fault(IOVA, Access::Read), 0x5b);
    machine
        .memory
        .write(machine.place.page, 0, words[0] | 1 << 10);
    assert_eq!(machine.fault(IOVA, Access::Read), 0x5a);
}

#[test]
fn first_stage_faults() {
    let format = Format::first_stage(4).expect("4");
    let machine = machine(Mode::Scalable, format);
    assert_eq!(machine.dma(DEVICE, IOVA | 7, Access::Read), Ok(PAGE | 7));
    assert_eq!(machine.fault(IOVA, Access::Write), 0x85);
    assert_eq!(machine.fault(IOVA + 0x1000, Access::Read), 0x71);
    assert_eq!(machine.fault(1 << 47, Access::Read), 0x80);
    machine.table.free(&machine.memory);
    assert_eq!(machine.fault(IOVA, Access::Read), 0x72);
}

/// Without the invalidation a unit goes on using what it has; with it, it sees memory.
#[test]
fn caches_hold_until_they_are_invalidated() {
    for (mode, format) in [
        (Mode::Legacy, second(4)),
        (Mode::Scalable, second(4)),
        (Mode::Scalable, Format::first_stage(4).expect("4")),
    ] {
        let machine = machine(mode, format);
        let mut unit = Unit::new(mode, machine.tables.root, Caches::UNIT);
        let dma = Dma {
            bdf: DEVICE,
            iova: IOVA,
            access: Access::Read,
        };
        assert_eq!(unit.dma(&machine.memory, dma), Ok(PAGE));
        machine.place.write(&machine.memory, &[0, 0]);
        machine.table.free(&machine.memory);
        assert_eq!(unit.dma(&machine.memory, dma), Ok(PAGE));
        unit.invalidate_all();
        assert!(unit.dma(&machine.memory, dma).is_err());
    }
}

/// Faults that say that an entry above the page table is not one.
fn is_about_the_entry(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::ContextNotPresent
            | Fault::ContextInvalid
            | Fault::ContextReserved
            | Fault::PasidNotPresent
            | Fault::PasidInvalid
            | Fault::PasidReserved
    )
}

fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0u64..1 << 36, 0u64..0x1000).prop_map(|(page, flags)| page << 12 | flags | 1),
        (0u64..1 << 34, 0u64..8, 0u64..8)
            .prop_map(|(page, kind, aw)| page << 12 | kind << 6 | aw << 2 | 1),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    /// What core takes for an entry, hardware takes for one; what core takes for none, too.
    #[test]
    fn core_and_hardware_agree_on_entries(
        low in word(),
        tt in 0u64..4,
        high in any::<u16>(),
        aw in 0u64..8,
        third in prop_oneof![Just(0), word()],
        small: bool,
    ) {
        let legacy_machine = machine(Mode::Legacy, second(4));
        let low_legacy = if small { low & !0xfff | tt << 2 | 1 } else { low };
        let words = [low_legacy, u64::from(high) << 8 | aw];
        legacy_machine.place.write(&legacy_machine.memory, &words);
        let fault = legacy_machine.dma(DEVICE, IOVA, Access::Read).err();
        match legacy::ContextEntry::decode(words, width()) {
            Ok(Some(_)) => prop_assert!(!fault.is_some_and(is_about_the_entry), "{:?}", fault),
            Ok(None) => prop_assert_eq!(fault, Some(Fault::ContextNotPresent)),
            Err(_) => {}
        }

        let scalable = machine(Mode::Scalable, second(4));
        let words = [low, u64::from(high), third, 0, 0, 0, 0, 0];
        scalable.place.write(&scalable.memory, &words);
        let fault = scalable.dma(DEVICE, IOVA, Access::Read).err();
        match PasidEntry::decode(words, width()) {
            Ok(Some(_)) => prop_assert!(!fault.is_some_and(is_about_the_entry), "{:?}", fault),
            Ok(None) => prop_assert_eq!(fault, Some(Fault::PasidNotPresent)),
            Err(_) => {}
        }
    }
}
