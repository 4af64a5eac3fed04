// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The whole way of a unit: described and recorded, scrubbed, adopted by the next kernel. Who is as recorded goes on,
//! and whatever is wrong with others is no matter to it.

use std::collections::BTreeSet;

use hitless_core::error::Error;
use hitless_core::iommu::address::{DomainId, TableAddress};
use hitless_core::iommu::bdf::Bdf;
use hitless_core::iommu::flaw::{Entry, Flaw};
use hitless_core::iommu::memory::Memory;
use hitless_core::iommu::pt::format::Format;
use hitless_core::iommu::pt::table::Table;
use hitless_core::iommu::vtd::adopt::{adopt, fits, Adopted, Machine};
use hitless_core::iommu::vtd::check::{check_device, AdoptedDevice};
use hitless_core::iommu::vtd::mode::Mode;
use hitless_core::iommu::vtd::record::{DeviceTables, EntryFacts, PasidTables, Registers, VTD};
use hitless_core::iommu::vtd::scrub::{kept_on_bus, scrub, Clear};
use hitless_core::record::attachment::{Domain, Unit};
use hitless_core::record::hardware::Kinds;
use hitless_core::record::iommu::Iommu;
use hitless_core::record::iommufd::{Iommufd, Mapping, MappingRights, MemoryFile};
use hitless_core::record::pci::{DeviceAddress, Devices, Identity};
use hitless_core::record::set::{Listed, Records, State, Verdict};
use hitless_core::refusal::{Family, Refusal};
use hitless_sim::build::{entry, DIRECTORY};
use hitless_sim::lent::{Handover, Lent, Shelved};
use hitless_sim::memory::table;
use hitless_sim::unit::Caches;
use hitless_sim::{Access, Dma, PageTable, PhysicalMemory, Place, Tables};
use proptest::prelude::*;

static KINDS: Kinds = &[&VTD];

const PCI: u64 = 0x1000_0000;
const IOMMU: u64 = 0x2000_0000;
const IOMMUFD: u64 = 0x3000_0000;
const BASE: u64 = 0xfed9_0000;

const IOVA: u64 = 0x5000;
const PAGE: u64 = 0x0100_0000_0000;

type Set = Records<Lent, Shelved<Listed<Lent>>>;

/// The devices, on two buses and in both halves of one; the last two share a HWPT where that is possible.
const DEVICES: [Bdf; 5] = [
    Bdf::new(3, 0x10),
    Bdf::new(3, 0x18),
    Bdf::new(3, 0x91),
    Bdf::new(7, 0xff),
    Bdf::new(7, 0x08),
];
/// Devices that nobody records: beside the others, and on a bus of its own.
const STRANGERS: [Bdf; 3] = [Bdf::new(3, 0x11), Bdf::new(7, 0x80), Bdf::new(9, 0)];

fn at(bdf: Bdf) -> DeviceAddress {
    DeviceAddress {
        segment: 0,
        bdf: bdf.0,
    }
}

struct Jump {
    mode: Mode,
    memory: PhysicalMemory,
    tables: Tables,
    places: Vec<Place>,
    devices: Vec<DeviceTables>,
    registers: Registers,
    iommu: Option<Iommu<Lent>>,
    handover: Handover,
}

fn formats() -> [(Mode, Format); 3] {
    let second = Format::vtdss(4).expect("4");
    let first = Format::x86_64(4).expect("4");
    [
        (Mode::Legacy, second),
        (Mode::Scalable, second),
        (Mode::Scalable, first),
    ]
}

