// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The pretend hardware itself: the fault reasons it gives, and its agreement with `hitless_core`
//! about what an entry is.

use hitless_core::iommu::vtd::context::{ContextEntry, ContextTarget};
use hitless_core::iommu::vtd::pasid::{PasidEntry, PasidTarget};
use std::collections::HashMap;

use hitless_core::iommu::address::DomainId;
use hitless_core::iommu::bdf::Bdf;
use hitless_core::iommu::pt::format::Format;
use hitless_core::iommu::vtd::mode::Mode;
use hitless_sim::build::entry;
use hitless_sim::memory::width;
use hitless_sim::unit::Caches;
use hitless_sim::{Access, Dma, Fault, PageTable, PhysicalMemory, Place, Tables, Unit};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

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
    Format::vtdss(levels).expect("3 to 5")
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
    let format = Format::x86_64(4).expect("4");
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
        (Mode::Scalable, Format::x86_64(4).expect("4")),
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

/// A device uses its TLB as long as its entry lets it: what it holds from before faults.
#[test]
fn a_device_tlb_needs_leave() {
    for (mode, fault) in [
        (Mode::Legacy, Fault::DeviceTlbBlocked),
        (Mode::Scalable, Fault::ScalableDeviceTlbBlocked),
    ] {
        let machine = machine(mode, second(4));
        let mut unit = Unit::new(mode, machine.tables.root, Caches::ALL);
        let dma = Dma {
            bdf: DEVICE,
            iova: IOVA,
            access: Access::Read,
        };
        let context = machine.tables.context(&machine.memory, DEVICE);
        let forget = |unit: &mut Unit| {
            unit.evict(Caches {
                device_tlb: false,
                ..Caches::ALL
            });
        };
        // Without leave it holds nothing, and sees at once that the mapping is gone.
        assert_eq!(unit.dma(&machine.memory, dma), Ok(PAGE));
        forget(&mut unit);
        let [low] = context.read(&machine.memory);
        context.write(&machine.memory, &[0]);
        assert!(unit.dma(&machine.memory, dma).is_err());
        context.write(&machine.memory, &[low]);

        machine.tables.allow_device_tlb(&machine.memory, DEVICE);
        assert_eq!(unit.dma(&machine.memory, dma), Ok(PAGE));
        machine.table.free(&machine.memory);
        forget(&mut unit);
        assert_eq!(unit.dma(&machine.memory, dma), Ok(PAGE));
        context.write(&machine.memory, &[low]);
        // The unit's own cache still says that it may.
        assert_eq!(unit.dma(&machine.memory, dma), Ok(PAGE));
        unit.invalidate_context(DEVICE, DomainId(5));
        assert_eq!(unit.dma(&machine.memory, dma), Err(fault));
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

/// An entry that is one, for the table of a machine or another table, with some bits flipped.
#[derive(Clone, Debug)]
struct Drawn {
    first_stage: bool,
    levels: u32,
    did: u16,
    /// Bits that mean something and may have either value.
    flags: u64,
    through: bool,
    flips: Vec<usize>,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let bit = prop_oneof![3 => 0usize..192, 1 => any::<usize>()];
    (
        any::<bool>(),
        3u32..=5,
        any::<u16>(),
        any::<u64>(),
        prop::bool::weighted(0.1),
        prop::collection::vec(bit, 0..4),
    )
        .prop_map(|(first_stage, levels, did, flags, through, flips)| Drawn {
            first_stage,
            levels,
            did,
            flags,
            through,
            flips,
        })
}

fn flipped<const N: usize>(mut words: [u64; N], flips: &[usize]) -> [u64; N] {
    for flip in flips {
        words[flip / 64 % N] ^= 1 << (flip % 64);
    }
    words
}

/// FPD and TT of a legacy context entry, and all of it as pass-through.
fn legacy_words(drawn: &Drawn, machine: &Machine) -> [u64; 2] {
    let [low, high]: [u64; 2] = machine.place.read(&machine.memory);
    let high = high & 7 | u64::from(drawn.did) << 8;
    let low = if drawn.through { 1 | 2 << 2 } else { low };
    let flags = if drawn.through { 0b10 } else { 0b110 };
    flipped([low | drawn.flags & flags, high], &drawn.flips)
}

/// FPD and SSADE, DID, PWSNP and PGSNP, SRE, WPE and EAFE of a PASID entry.
fn pasid_words(drawn: &Drawn, machine: &Machine) -> [u64; 8] {
    let mut words: [u64; 8] = machine.place.read(&machine.memory);
    if drawn.through {
        words[0] = words[0] & 0x1c | 4 << 6 | 1;
        words[2] = 0;
    }
    words[0] |= drawn.flags & 0b10;
    words[1] = u64::from(drawn.did) | drawn.flags & 3 << 23;
    match (drawn.through, drawn.first_stage) {
        (true, _) => {}
        (false, true) => words[2] |= drawn.flags & 0b1001_0001,
        (false, false) => words[0] |= drawn.flags & 1 << 9,
    }
    flipped(words, &drawn.flips)
}

/// What core says of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Verdict {
    FirstStage,
    SecondStage,
    PassThrough,
    Absent,
    Refused,
}

/// What core takes for an entry, hardware takes for one, and sends the request where it says; what core
/// takes for none, too.
fn agree(verdict: Verdict, absent: Fault, result: Result<u64, Fault>, undamaged: bool) {
    match verdict {
        Verdict::Absent => assert_eq!(result, Err(absent)),
        Verdict::Refused => assert!(!undamaged),
        Verdict::PassThrough => assert_eq!(result, Ok(IOVA)),
        Verdict::FirstStage | Verdict::SecondStage => {
            assert!(!result.err().is_some_and(is_about_the_entry), "{result:?}");
            assert!(!undamaged || result == Ok(PAGE), "{result:?}");
        }
    }
}

fn legacy_agrees(drawn: &Drawn) -> Verdict {
    let machine = machine(Mode::Legacy, second(drawn.levels));
    let words = legacy_words(drawn, &machine);
    machine.place.write(&machine.memory, &words);
    let verdict = match ContextEntry::decode(words, width()) {
        Ok(Some(entry)) => match entry.target {
            ContextTarget::SecondStage { .. } => Verdict::SecondStage,
            ContextTarget::PassThrough { .. } => Verdict::PassThrough,
        },
        Ok(None) => Verdict::Absent,
        Err(_) => Verdict::Refused,
    };
    let result = machine.dma(DEVICE, IOVA, Access::Read);
    let undamaged = drawn.flips.is_empty();
    agree(verdict, Fault::ContextNotPresent, result, undamaged);
    verdict
}

fn scalable_agrees(drawn: &Drawn) -> Verdict {
    let format = if drawn.first_stage {
        Format::x86_64(drawn.levels.max(4)).expect("4 or 5")
    } else {
        second(drawn.levels)
    };
    let machine = machine(Mode::Scalable, format);
    let words = pasid_words(drawn, &machine);
    machine.place.write(&machine.memory, &words);
    let verdict = match PasidEntry::decode(words, width()) {
        Ok(Some(entry)) => match entry.target {
            PasidTarget::FirstStage { .. } => Verdict::FirstStage,
            PasidTarget::SecondStage { .. } => Verdict::SecondStage,
            PasidTarget::PassThrough { .. } => Verdict::PassThrough,
        },
        Ok(None) => Verdict::Absent,
        Err(_) => Verdict::Refused,
    };
    let result = machine.dma(DEVICE, IOVA, Access::Read);
    let undamaged = drawn.flips.is_empty();
    agree(verdict, Fault::PasidNotPresent, result, undamaged);
    verdict
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn core_and_hardware_agree_on_entries(drawn in drawn()) {
        legacy_agrees(&drawn);
        scalable_agrees(&drawn);
    }
}

/// The property above does reach each of its cases.
#[test]
fn every_kind_of_entry_is_drawn() {
    let mut runner = TestRunner::deterministic();
    let mut counts = HashMap::new();
    for _ in 0..1000 {
        let drawn = drawn().new_tree(&mut runner).expect("a value").current();
        *counts
            .entry((Mode::Legacy, legacy_agrees(&drawn)))
            .or_insert(0) += 1;
        *counts
            .entry((Mode::Scalable, scalable_agrees(&drawn)))
            .or_insert(0) += 1;
    }
    for (mode, verdict) in [
        (Mode::Legacy, Verdict::SecondStage),
        (Mode::Legacy, Verdict::PassThrough),
        (Mode::Legacy, Verdict::Absent),
        (Mode::Legacy, Verdict::Refused),
        (Mode::Scalable, Verdict::FirstStage),
        (Mode::Scalable, Verdict::SecondStage),
        (Mode::Scalable, Verdict::PassThrough),
        (Mode::Scalable, Verdict::Absent),
        (Mode::Scalable, Verdict::Refused),
    ] {
        let count = counts.get(&(mode, verdict)).copied().unwrap_or(0);
        assert!(count >= 5, "{mode:?} {verdict:?}: {count}");
    }
}
