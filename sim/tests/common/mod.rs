// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A swap on the pretend machine: what is mapped, what the devices do meanwhile, what is checked.

use hitless_core::iommu::address::DomainId;
use hitless_core::iommu::bdf::Bdf;
use hitless_core::iommu::change::{IdUse, SwapFacts};
use hitless_core::iommu::flaw::Flaw;
use hitless_core::iommu::plan::{Plan, Step};
use hitless_core::iommu::pt::format::Format;
use hitless_core::iommu::vtd::mode::Mode;
use hitless_core::iommu::vtd::swap::{
    decide, plan_context, plan_pasid, Capabilities, Decision, NewId, Swap, Words,
};
use hitless_sim::build::{entry, DEVICE_TLB};
use hitless_sim::memory::width;
use hitless_sim::unit::Caches;
use hitless_sim::{Access, Dma, Execution, Fault, PageTable, PhysicalMemory, Place, Tables, Unit};
use proptest::prelude::*;

/// The device whose entry is swapped, one that goes on beside it, and one that comes later.
pub(crate) const DEVICE: Bdf = Bdf(0x0310);
pub(crate) const NEIGHBOUR: Bdf = Bdf(0x0311);
pub(crate) const LATECOMER: Bdf = Bdf(0x0412);

const OLD: u64 = 0x0100_0000_0000;
const NEW: u64 = 0x0200_0000_0000;
const BESIDE: u64 = 0x0300_0000_0000;
const LATER: u64 = 0x0400_0000_0000;

/// One gibibyte of addresses, mapped with pages of these sizes.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    pub(crate) slot: u64,
    pub(crate) old_bits: u32,
    pub(crate) new_bits: u32,
    pub(crate) writable: bool,
}

/// Pages within a region that the devices use.
const PAGES: [u64; 4] = [0, 1, 511, 512];

/// What the devices do between two steps: DMA to the probe with this number, after the caches with
/// a bit in `evict` have lost everything.
#[derive(Clone, Debug)]
pub(crate) struct Activity {
    pub(crate) probe: usize,
    pub(crate) write: bool,
    pub(crate) evict: u8,
}

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) mode: Mode,
    pub(crate) old: Format,
    pub(crate) new: Format,
    pub(crate) same_did: bool,
    pub(crate) device_tlb: bool,
    pub(crate) high: bool,
    pub(crate) regions: Vec<Region>,
    /// One list per gap between steps, the first before the first step.
    pub(crate) gaps: Vec<Vec<Activity>>,
}

/// Bits of entries, as word and bit: FPD and TT 1 of a legacy context entry; the domain id and the levels
/// are the scenario's.
const LEGACY_HARMLESS: &[(usize, u32)] = &[(0, 1), (0, 2)];
/// FPD, PWSNP, PGSNP, SRE, WPE, EAFE.
const FIRST_STAGE_HARMLESS: &[(usize, u32)] = &[(0, 1), (1, 23), (1, 24), (2, 0), (2, 4), (2, 7)];
/// FPD, SSADE, PWSNP, PGSNP.
const SECOND_STAGE_HARMLESS: &[(usize, u32)] = &[(0, 1), (0, 9), (1, 23), (1, 24)];
/// All of these, AW, PGTT, FSPM, and some of the domain id.
const PASID_MEANINGFUL: &[(usize, u32)] = &[
    (0, 0),
    (0, 1),
    (0, 2),
    (0, 3),
    (0, 4),
    (0, 6),
    (0, 7),
    (0, 8),
    (0, 9),
    (1, 0),
    (1, 1),
    (1, 15),
    (1, 23),
    (1, 24),
    (2, 0),
    (2, 2),
    (2, 3),
    (2, 4),
    (2, 7),
];

/// Of second stage the planner takes the levels as they are: that the tables have as many the caller answers for.
const SECOND_STAGE_MEANINGFUL: &[(usize, u32)] = &[
    (0, 0),
    (0, 1),
    (0, 6),
    (0, 7),
    (0, 8),
    (0, 9),
    (1, 0),
    (1, 1),
    (1, 15),
    (1, 23),
    (1, 24),
    (2, 0),
    (2, 4),
];

/// Which bits of the entries are other than the builder makes them.
#[derive(Clone, Debug)]
pub(crate) struct Alteration {
    pub(crate) both: Vec<prop::sample::Index>,
    pub(crate) new: Vec<prop::sample::Index>,
}

