// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Adopted tables are accepted as recorded, and every single bit of them that matters is noticed
//! when it is flipped.

use hitless_core::iommu::address::DomainId;
use hitless_core::iommu::bdf::Bdf;
use hitless_core::iommu::flaw::{Entry, Field, Flaw};
use hitless_core::iommu::pt::format::Format;
use hitless_core::iommu::vtd::pasid::DirectorySize;

use hitless_core::iommu::vtd::check::{
    check_device, check_nothing_else, AdoptedDevice, AdoptedPasid,
};
use hitless_core::iommu::vtd::devfn::DevfnSet;
use hitless_core::iommu::vtd::mode::{Mode, UnitTables};
use hitless_core::iommu::vtd::scrub::{scrub, OnBus};
use hitless_sim::build::{entry, DIRECTORY};
use hitless_sim::memory::table;
use hitless_sim::{PageTable, PhysicalMemory, Place, Tables};
use proptest::prelude::*;

struct Machine {
    memory: PhysicalMemory,
    tables: Tables,
    devices: Vec<AdoptedDevice>,
    /// The entry that names the page table, for each device.
    places: Vec<Place>,
}

fn machine(format: Format, mode: Mode, bdfs: &[Bdf]) -> Machine {
    let memory = PhysicalMemory::new();
    let tables = Tables::new(&memory, mode);
    let mut devices = Vec::new();
    let mut places = Vec::new();
    for (number, bdf) in bdfs.iter().enumerate() {
        let page_table = PageTable::new(&memory, format);
        let did = DomainId(5 + u16::try_from(number).expect("few devices"));
        let place = tables.place(&memory, *bdf);
        place.write(&memory, &entry(mode, &page_table, did));
        let device_tlb = number % 2 == 1;
        if device_tlb {
            tables.allow_device_tlb(&memory, *bdf);
        }
        let context = tables.context(&memory, *bdf);
        let directory = memory.get(context.page, context.word).expect("table") & !0xfff;
        devices.push(AdoptedDevice {
            bdf: *bdf,
            context_table: table(context.page),
            domain_id: did,
            page_table: table(page_table.root),
            format,
            device_tlb,
            scalable: (mode == Mode::Scalable).then(|| AdoptedPasid {
                directory: table(directory),
                size: DIRECTORY,
                table: table(place.page),
                page_walk_snoop: true,
                page_snoop: false,
            }),
        });
        places.push(place);
    }
    Machine {
        memory,
        tables,
        devices,
        places,
    }
}

/// Do the tables hold what is recorded of the devices, and nothing else?
fn check_all(
    memory: &PhysicalMemory,
    tables: UnitTables,
    devices: &[AdoptedDevice],
) -> Result<(), Flaw> {
    for device in devices {
        check_device(memory, tables, device)?;
    }
    (0..=u8::MAX).try_for_each(|bus| {
        let recorded = DevfnSet::on_bus(bus, devices.iter().map(|device| device.bdf));
        check_nothing_else(memory, tables, bus, &recorded)
    })
}

impl Machine {
    fn check(&self) -> Result<(), Flaw> {
        check_all(&self.memory, self.tables.unit(), &self.devices)
    }
}

fn formats() -> Vec<(Mode, Format)> {
    let second = |levels| Format::vtdss(levels).expect("3 to 5");
    let first = |levels| Format::x86_64(levels).expect("4 or 5");
    vec![
        (Mode::Legacy, second(3)),
        (Mode::Legacy, second(4)),
        (Mode::Legacy, second(5)),
        (Mode::Scalable, second(3)),
        (Mode::Scalable, second(4)),
        (Mode::Scalable, second(5)),
        (Mode::Scalable, first(4)),
        (Mode::Scalable, first(5)),
    ]
}

const BDFS: [Bdf; 3] = [Bdf::new(3, 0x10), Bdf::new(3, 0x91), Bdf::new(0, 0xff)];

#[test]
fn accepts_what_is_recorded() {
    for (mode, format) in formats() {
        assert_eq!(machine(format, mode, &BDFS).check(), Ok(()));
        assert_eq!(machine(format, mode, &[]).check(), Ok(()));
    }
}