impl Jump {
    /// Everything is set up and recorded.
    fn new((mode, format): (Mode, Format)) -> Self {
        let memory = PhysicalMemory::new();
        let tables = Tables::new(&memory, mode);
        let registers = Registers {
            root_table: tables.root,
            live_root: tables.root | if mode == Mode::Scalable { 0x400 } else { 0 },
            capability: 6,
            extended_capability: 0xf0_0f5a,
            mode,
        };
        let handover = Handover::default();
        let mut pci = Devices::create(Lent::at(PCI)).expect("made");
        let mut iommu = Iommu::create(Lent::at(IOMMU), KINDS).expect("made");
        let mut iommufd = Iommufd::create(Lent::at(IOMMUFD)).expect("made");
        let file = MemoryFile { data: 1, token: 2 };
        let file = iommufd.add_memory(&file).expect("added");
        let may_share = matches!(format, Format::Vtdss(_));
        let (mut places, mut devices, mut last) = (Vec::new(), Vec::new(), None);
        for (number, bdf) in (0_u16..).zip(DEVICES) {
            let share = may_share && number == 4;
            let (domain, page_table, did) = match last {
                Some(last) if share => last,
                _ => {
                    let mut page_table = PageTable::new(&memory, format);
                    page_table.map(&memory, IOVA, PAGE, 12, true);
                    let domain = iommu
                        .add_domain(&Domain {
                            table: of(&page_table),
                            tables: 4,
                            iommufd: IOMMUFD,
                            token: number.into(),
                        })
                        .expect("recorded");
                    let hwpt = iommufd.add_hwpt(number.into(), domain).expect("recorded");
                    let mapping = Mapping {
                        iova: IOVA,
                        length: 0x1000,
                        memory: file,
                        offset: 0,
                        rights: MappingRights {
                            read: true,
                            write: true,
                        },
                    };
                    iommufd.add_mapping(hwpt, &mapping).expect("recorded");
                    (domain, page_table, DomainId(5 + number))
                }
            };
            let place = tables.place(&memory, bdf);
            place.write(&memory, &entry(mode, &page_table, did));
            if number % 2 == 1 {
                tables.allow_device_tlb(&memory, bdf);
            }
            let context = tables.context(&memory, bdf);
            let [low] = context.read(&memory);
            let described = DeviceTables {
                context_table: context.page,
                pasid: (mode == Mode::Scalable).then(|| PasidTables {
                    directory: low & !0xfff,
                    table: place.page,
                    max_pasid: u32::from(DIRECTORY.entries()) * 64,
                }),
                entry: EntryFacts::default(),
            };
            let device = described.observe(&memory, bdf).expect("observed");
            let table = of(&page_table);
            let adopted = AdoptedDevice::new(bdf, &device, did, &table).expect("described");
            assert_eq!(check_device(&memory, tables.unit(), &adopted), Ok(()));
            pci.add(at(bdf), Identity::default(), [].into_iter())
                .expect("recorded");
            let translation = device.translation(did);
            iommu
                .add_attachment(&registers.unit(BASE, 0), at(bdf), domain, &translation)
                .expect("recorded");
            places.push(place);
            devices.push(device);
            last = Some((domain, page_table, did));
        }
        pci.into_lender().jump(&handover);
        iommufd.into_lender().jump(&handover);
        Self {
            mode,
            memory,
            tables,
            places,
            devices,
            registers,
            iommu: Some(iommu),
            handover,
        }
    }

    /// Others get entries too.
    fn with_strangers(self) -> Self {
        let words: [u64; 8] = match self.mode {
            Mode::Legacy => {
                let [low, high] = self.places[0].read(&self.memory);
                [low, high, 0, 0, 0, 0, 0, 0]
            }
            Mode::Scalable => self.places[0].read(&self.memory),
        };
        for bdf in STRANGERS {
            let place = self.tables.place(&self.memory, bdf);
            let count = if self.mode == Mode::Legacy { 2 } else { 8 };
            place.write(&self.memory, &words[..count]);
        }
        self
    }

    fn unit(&self) -> Unit {
        self.registers.unit(BASE, 0)
    }

    fn reaches(&self, bdf: Bdf) -> bool {
        let mut unit = hitless_sim::Unit::new(self.mode, self.tables.root, Caches::NONE);
        let dma = Dma {
            bdf,
            iova: IOVA,
            access: Access::Write,
        };
        unit.dma(&self.memory, dma) == Ok(PAGE)
    }

    /// The last thing that the outgoing kernel does to the unit.
    fn scrub(&self) {
        let iommu = self.iommu.as_ref().expect("not jumped yet");
        let kept = |bus| kept_on_bus(iommu, &self.unit(), self.mode, bus);
        let clear = |clear: Clear| {
            self.memory.write(clear.table.get(), clear.index, 0);
            Ok(())
        };
        scrub(&self.memory, self.tables.unit(), kept, clear).expect("scrubbed");
    }

