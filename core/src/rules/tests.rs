// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What is observed and recorded of live tables is what adoption accepts.

extern crate std;

use std::collections::HashMap;

use proptest::prelude::*;

use super::tables::{address, adopted, observe, unit};
use crate::model::{Attachment, DeviceAddress, DomainKey, EntryFacts, Format, Mode, Table};
use crate::vtd::adopt::{check_adopted, check_device};
use crate::vtd::page_table::FirstStageLevels;
use crate::vtd::scalable::{DirectorySize, PasidDirectoryEntry, PasidEntry, PasidTarget, RootHalf};
use crate::vtd::{legacy, scalable, DomainId, Levels, Memory, Refusal, TableAddress};

const ROOT: u64 = 0x1000;
const CONTEXT: u64 = 0x2000;
const DIRECTORY: u64 = 0x10_0000;
const PASIDS: u64 = 0x4000;
const TOP: u64 = 0x5000;

/// Words that are not there read as 0.
#[derive(Default)]
struct Words(HashMap<(u64, usize), u64>);

impl Memory for Words {
    fn read(&self, table: TableAddress, index: usize) -> Result<u64, Refusal> {
        Ok(self.0.get(&(table.get(), index)).copied().unwrap_or(0))
    }
}

impl Words {
    fn put(&mut self, table: u64, entry: usize, words: &[u64]) {
        for (offset, word) in words.iter().enumerate() {
            self.0.insert((table, entry * words.len() + offset), *word);
        }
    }
}

fn table(format: Format) -> Table {
    Table {
        top: TOP,
        format,
        levels: 4,
        incoherent: false,
        snoop: false,
    }
}

fn attachment(bdf: u16, mode: Mode) -> Attachment {
    let scalable = mode == Mode::Scalable;
    Attachment {
        address: DeviceAddress { segment: 0, bdf },
        register_base: 0xfed9_0000,
        context_table: CONTEXT,
        pasid_directory: if scalable { DIRECTORY } else { 0 },
        pasid_table: if scalable { PASIDS } else { 0 },
        max_pasid: if scalable { 1 << 20 } else { 0 },
        domain_id: 7,
        domain: DomainKey::new(1).unwrap(),
        entry: EntryFacts::default(),
    }
}

fn legacy_machine(bdf: u16, device_tlb: bool) -> Words {
    let [bus, devfn] = bdf.to_be_bytes();
    let mut words = Words::default();
    let context_table = address(CONTEXT).unwrap();
    let root = legacy::RootEntry { context_table };
    words.put(ROOT, usize::from(bus), &root.encode());
    let context = legacy::ContextEntry {
        domain_id: DomainId(7),
        target: legacy::ContextTarget::SecondStage {
            table: address(TOP).unwrap(),
            levels: Levels::Four,
            device_tlb,
        },
        fault_processing_disabled: false,
    };
    words.put(CONTEXT, usize::from(devfn), &context.encode());
    words
}

fn scalable_machine(bdf: u16, format: Format, facts: EntryFacts) -> Words {
    let [bus, devfn] = bdf.to_be_bytes();
    let mut words = Words::default();
    let context_table = address(CONTEXT).unwrap();
    let root = RootHalf { context_table };
    let half = usize::from(bus) * 2 + usize::from(devfn >> 7);
    words.put(ROOT, half, &[root.encode()]);
    let context = scalable::ContextEntry {
        pasid_directory: address(DIRECTORY).unwrap(),
        directory_size: DirectorySize::for_max_pasid(1 << 20).unwrap(),
        request_pasid: 0,
        request_privileged: false,
        device_tlb: facts.device_tlb,
        pasids: false,
        page_requests: false,
        fault_processing_disabled: false,
    };
    words.put(CONTEXT, usize::from(devfn & 0x7f), &context.encode());
    let directory = PasidDirectoryEntry {
        pasid_table: address(PASIDS).unwrap(),
        fault_processing_disabled: false,
    };
    words.put(DIRECTORY, 0, &[directory.encode()]);
    let top = address(TOP).unwrap();
    let pasid = PasidEntry {
        domain_id: DomainId(7),
        target: match format {
            Format::SecondStage => PasidTarget::SecondStage {
                table: top,
                levels: Levels::Four,
                accessed_dirty: false,
            },
            Format::FirstStage => PasidTarget::FirstStage {
                table: top,
                levels: FirstStageLevels::Four,
                address_width: Levels::Four,
                supervisor_requests: false,
                write_protect: false,
                extended_accessed: false,
            },
        },
        page_walk_snoop: facts.walk_snoop,
        page_snoop: facts.page_snoop,
        fault_processing_disabled: false,
    };
    words.put(PASIDS, 0, &pasid.encode());
    words
}

#[test]
fn nothing_is_observed_of_a_device_without_entry() {
    for mode in [Mode::Legacy, Mode::Scalable] {
        assert!(observe(&Words::default(), &attachment(0x0100, mode)).is_err());
    }
}

proptest! {
    #[test]
    fn what_is_observed_in_legacy_mode_is_adopted(bdf: u16, device_tlb: bool) {
        let words = legacy_machine(bdf, device_tlb);
        let mut record = attachment(bdf, Mode::Legacy);
        record.entry = observe(&words, &record).unwrap();
        prop_assert_eq!(record.entry, EntryFacts { device_tlb, ..EntryFacts::default() });
        let unit = unit(Mode::Legacy, ROOT).unwrap();
        let device = adopted(&record, &table(Format::SecondStage)).unwrap();
        prop_assert_eq!(check_adopted(&words, unit, &[device]), Ok(()));
        // And not if the record says otherwise.
        record.entry.device_tlb = !device_tlb;
        let device = adopted(&record, &table(Format::SecondStage)).unwrap();
        prop_assert!(check_device(&words, unit, &device).is_err());
    }

    #[test]
    fn what_is_observed_in_scalable_mode_is_adopted(
        bdf: u16,
        first_stage: bool,
        device_tlb: bool,
        walk_snoop: bool,
        page_snoop: bool,
        lie in 0_usize..3,
    ) {
        let format = if first_stage { Format::FirstStage } else { Format::SecondStage };
        let facts = EntryFacts { device_tlb, walk_snoop, page_snoop };
        let words = scalable_machine(bdf, format, facts);
        let mut record = attachment(bdf, Mode::Scalable);
        record.entry = observe(&words, &record).unwrap();
        prop_assert_eq!(record.entry, facts);
        let unit = unit(Mode::Scalable, ROOT).unwrap();
        let device = adopted(&record, &table(format)).unwrap();
        prop_assert_eq!(check_adopted(&words, unit, &[device]), Ok(()));
        match lie {
            0 => record.entry.device_tlb = !device_tlb,
            1 => record.entry.walk_snoop = !walk_snoop,
            _ => record.entry.page_snoop = !page_snoop,
        }
        let device = adopted(&record, &table(format)).unwrap();
        prop_assert!(check_device(&words, unit, &device).is_err());
    }
}