pub(crate) fn alterations() -> impl Strategy<Value = Alteration> {
    let both = prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    let new = prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    (both, new).prop_map(|(both, new)| Alteration { both, new })
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A DMA of a device to a mapped address faulted.
    Fault(Bdf, u64, Fault),
    /// A DMA went where neither the old nor the new tables send it, or only one of them may.
    Astray(Bdf, u64, u64),
    /// At the end the entry is not the new one.
    Unfinished,
}

pub(crate) fn capabilities(scenario: &Scenario) -> Capabilities {
    Capabilities {
        compare_exchange_128: true,
        device_tlb: scenario.device_tlb,
    }
}

fn regions() -> impl Strategy<Value = Vec<Region>> {
    let bits = prop_oneof![3 => Just(12u32), 2 => Just(21), 1 => Just(30)];
    let region = (0u64..256, bits.clone(), bits, any::<bool>()).prop_map(
        |(slot, old_bits, new_bits, writable)| Region {
            slot,
            old_bits,
            new_bits,
            writable,
        },
    );
    prop::collection::vec(region, 1..5).prop_map(|mut regions| {
        regions.sort_by_key(|region| region.slot);
        regions.dedup_by_key(|region| region.slot);
        regions
    })
}

fn gaps() -> impl Strategy<Value = Vec<Vec<Activity>>> {
    let activity = (0usize..16, any::<bool>(), prop_oneof![Just(0u8), 0u8..32]).prop_map(
        |(probe, write, evict)| Activity {
            probe,
            write,
            evict,
        },
    );
    prop::collection::vec(prop::collection::vec(activity, 0..6), 8)
}

fn legacy_formats() -> impl Strategy<Value = (Mode, Format, Format)> {
    (3u32..=5, 3u32..=5).prop_map(|(old, new)| {
        let format = |levels| Format::vtdss(levels).expect("3 to 5");
        (Mode::Legacy, format(old), format(new))
    })
}

fn scalable_formats() -> impl Strategy<Value = (Mode, Format, Format)> {
    let second = (3u32..=5, 3u32..=5).prop_map(|(old, new)| {
        let format = |levels| Format::vtdss(levels).expect("3 to 5");
        (Mode::Scalable, format(old), format(new))
    });
    let first = (4u32..=5).prop_map(|levels| {
        let format = Format::x86_64(levels).expect("4 or 5");
        (Mode::Scalable, format, format)
    });
    prop_oneof![second, first]
}

pub(crate) fn scalable_scenarios() -> impl Strategy<Value = Scenario> {
    scenarios_of(scalable_formats())
}

pub(crate) fn scenarios() -> impl Strategy<Value = Scenario> {
    scenarios_of(prop_oneof![legacy_formats(), scalable_formats()])
}

fn scenarios_of(
    formats: impl Strategy<Value = (Mode, Format, Format)>,
) -> impl Strategy<Value = Scenario> {
    (
        formats,
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        regions(),
        gaps(),
    )
        .prop_map(
            |((mode, old, new), same_did, device_tlb, high, regions, gaps)| Scenario {
                mode,
                old,
                new,
                // First stage can only be swapped with the domain id handed over.
                same_did: same_did || matches!(old, Format::X86_64(_)),
                device_tlb,
                high: high && old.levels() > 3 && new.levels() > 3,
                regions,
                gaps,
            },
        )
}

/// The scenario with devices that use every page between any two steps, where the caches in `evict`
/// lose everything at the start of each gap and the others keep all.
pub(crate) fn busy(scenario: &Scenario, evict: u8) -> Scenario {
    let probes = scenario.regions.len() * PAGES.len();
    let all: Vec<_> = (0..probes)
        .map(|probe| Activity {
            probe,
            write: false,
            evict: if probe == 0 { evict } else { 0 },
        })
        .collect();
    Scenario {
        gaps: vec![all; 8],
        ..scenario.clone()
    }
}

/// Whether a machine that hardware like this may be notices something wrong with the steps that
/// `make` gives.
pub(crate) fn is_caught(scenario: &Scenario, make: impl Fn(&Stage) -> Vec<Step>) -> bool {
    (0..32).any(|evict| {
        let stage = Stage::new(busy(scenario, evict));
        let steps = make(&stage);
        stage.run(steps).is_err()
    })
}