/// Bits that mean nothing to the translation of a recorded device: PASIDE of the context entry, and
/// AW where the translation is first-stage.
fn is_free(machine: &Machine, page: u64, index: usize, bit: u32) -> bool {
    if machine.tables.mode == Mode::Legacy {
        return false;
    }
    let devices = machine.devices.iter();
    let paside = devices.clone().any(|device| {
        let place = machine.tables.context(&machine.memory, device.bdf);
        (place.page, place.word) == (page, index) && bit == 3
    });
    let first = matches!(machine.devices[0].format, Format::X86_64(_));
    let entry = machine
        .places
        .iter()
        .any(|p| (p.page, p.word) == (page, index));
    paside || first && entry && (2..5).contains(&bit)
}

/// Every bit of every word that is in use: the root table's, the context tables', the directories'
/// and the PASID tables' entries of recorded devices.
#[test]
fn notices_every_single_bit() {
    for (mode, format) in formats() {
        let machine = machine(format, mode, &BDFS);
        let mut words: Vec<_> = machine
            .memory
            .words()
            .into_iter()
            .map(|(page, index, _)| (page, index))
            .collect();
        // The words of an entry that are zero count as well.
        let entry_words = match mode {
            Mode::Legacy => 2,
            Mode::Scalable => 8,
        };
        for place in &machine.places {
            words.extend((0..entry_words).map(|word| (place.page, place.word + word)));
        }
        for device in &machine.devices {
            let context = machine.tables.context(&machine.memory, device.bdf);
            let count = if mode == Mode::Legacy { 2 } else { 4 };
            words.extend((0..count).map(|word| (context.page, context.word + word)));
        }
        words.sort_unstable();
        words.dedup();
        for (page, index) in words {
            for bit in 0..64 {
                if is_free(&machine, page, index, bit) {
                    continue;
                }
                machine.memory.flip(page, index, bit);
                let verdict = machine.check();
                machine.memory.flip(page, index, bit);
                assert!(
                    verdict.is_err(),
                    "{mode:?} {format:?} {page:#x}[{index}] bit {bit}"
                );
            }
        }
        assert_eq!(machine.check(), Ok(()));
    }
}

#[test]
fn notices_whatever_else_is_present() {
    for (mode, format) in formats() {
        let good = machine(format, mode, &BDFS);
        let extra = |bdf: Bdf| {
            let mut machine = machine(format, mode, &[BDFS[0], BDFS[1], BDFS[2], bdf]);
            machine.devices.pop();
            machine.check()
        };
        // Beside recorded devices, in each half of the bus.
        for devfn in [0x11, 0x7f, 0x80, 0x92, 0xff] {
            let bdf = Bdf::new(3, devfn);
            assert_eq!(extra(bdf), Err(Flaw::Unexpected(Entry::Context, bdf)));
        }
        // In a half, or on a bus, without any recorded device.
        let refusal = match mode {
            Mode::Legacy => Flaw::Unexpected(Entry::Context, Bdf::new(0, 5)),
            Mode::Scalable => Flaw::Unexpected(Entry::Root, Bdf::new(0, 0)),
        };
        assert_eq!(extra(Bdf::new(0, 5)), Err(refusal));
        for devfn in [0, 0x85] {
            let first = if mode == Mode::Legacy {
                0
            } else {
                devfn & 0x80
            };
            let refusal = Flaw::Unexpected(Entry::Root, Bdf::new(9, first));
            assert_eq!(extra(Bdf::new(9, devfn)), Err(refusal));
        }
        // A context table that nobody needs, though nothing is present in it.
        let empty = machine(format, mode, &BDFS);
        empty.tables.context(&empty.memory, Bdf::new(9, 0x85));
        assert!(matches!(
            empty.check(),
            Err(Flaw::Unexpected(Entry::Root, _))
        ));
        let Some(pasid) = good.devices[0].scalable else {
            continue;
        };
        let bdf = good.devices[0].bdf;
        for other in 1..64 {
            good.memory.flip(pasid.table.get(), other * 8, 0);
            assert_eq!(good.check(), Err(Flaw::Unexpected(Entry::Pasid, bdf)));
            good.memory.flip(pasid.table.get(), other * 8, 0);
        }
        for other in [1, 127, 511] {
            good.memory.flip(pasid.directory.get(), other, 0);
            let refusal = Flaw::Unexpected(Entry::PasidDirectory, bdf);
            assert_eq!(good.check(), Err(refusal));
            good.memory.flip(pasid.directory.get(), other, 0);
        }
    }
}