    fn records(&mut self) -> Set {
        let iommu = self.iommu.take().expect("one jump");
        iommu.into_lender().jump(&self.handover);
        let mut records = Set::new(Shelved::default());
        let lend = || Lent::of(&self.handover);
        records.take_pci(lend(), PCI).expect("taken");
        records
            .take_iommu(lend(), IOMMU, KINDS, lend, |_, error| panic!("{error:?}"))
            .expect("taken");
        records
    }
}

fn of(page_table: &PageTable) -> Table {
    Table {
        top: table(page_table.root),
        format: page_table.format,
        incoherent: false,
        snoop: false,
    }
}

/// The next kernel's hands.
#[derive(Debug, Default)]
struct Hands<'a> {
    memory: Option<&'a PhysicalMemory>,
    restored: BTreeSet<u64>,
    lost: BTreeSet<u64>,
    refused: Vec<(Bdf, Refusal)>,
}

impl Memory for Hands<'_> {
    fn read(&self, table: TableAddress, index: usize) -> Result<u64, Flaw> {
        let memory = self.memory.expect("a machine");
        assert!(
            self.restored.contains(&table.get()),
            "read before it is ours"
        );
        memory.read(table, index)
    }
}

const LOST: Refusal = Refusal::NotHandedOver(Family::Iommu);

impl Machine for Hands<'_> {
    fn is_handed_over(&self, table: TableAddress) -> bool {
        !self.lost.contains(&table.get()) && !self.restored.contains(&table.get())
    }

    fn restore(&mut self, page: u64) -> Result<(), Refusal> {
        if self.lost.contains(&page) {
            return Err(LOST);
        }
        assert!(self.restored.insert(page), "each page once");
        Ok(())
    }

    fn clear(&mut self, clear: Clear) -> Result<(), Flaw> {
        assert!(self.restored.contains(&clear.table.get()), "only ours");
        let memory = self.memory.expect("a machine");
        memory.write(clear.table.get(), clear.index, 0);
        Ok(())
    }

    fn refused(&mut self, address: DeviceAddress, refusal: Refusal) {
        self.refused.push((Bdf(address.bdf), refusal));
    }
}

type Boot = (Set, Vec<(Bdf, Refusal)>, Result<Option<Adopted>, Refusal>);

/// The next kernel, to which some pages are lost.
fn boot(jump: &mut Jump, lost: &[u64]) -> Boot {
    let mut records = jump.records();
    let mut hands = Hands {
        memory: Some(&jump.memory),
        lost: lost.iter().copied().collect(),
        ..Hands::default()
    };
    let adopted = adopt(&mut records, &mut hands, &jump.unit(), true);
    (records, hands.refused, adopted)
}

fn kept(records: &Set) -> Vec<Bdf> {
    let is_kept =
        |bdf: &Bdf| matches!(records.device(at(*bdf)), Verdict::Kept(kept) if kept.adopted);
    DEVICES.into_iter().filter(is_kept).collect()
}

#[test]
fn what_is_as_recorded_goes_on() {
    for format in formats() {
        let mut jump = Jump::new(format).with_strangers();
        jump.scrub();
        assert!(DEVICES.iter().all(|bdf| jump.reaches(*bdf)));
        assert!(!STRANGERS.iter().any(|bdf| jump.reaches(*bdf)));
        let (records, refused, adopted) = boot(&mut jump, &[]);
        let adopted = adopted.expect("adopted").expect("recorded");
        assert_eq!(adopted.root_table, jump.tables.root);
        assert_eq!((adopted.devices, adopted.cleared), (5, 0));
        let shared = matches!(format.1, Format::Vtdss(_));
        let expected: Vec<_> = (5..if shared { 9 } else { 10 }).map(DomainId).collect();
        assert_eq!(adopted.domain_ids(&records).collect::<Vec<_>>(), expected);
        assert_eq!(kept(&records), DEVICES);
        assert!(refused.is_empty());
        assert!(DEVICES.iter().all(|bdf| jump.reaches(*bdf)));
    }
}