/// A machine with the devices set up and the swap planned.
pub(crate) struct Stage {
    pub(crate) scenario: Scenario,
    pub(crate) memory: PhysicalMemory,
    pub(crate) unit: Unit,
    pub(crate) place: Place,
    pub(crate) new_words: Vec<u64>,
    old_words: Vec<u64>,
    old_table: PageTable,
    tables: Tables,
    neighbour: Place,
}

const OLD_DID: DomainId = DomainId(5);
const NEW_DID: DomainId = DomainId(7);
const NEIGHBOUR_DID: DomainId = DomainId(6);

impl Stage {
    pub(crate) fn new(scenario: Scenario) -> Self {
        let memory = PhysicalMemory::new();
        let tables = Tables::new(&memory, scenario.mode);
        let place = tables.place(&memory, DEVICE);
        let old_table = page_table(&memory, &scenario, scenario.old, OLD, |r| r.old_bits);
        let new_table = page_table(&memory, &scenario, scenario.new, NEW, |r| r.new_bits);
        let beside = page_table(&memory, &scenario, scenario.old, BESIDE, |r| r.old_bits);
        let new_did = if scenario.same_did { OLD_DID } else { NEW_DID };
        let mut old_words = entry(scenario.mode, &old_table, OLD_DID);
        let mut new_words = entry(scenario.mode, &new_table, new_did);
        if scenario.device_tlb && scenario.mode == Mode::Legacy {
            old_words[0] |= DEVICE_TLB;
            new_words[0] |= DEVICE_TLB;
        }
        place.write(&memory, &old_words);
        let neighbour = entry(scenario.mode, &beside, NEIGHBOUR_DID);
        let neighbour_place = tables.place(&memory, NEIGHBOUR);
        neighbour_place.write(&memory, &neighbour);
        if scenario.device_tlb {
            tables.allow_device_tlb(&memory, DEVICE);
            tables.allow_device_tlb(&memory, NEIGHBOUR);
        }
        let caches = if scenario.device_tlb {
            Caches::ALL
        } else {
            Caches::UNIT
        };
        let unit = Unit::new(scenario.mode, tables.root, caches);
        Self {
            scenario,
            memory,
            unit,
            place,
            new_words,
            old_words,
            old_table,
            tables,
            neighbour: neighbour_place,
        }
    }

    /// Flips bits of the new entry, and of the old one where that goes on translating.
    pub(crate) fn alter(&mut self, alteration: &Alteration) {
        let flip = |words: &mut Vec<u64>, (word, bit): (usize, u32)| words[word] ^= 1 << bit;
        let (harmless, meaningful) = match (self.scenario.mode, self.scenario.old) {
            (Mode::Legacy, _) => (LEGACY_HARMLESS, LEGACY_HARMLESS),
            (Mode::Scalable, Format::X86_64(_)) => (FIRST_STAGE_HARMLESS, PASID_MEANINGFUL),
            (Mode::Scalable, Format::Vtdss(_)) => (SECOND_STAGE_HARMLESS, SECOND_STAGE_MEANINGFUL),
        };
        for index in &alteration.both {
            let bit = *index.get(harmless);
            flip(&mut self.old_words, bit);
            flip(&mut self.new_words, bit);
        }
        for index in &alteration.new {
            flip(&mut self.new_words, *index.get(meaningful));
        }
        if self.scenario.mode == Mode::Scalable {
            // The neighbour's id is not given to another domain; the old one may be kept.
            let id = |words: &[u64]| DomainId((words[1] & 0xffff) as u16);
            if id(&self.new_words) == NEIGHBOUR_DID {
                self.new_words[1] ^= u64::from(NEIGHBOUR_DID.0 ^ NEW_DID.0);
            }
            self.scenario.same_did = id(&self.new_words) == OLD_DID;
        }
        self.place.write(&self.memory, &self.old_words);
    }

    pub(crate) fn plan(&self) -> Result<Plan, Flaw> {
        let capabilities = capabilities(&self.scenario);
        match self.scenario.mode {
            Mode::Legacy => {
                let new = self.new_words.clone().try_into().expect("2 words");
                plan_context(self.place.read(&self.memory), new, capabilities, width())
            }
            Mode::Scalable => {
                let new = self.new_words.clone().try_into().expect("8 words");
                plan_pasid(self.place.read(&self.memory), new, 0, capabilities, width())
            }
        }
    }