#[test]
fn names_what_differs() {
    for (mode, format) in formats() {
        let good = machine(format, mode, &BDFS);
        let bdf = good.devices[1].bdf;
        let verdict = |change: &dyn Fn(&mut AdoptedDevice)| {
            let mut device = good.devices[1];
            change(&mut device);
            check_device(&good.memory, good.tables.unit(), &device)
        };
        let mismatch = |field| Err(Flaw::Mismatch(field, bdf));
        let elsewhere = table(0xabc_d000);
        assert_eq!(verdict(&|_| {}), Ok(()));
        assert_eq!(verdict(&|d| d.domain_id.0 = 99), mismatch(Field::DomainId));
        assert_eq!(
            verdict(&|d| d.page_table = elsewhere),
            mismatch(Field::TablePointer)
        );
        assert_eq!(
            verdict(&|d| d.context_table = elsewhere),
            mismatch(Field::TablePointer)
        );
        assert_eq!(
            verdict(&|d| d.device_tlb ^= true),
            mismatch(Field::TranslationType)
        );
        for (_, other) in formats() {
            if other != format {
                assert!(verdict(&|d| d.format = other).is_err());
            }
        }
        let gone = Bdf::new(3, 0x92);
        let missing = Err(Flaw::Missing(Entry::Context, gone));
        assert_eq!(verdict(&|d| d.bdf = gone), missing);
        let gone = Bdf::new(8, 0x92);
        let missing = Err(Flaw::Missing(Entry::Root, gone));
        assert_eq!(verdict(&|d| d.bdf = gone), missing);
    }
}

#[test]
fn refuses_records_of_the_other_mode() {
    for (mode, format) in formats() {
        let mut machine = machine(format, mode, &BDFS);
        machine.tables.mode = match mode {
            Mode::Legacy => Mode::Scalable,
            Mode::Scalable => Mode::Legacy,
        };
        assert!(matches!(machine.check(), Err(Flaw::WrongMode(_))));
    }
}

/// The way of the jump: what the scrub leaves is what the check accepts, and not before.
#[test]
fn accepts_what_a_scrub_leaves() {
    for (mode, format) in formats() {
        let others = [
            Bdf::new(3, 0x11),
            Bdf::new(3, 0x7f),
            Bdf::new(9, 0),
            Bdf::new(0, 0),
        ];
        let bdfs: Vec<_> = BDFS.into_iter().chain(others).collect();
        let mut machine = machine(format, mode, &bdfs);
        machine.devices.truncate(BDFS.len());
        assert!(matches!(machine.check(), Err(Flaw::Unexpected(..))));

        let devices = &machine.devices;
        let entries = devices
            .iter()
            .map(|device| (device.bdf, device.context_table));
        let preserved = |bus| OnBus::new(mode, bus, entries.clone());
        let memory = &machine.memory;
        scrub(memory, machine.tables.unit(), preserved, |clear| {
            memory.write(clear.table.get(), clear.index, 0);
            Ok(())
        })
        .expect("clearing succeeds");
        assert_eq!(machine.check(), Ok(()));
    }
}

/// Page tables are not walked: there may be anything in them.
#[test]
fn page_tables_are_not_read() {
    for (mode, format) in formats() {
        let machine = machine(format, mode, &BDFS);
        for device in &machine.devices {
            machine.memory.free(device.page_table.get());
        }
        assert_eq!(machine.check(), Ok(()));
    }
}

proptest! {
    /// Garbage tables and records come to an end without a panic.
    #[test]
    fn garbage_ends(
        words in prop::collection::vec((0u64..5, 0usize..512, word()), 0..200),
        scalable: bool,
        size in 0u8..=7,
        bdf: u16,
    ) {
        let memory = PhysicalMemory::new();
        memory.write(0, 0, 0);
        for (page, index, word) in words {
            memory.write(page << 12, index, word);
        }
        let mode = if scalable { Mode::Scalable } else { Mode::Legacy };
        let tables = Tables { mode, root: 0 };
        let size = DirectorySize::from_code(size).expect("0 to 7");
        let device = AdoptedDevice {
            bdf: Bdf(bdf),
            context_table: table(0x1000),
            domain_id: DomainId(5),
            page_table: table(0x4000),
            format: Format::vtdss(4).expect("4"),
            device_tlb: false,
            scalable: scalable.then(|| AdoptedPasid {
                directory: table(0x2000),
                size,
                table: table(0x3000),
                page_walk_snoop: true,
                page_snoop: false,
            }),
        };
        let _ = check_all(&memory, tables.unit(), &[device]);
        let _ = check_device(&memory, tables.unit(), &device);
    }
}

fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0u64..5).prop_map(|page| page << 12 | 1),
        (0u64..5, 0u64..0x1000).prop_map(|(page, flags)| page << 12 | flags),
    ]
}