/// Without the scrub, or if something was set up after it, whoever is not recorded is stopped.
#[test]
fn what_is_not_recorded_is_cleared() {
    for format in formats() {
        let mut jump = Jump::new(format).with_strangers();
        assert!(STRANGERS.iter().all(|bdf| jump.reaches(*bdf)));
        let (records, refused, adopted) = boot(&mut jump, &[]);
        let adopted = adopted.expect("adopted").expect("recorded");
        assert!(adopted.cleared > 0);
        assert_eq!(kept(&records), DEVICES);
        assert!(refused.is_empty());
        assert!(DEVICES.iter().all(|bdf| jump.reaches(*bdf)));
        assert!(!STRANGERS.iter().any(|bdf| jump.reaches(*bdf)));
    }
}

/// One tenant's device has lost its entry, or has another one: it is stopped, and nobody else is.
#[test]
fn a_device_that_does_not_fit_costs_itself() {
    for format in formats() {
        for (number, bdf) in DEVICES.into_iter().enumerate() {
            for other_did in [false, true] {
                let mut jump = Jump::new(format);
                let place = jump.places[number];
                if other_did {
                    let word = if jump.mode == Mode::Legacy { 8 } else { 0 };
                    jump.memory.flip(place.page, place.word + 1, word);
                } else {
                    place.write(&jump.memory, &[0]);
                }
                let (records, refused, adopted) = boot(&mut jump, &[]);
                assert_eq!(adopted.expect("adopted").expect("recorded").devices, 4);
                let others = DEVICES.into_iter().filter(|other| *other != bdf);
                assert_eq!(kept(&records), others.clone().collect::<Vec<_>>());
                assert!(others.into_iter().all(|other| jump.reaches(other)));
                assert!(!jump.reaches(bdf));
                let [(blamed, refusal)] = refused[..] else {
                    panic!("{refused:?}");
                };
                assert_eq!(blamed, bdf);
                if !other_did {
                    let entry = if jump.mode == Mode::Legacy {
                        Entry::Context
                    } else {
                        Entry::Pasid
                    };
                    assert_eq!(refusal, Refusal::Table(Flaw::Missing(entry, bdf)));
                }
                assert_eq!(records.device(at(bdf)), Verdict::Refused(refusal));
                assert!(!records.is_running(at(bdf)));
            }
        }
    }
}

/// So does a page table, which stays in the handover.
#[test]
fn a_lost_page_table_costs_its_devices() {
    for format in formats() {
        let mut jump = Jump::new(format);
        let top = {
            let iommu = jump.iommu.as_ref().expect("not jumped yet");
            let attachment = iommu
                .attachment(at(DEVICES[3]))
                .expect("recorded")
                .expect("sound");
            iommu
                .domain(attachment.domain)
                .expect("sound")
                .table
                .top
                .get()
        };
        let (records, refused, adopted) = boot(&mut jump, &[top]);
        assert!(adopted.is_ok());
        let shared = matches!(format.1, Format::Vtdss(_));
        let lost: Vec<_> = refused.iter().map(|(bdf, _)| *bdf).collect();
        let mut expected = vec![DEVICES[3]];
        if shared {
            expected.insert(0, DEVICES[4]);
        }
        assert_eq!(lost, expected);
        assert!(refused.iter().all(|(_, refusal)| *refusal == LOST));
        assert_eq!(kept(&records).len() + lost.len(), DEVICES.len());
        assert!(!lost.iter().any(|bdf| jump.reaches(*bdf)));
    }
}