    /// Carries the steps out with the scenario's activity in between, checking everything after each.
    pub(crate) fn run(mut self, steps: Vec<Step>) -> Result<(), Violation> {
        let last = steps.iter().position(|step| *step == Step::Release);
        let last = last.expect("plans end with a release");
        let mut execution = Execution::new(steps, self.place, DEVICE);
        let gaps = self.scenario.gaps.clone();
        self.gap(&gaps[0], &[OLD])?;
        let mut number = 0;
        while let Some(step) = execution.step(&self.memory, &mut self.unit) {
            if step == Step::Release {
                self.release();
            }
            let allowed: &[u64] = if number + 1 < last {
                &[OLD, NEW]
            } else {
                &[NEW]
            };
            number += 1;
            self.gap(&gaps[number.min(gaps.len() - 1)], allowed)?;
        }
        let new = self.new_words.iter().enumerate();
        let word = |offset| self.memory.get(self.place.page, self.place.word + offset);
        if new
            .into_iter()
            .any(|(offset, new)| word(offset) != Some(*new))
        {
            return Err(Violation::Unfinished);
        }
        for iova in self.probes() {
            if !self.scenario.same_did {
                self.expect(LATECOMER, iova, Access::Read, &[LATER])?;
            }
        }
        Ok(())
    }

    /// Everything that the swap of a device depends on, with the id that `decide` has to choose left open.
    pub(crate) fn facts(&self, place: Place, id_use: IdUse) -> Swap {
        let new = self.new_words.clone();
        let words = match self.scenario.mode {
            Mode::Legacy => Words::Context {
                old: place.read(&self.memory),
                new: new.try_into().expect("2 words"),
            },
            Mode::Scalable => Words::Pasid {
                old: place.read(&self.memory),
                new: new.try_into().expect("8 words"),
            },
        };
        Swap {
            facts: SwapFacts(SwapFacts::RESTORED),
            old_id: OLD_DID,
            new_id: NEW_DID,
            id_use,
            capabilities: capabilities(&self.scenario),
            words,
        }
    }

    /// Two devices on one HWPT are swapped one after the other, each as it is decided with the other in mind;
    /// the ids and the old tables are given up by the last. `None`: it is refused.
    pub(crate) fn run_decided(mut self) -> Result<Option<[NewId; 2]>, Violation> {
        let places = [(DEVICE, self.place), (NEIGHBOUR, self.neighbour)];
        places[1].1.write(&self.memory, &self.old_words);
        self.gap_shared(&[OLD])?;
        let mut ids = [NewId::Own; 2];
        for (number, (bdf, place)) in places.into_iter().enumerate() {
            let id_use = IdUse {
                users: 2 - number as u32,
                has_own: number == 1,
            };
            let Ok(Decision::InPlace { plan, id }) = decide(&self.facts(place, id_use)) else {
                return Ok(None);
            };
            ids[number] = id;
            let mut execution = Execution::new(plan.steps(), place, bdf);
            while let Some(step) = execution.step(&self.memory, &mut self.unit) {
                let last = step == Step::Release && number == 1;
                if last {
                    self.old_table.free(&self.memory);
                }
                // The one that has been swapped never sees the old tables again.
                let is_done = |other: Bdf| {
                    other == bdf && step == Step::Release || other == DEVICE && number == 1
                };
                let evict = self.scenario.gaps[0].first().map_or(0, |first| first.evict);
                self.unit.evict(mask(evict));
                for iova in self.probes() {
                    for other in [NEIGHBOUR, DEVICE] {
                        let untouched = other == NEIGHBOUR && number == 0;
                        let allowed: &[u64] = match (is_done(other), untouched) {
                            (true, _) => &[NEW],
                            (false, true) => &[OLD],
                            (false, false) => &[OLD, NEW],
                        };
                        self.expect(other, iova, Access::Read, allowed)?;
                    }
                }
            }
        }
        Ok(Some(ids))
    }

    /// Two devices on one domain are swapped one after the other, the same way. What they share is
    /// given away after the last of them, or already after the first.
    pub(crate) fn run_shared(mut self, early: bool) -> Result<(), Violation> {
        let places = [(DEVICE, self.place), (NEIGHBOUR, self.neighbour)];
        places[1].1.write(&self.memory, &self.old_words);
        let steps = self.plan().expect("can be planned");
        self.gap_shared(&[OLD])?;
        for (bdf, place) in places {
            let mut execution = Execution::new(steps.steps(), place, bdf);
            while let Some(step) = execution.step(&self.memory, &mut self.unit) {
                if step == Step::Release && (early || bdf == NEIGHBOUR) {
                    self.old_table.free(&self.memory);
                }
                let last = step == Step::Release && bdf == NEIGHBOUR;
                self.gap_shared(if last { &[NEW] } else { &[OLD, NEW] })?;
            }
        }
        Ok(())
    }

    /// DMA of both devices everywhere, after an eviction.
    fn gap_shared(&mut self, allowed: &[u64]) -> Result<(), Violation> {
        let evict = self.scenario.gaps[0].first().map_or(0, |first| first.evict);
        self.unit.evict(mask(evict));
        // A device may forget what its neighbour remembers.
        if evict & 32 != 0 {
            self.unit.invalidate_device_tlb(NEIGHBOUR);
        }
        for iova in self.probes() {
            for bdf in [NEIGHBOUR, DEVICE] {
                self.expect(bdf, iova, Access::Read, allowed)?;
            }
        }
        Ok(())
    }

    /// The old tables and, if it is free, the old domain id go to somebody else.
    fn release(&mut self) {
        self.old_table.free(&self.memory);
        if self.scenario.same_did {
            return;
        }
        let scenario = &self.scenario;
        let table = page_table(&self.memory, scenario, scenario.old, LATER, |r| r.old_bits);
        let words = entry(scenario.mode, &table, OLD_DID);
        self.tables
            .place(&self.memory, LATECOMER)
            .write(&self.memory, &words);
    }

    fn gap(&mut self, activity: &[Activity], allowed: &[u64]) -> Result<(), Violation> {
        // First look without touching: with the caches as they are, and with each kind emptied.
        for evict in [0, 31, 1, 3, 7, 15, 16, 8, 12] {
            let before = self.unit.clone();
            self.unit.evict(mask(evict));
            for iova in self.probes() {
                self.expect(DEVICE, iova, Access::Read, allowed)?;
                self.expect(NEIGHBOUR, iova, Access::Read, &[BESIDE])?;
            }
            self.unit = before;
        }
        let probes = self.probes();
        for activity in activity {
            self.unit.evict(mask(activity.evict));
            let number = activity.probe % probes.len();
            let writable = self.scenario.regions[number / PAGES.len()].writable;
            let access = if activity.write && writable {
                Access::Write
            } else {
                Access::Read
            };
            self.expect(DEVICE, probes[number], access, allowed)?;
        }
        Ok(())
    }

    fn expect(
        &mut self,
        bdf: Bdf,
        iova: u64,
        access: Access,
        allowed: &[u64],
    ) -> Result<(), Violation> {
        let dma = Dma { bdf, iova, access };
        let offset = iova & !high(self.scenario.high);
        match self.unit.dma(&self.memory, dma) {
            Ok(physical) if allowed.iter().any(|base| base + offset == physical) => Ok(()),
            Ok(physical) => Err(Violation::Astray(bdf, iova, physical)),
            Err(fault) => Err(Violation::Fault(bdf, iova, fault)),
        }
    }

    fn probes(&self) -> Vec<u64> {
        let regions = self.scenario.regions.iter();
        let high = high(self.scenario.high);
        regions
            .flat_map(|region| PAGES.map(|page| high | region.slot << 30 | page << 12 | 0x123))
            .collect()
    }
}

fn high(high: bool) -> u64 {
    u64::from(high) << 46
}

fn mask(bits: u8) -> Caches {
    Caches {
        context: bits & 1 != 0,
        pasid: bits & 2 != 0,
        paging_structure: bits & 4 != 0,
        iotlb: bits & 8 != 0,
        device_tlb: bits & 16 != 0,
    }
}

fn page_table(
    memory: &PhysicalMemory,
    scenario: &Scenario,
    format: Format,
    base: u64,
    bits: impl Fn(&Region) -> u32,
) -> PageTable {
    let mut table = PageTable::new(memory, format);
    for region in &scenario.regions {
        let bits = bits(region);
        let mut pages = PAGES.map(|page| page << 12 >> bits << bits).to_vec();
        pages.dedup();
        for page in pages {
            let offset = region.slot << 30 | page;
            let iova = high(scenario.high) | offset;
            table.map(memory, iova, base + offset, bits, region.writable);
        }
    }
    table
}