/// Pages that were not handed over cost those who need them.
#[test]
fn a_lost_page_costs_its_users() {
    for format in formats() {
        let jump = Jump::new(format);
        let pages: BTreeSet<_> = jump
            .devices
            .iter()
            .flat_map(|device| {
                let pasid = device.pasid.iter();
                let pasid = pasid.flat_map(|pasid| [pasid.directory, pasid.table]);
                [device.context_table].into_iter().chain(pasid)
            })
            .collect();
        for page in pages {
            let mut jump = Jump::new(format);
            let uses = |device: &DeviceTables| {
                let pasid = device.pasid;
                device.context_table == page
                    || pasid.is_some_and(|pasid| [pasid.directory, pasid.table].contains(&page))
            };
            let devices = DEVICES.into_iter().zip(&jump.devices);
            let rest: Vec<_> = devices
                .filter(|(_, device)| !uses(device))
                .map(|(bdf, _)| bdf)
                .collect();
            let (records, refused, adopted) = boot(&mut jump, &[page]);
            assert!(adopted.is_ok());
            assert_eq!(kept(&records), rest);
            assert!(refused.iter().all(|(_, refusal)| *refusal == LOST));
            assert_eq!(refused.len() + rest.len(), DEVICES.len());
            for bdf in DEVICES {
                assert_eq!(jump.reaches(bdf), rest.contains(&bdf));
            }
        }
        // Without the root table nobody is left.
        let mut jump = Jump::new(format);
        let root = jump.tables.root;
        let (mut records, _, adopted) = boot(&mut jump, &[root]);
        assert_eq!(adopted, Err(LOST));
        assert!(kept(&records).is_empty());
        records.set_ready();
        assert!(!records.is_any_running());
    }
}

#[test]
fn each_difference_of_a_unit_has_its_name() {
    let jump = Jump::new(formats()[0]);
    let recorded = jump.unit();
    type Change = fn(&mut Registers);
    let verdict = |change: Change| {
        let mut registers = jump.registers;
        change(&mut registers);
        fits(&recorded, &registers.unit(BASE, 0), true)
    };
    assert_eq!(verdict(|_| {}), Ok(()));
    // It has no root table of its own yet.
    assert_eq!(verdict(|now| now.root_table = 0x7000), Ok(()));
    assert_eq!(
        verdict(|now| now.mode = Mode::Scalable),
        Err(Refusal::OtherMode)
    );
    assert_eq!(
        verdict(|now| now.live_root = 0x7000),
        Err(Refusal::OtherRoot)
    );
    assert_eq!(
        verdict(|now| now.live_root |= 0x400),
        Err(Refusal::OtherRoot)
    );
    assert_eq!(
        verdict(|now| now.capability = 0),
        Err(Refusal::OtherCapabilities)
    );
    let other = verdict(|now| now.extended_capability = 0);
    assert_eq!(other, Err(Refusal::OtherCapabilities));
    let now = jump.registers.unit(BASE, 1);
    assert_eq!(fits(&recorded, &now, true), Err(Refusal::OtherSegment));
    let now = Unit {
        hardware: 2,
        ..recorded
    };
    assert_eq!(fits(&recorded, &now, true), Err(Refusal::OtherIommu));
    assert_eq!(
        fits(&recorded, &recorded, false),
        Err(Refusal::NotTranslating)
    );
    // The recorded root table is the one in the register.
    let lie = Registers {
        root_table: 0x7000,
        ..jump.registers
    };
    let verdict = fits(&lie.unit(BASE, 0), &recorded, true);
    assert_eq!(verdict, Err(Refusal::OtherRoot));
}

/// A unit that is refused says so for each of its devices; one that nobody recorded is no matter.
#[test]
fn other_units() {
    for format in formats() {
        let mut jump = Jump::new(format);
        let mut records = jump.records();
        let mut hands = Hands {
            memory: Some(&jump.memory),
            ..Hands::default()
        };
        let stranger = jump.registers.unit(BASE + 0x1000, 0);
        assert_eq!(adopt(&mut records, &mut hands, &stranger, true), Ok(None));
        let other = Registers {
            capability: 7,
            ..jump.registers
        };
        let refusal = Refusal::OtherCapabilities;
        let other = other.unit(BASE, 0);
        assert_eq!(adopt(&mut records, &mut hands, &other, true), Err(refusal));
        assert!(hands.restored.is_empty());
        for bdf in DEVICES {
            assert_eq!(records.device(at(bdf)), Verdict::Refused(refusal));
            assert!(records.is_running(at(bdf)));
        }
        records.set_ready();
        assert!(!records.is_any_running());
    }
    // Nothing came, and what came cannot be read.
    let mut hands = Hands::default();
    let unit = Jump::new(formats()[0]).unit();
    let mut records = Set::new(Shelved::default());
    assert_eq!(adopt(&mut records, &mut hands, &unit, true), Ok(None));
    let handover = Handover::default();
    let lend = || Lent::of(&handover);
    let error = records.take_iommu(lend(), IOMMU, KINDS, lend, |_, _| {});
    assert!(matches!(error, Err(Error::Refused(_))));
    assert!(matches!(records.iommu(), State::Refused(_)));
    assert_eq!(adopt(&mut records, &mut hands, &unit, true), Err(LOST));
    assert_eq!(adopt(&mut records, &mut hands, &unit, false), Ok(None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Damage anywhere in the tables: whoever is kept reaches its page and no other, and nobody else reaches
    /// anything.
    #[test]
    fn damaged_tables(
        which in 0_usize..3,
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0_u32..64), 0..4),
        garbage in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..512, any::<u64>()), 0..3),
    ) {
        let mut jump = Jump::new(formats()[which]).with_strangers();
        let words = jump.memory.words();
        for (index, bit) in damage {
            let (page, index, _) = *index.get(&words);
            jump.memory.flip(page, index, bit);
        }
        for (page, index, word) in garbage {
            let (page, _, _) = *page.get(&words);
            jump.memory.write(page, index, word);
        }
        let (mut records, _, adopted) = boot(&mut jump, &[]);
        let kept = kept(&records);
        match adopted {
            Ok(Some(adopted)) => prop_assert_eq!(adopted.devices as usize, kept.len()),
            Ok(None) => prop_assert!(false, "it is recorded"),
            Err(_) => {
                prop_assert!(kept.is_empty());
                records.set_ready();
                prop_assert!(!records.is_any_running());
                return Ok(());
            }
        }
        let mut unit = hitless_sim::Unit::new(jump.mode, jump.tables.root, Caches::NONE);
        for bdf in (0..=u16::MAX).map(Bdf).filter(|bdf| !kept.contains(bdf)) {
            if bdf.bus() > 10 && bdf.devfn() & 7 != 0 {
                continue;
            }
            let dma = Dma { bdf, iova: IOVA, access: Access::Read };
            prop_assert!(unit.dma(&jump.memory, dma).is_err(), "{bdf} got through");
        }
        prop_assert!(!STRANGERS.iter().any(|bdf| jump.reaches(*bdf)));
    }

    /// What is observed of live entries is what adoption accepts, and nothing else is.
    #[test]
    fn a_lie_about_entries_is_noticed(which in 0_usize..3, number in 0_usize..5, lie in 0_usize..3) {
        let jump = Jump::new(formats()[which]);
        let (bdf, place) = (DEVICES[number], jump.places[number]);
        let mut device = jump.devices[number];
        let fields = [
            &mut device.entry.device_tlb,
            &mut device.entry.walk_snoop,
            &mut device.entry.page_snoop,
        ];
        let lie = if jump.mode == Mode::Legacy { 0 } else { lie };
        for (_, field) in fields.into_iter().enumerate().filter(|(number, _)| *number == lie) {
            *field ^= true;
        }
        let [low, high] = place.read(&jump.memory);
        let (top, did) = match (jump.mode, formats()[which].1) {
            (Mode::Legacy, _) => (low, high >> 8),
            (Mode::Scalable, Format::Vtdss(_)) => (low, high),
            (Mode::Scalable, Format::X86_64(_)) => {
                let [_, _, third] = place.read(&jump.memory);
                (third, high)
            }
        };
        let table = Table {
            top: table(top & !0xfff),
            format: formats()[which].1,
            incoherent: false,
            snoop: false,
        };
        let adopted = AdoptedDevice::new(bdf, &device, DomainId(did as u16), &table).expect("described");
        let verdict = check_device(&jump.memory, jump.tables.unit(), &adopted);
        prop_assert!(matches!(verdict, Err(Flaw::Mismatch(..))));
    }
}
