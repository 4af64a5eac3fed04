// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! An iommufd: its preserved HWPTs, what they map, and the memory files behind that.

use super::attachment::DomainKey;
use super::index::Key;
use super::lender::{Grow, Lender, Take};
use super::list::{is_zero, Family, List};
use crate::abi::iommufd::{
    HwptSer, MappingSer, MemorySer, KIND_HWPT, KIND_MAPPING, KIND_MEMORY, KNOWN_REQUIRED, MAGIC,
    MAPPING_READ, MAPPING_WRITE, VERSION,
};
use crate::error::Error;
use crate::refusal::{self, Refusal};

const NAME: refusal::Family = refusal::Family::Iommufd;
const MALFORMED: Refusal = Refusal::Malformed(NAME);
const DUPLICATE: Refusal = Refusal::Duplicate(NAME);
const CONTRADICTORY: Refusal = Refusal::Contradictory(NAME);
const NOT_RECORDED: Refusal = Refusal::NotRecorded(NAME);

const FAMILY: Family = Family {
    name: NAME,
    magic: MAGIC,
    version: VERSION,
    known_required: KNOWN_REQUIRED,
    last_kind: KIND_MAPPING,
};

/// Index: the HWPT `c` has token `a`.
const TOKEN: u8 = 1;
/// Index: the HWPT `c` has domain `a`.
const DOMAIN: u8 = 2;
/// Index: the memory file `c` has LUO's data `a`.
const DATA: u8 = 3;

/// A preserved HWPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hwpt {
    /// The user's token.
    pub token: u64,
    /// Its domain.
    pub domain: DomainKey,
    /// Number of its mappings.
    pub mappings: u32,
}

/// A memory file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryFile {
    /// LUO's data of the file.
    pub data: u64,
    /// LUO's token of the file.
    pub token: u64,
}

/// Names a HWPT of a record that is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HwptKey(u32);

/// Names a memory file of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryKey(u32);

/// What the device may do with the memory of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingRights {
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
}

/// A mapping of a HWPT: `length` bytes from `iova` on are those of `memory` from `offset` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First I/O virtual address.
    pub iova: u64,
    /// Length in bytes.
    pub length: u64,
    /// The memory file.
    pub memory: MemoryKey,
    /// Offset in it in bytes.
    pub offset: u64,
    /// Rights.
    pub rights: MappingRights,
}

impl Mapping {
    /// The last address.
    fn last(&self) -> Option<u64> {
        self.iova.checked_add(self.length.checked_sub(1)?)
    }
}

#[derive(Clone, Copy)]
struct HwptEntry {
    hwpt: Hwpt,
    first: Option<u32>,
}

fn encode_hwpt(entry: &HwptEntry) -> HwptSer {
    HwptSer {
        kind: KIND_HWPT,
        reserved: [0; 3],
        domain: entry.hwpt.domain.get().into(),
        token: entry.hwpt.token.into(),
        first: entry.first.unwrap_or(0).into(),
        count: entry.hwpt.mappings.into(),
        reserved_end: [0; 40],
    }
}

fn decode_hwpt(ser: &HwptSer) -> Result<HwptEntry, Refusal> {
    let first = Some(ser.first.get()).filter(|key| *key != 0);
    let domain = DomainKey::new(ser.domain.get()).ok_or(MALFORMED)?;
    let sound = is_zero(&ser.reserved)
        && is_zero(&ser.reserved_end)
        && first.is_some() == (ser.count.get() != 0);
    match sound {
        true => Ok(HwptEntry {
            hwpt: Hwpt {
                token: ser.token.get(),
                domain,
                mappings: ser.count.get(),
            },
            first,
        }),
        false => Err(MALFORMED),
    }
}

fn encode_memory(memory: &MemoryFile) -> MemorySer {
    MemorySer {
        kind: KIND_MEMORY,
        reserved: [0; 7],
        data: memory.data.into(),
        token: memory.token.into(),
        reserved_end: [0; 40],
    }
}

fn decode_memory(ser: &MemorySer) -> Result<MemoryFile, Refusal> {
    match is_zero(&ser.reserved) && is_zero(&ser.reserved_end) {
        true => Ok(MemoryFile {
            data: ser.data.get(),
            token: ser.token.get(),
        }),
        false => Err(MALFORMED),
    }
}

fn encode_mapping(hwpt: u32, mapping: &Mapping) -> MappingSer {
    let MappingRights { read, write } = mapping.rights;
    let read = if read { MAPPING_READ } else { 0 };
    let write = if write { MAPPING_WRITE } else { 0 };
    MappingSer {
        kind: KIND_MAPPING,
        rights: read | write,
        reserved: [0; 6],
        hwpt: hwpt.into(),
        memory: mapping.memory.0.into(),
        iova: mapping.iova.into(),
        length: mapping.length.into(),
        offset: mapping.offset.into(),
        reserved_end: [0; 24],
    }
}

fn decode_mapping(ser: &MappingSer) -> Result<(u32, Mapping), Refusal> {
    let mapping = Mapping {
        iova: ser.iova.get(),
        length: ser.length.get(),
        memory: MemoryKey(ser.memory.get()),
        offset: ser.offset.get(),
        rights: MappingRights {
            read: ser.rights & MAPPING_READ != 0,
            write: ser.rights & MAPPING_WRITE != 0,
        },
    };
    let sound = is_zero(&ser.reserved)
        && is_zero(&ser.reserved_end)
        && ser.rights & !(MAPPING_READ | MAPPING_WRITE) == 0
        && ser.rights != 0
        && mapping.last().is_some()
        && mapping.offset.checked_add(mapping.length).is_some();
    match sound {
        true => Ok((ser.hwpt.get(), mapping)),
        false => Err(MALFORMED),
    }
}

/// The record of an iommufd.
///
/// # Invariants
///
/// Every entry decodes. No two HWPTs have one token or one domain, and no two memory files LUO's data. The
/// mappings of a HWPT are entries in a row that name it, in rising order without overlap, each of a recorded
/// memory file; there are no others.
#[derive(Debug)]
pub struct Iommufd<L> {
    list: List<L>,
}

impl<L: Lender> Iommufd<L> {
    /// Physical address of the first page: what LUO carries, and the name in other records.
    pub fn phys(&self) -> u64 {
        self.list.phys()
    }

    /// The memory that was lent.
    pub const fn lender(&self) -> &L {
        self.list.lender()
    }

    /// Gives the memory back.
    pub fn into_lender(self) -> L {
        self.list.into_lender()
    }

    fn hwpt_entry(&self, key: u32) -> Option<HwptEntry> {
        let ser: HwptSer = self.list.entry(key, KIND_HWPT)?;
        decode_hwpt(&ser).ok()
    }

    fn mapping(&self, key: u32) -> Option<(u32, Mapping)> {
        let ser: MappingSer = self.list.entry(key, KIND_MAPPING)?;
        decode_mapping(&ser).ok()
    }

    /// All HWPTs.
    pub fn hwpts(&self) -> impl Iterator<Item = Hwpt> + '_ {
        let nodes = self.list.from(Key::new(TOKEN, 0, 0, 0));
        let nodes = nodes.take_while(|node| node.key.kind == TOKEN);
        nodes.filter_map(|node| Some(self.hwpt_entry(node.key.c)?.hwpt))
    }

    fn hwpt_of(&self, token: u64) -> Option<HwptEntry> {
        self.hwpt_entry(self.list.about(TOKEN, token, 0)?.key.c)
    }

    /// The HWPT with a token.
    pub fn hwpt(&self, token: u64) -> Option<Hwpt> {
        Some(self.hwpt_of(token)?.hwpt)
    }

    /// All memory files.
    pub fn memories(&self) -> impl Iterator<Item = MemoryFile> + '_ {
        let keys = self.list.keys();
        keys.filter_map(|key| self.memory(MemoryKey(key)))
    }

    /// A memory file.
    pub fn memory(&self, key: MemoryKey) -> Option<MemoryFile> {
        let ser: MemorySer = self.list.entry(key.0, KIND_MEMORY)?;
        decode_memory(&ser).ok()
    }

    /// The memory file with this data of LUO's, if some HWPT maps it.
    pub fn memory_with(&self, data: u64) -> Option<MemoryKey> {
        let node = self.list.about(DATA, data, 0)?;
        Some(MemoryKey(node.key.c))
    }

    /// The mappings of the HWPT with a token, in rising order, from number `from` on: what is before is
    /// not read.
    pub fn mappings(&self, token: u64, from: u32) -> impl Iterator<Item = Mapping> + '_ {
        let hwpt = self.hwpt_of(token);
        let count = hwpt.map_or(0, |entry| entry.hwpt.mappings);
        let first = hwpt.and_then(|entry| entry.first).unwrap_or(0);
        let keys = (from..count).filter_map(move |number| first.checked_add(number));
        keys.filter_map(|key| Some(self.mapping(key)?.1))
    }

    /// Number of the first mapping of the HWPT with a token that is not wholly below `iova`: where a reader
    /// goes on that remembers the last address it has seen.
    pub fn position(&self, token: u64, iova: u64) -> u32 {
        let Some(entry) = self.hwpt_of(token) else {
            return 0;
        };
        let is_below = |number: u32| {
            let key = entry.first.and_then(|first| first.checked_add(number));
            let mapping = key.and_then(|key| self.mapping(key));
            mapping.is_some_and(|(_, mapping)| mapping.last() < Some(iova))
        };
        let (mut low, mut high) = (0, entry.hwpt.mappings);
        while low < high {
            let middle = low.midpoint(high);
            if is_below(middle) {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        low
    }
}

impl<L: Take> Iommufd<L> {
    /// Takes over a record that another kernel wrote.
    pub(super) fn decode(lender: L, phys: u64) -> Result<Self, Error<L::Error>> {
        let mut this = Self {
            list: List::decode(lender, phys, FAMILY)?,
        };
        let (mut in_rows, mut mappings) = (0_u64, 0_u64);
        for key in this.list.keys() {
            match this.list.kind(key) {
                KIND_HWPT => {
                    let ser: HwptSer = this.list.entry(key, KIND_HWPT).ok_or(MALFORMED)?;
                    let entry = decode_hwpt(&ser)?;
                    this.check_row(key, &entry)?;
                    in_rows = in_rows.saturating_add(entry.hwpt.mappings.into());
                    this.enter(TOKEN, entry.hwpt.token, key)?;
                    this.enter(DOMAIN, entry.hwpt.domain.get().into(), key)?;
                }
                KIND_MEMORY => {
                    let ser: MemorySer = this.list.entry(key, KIND_MEMORY).ok_or(MALFORMED)?;
                    this.enter(DATA, decode_memory(&ser)?.data, key)?;
                }
                KIND_MAPPING => mappings = mappings.saturating_add(1),
                _ => {}
            }
        }
        // Rows do not overlap, as each of their mappings names one HWPT.
        match in_rows == mappings {
            true => Ok(this),
            false => Err(CONTRADICTORY.into()),
        }
    }

    fn enter(&mut self, kind: u8, a: u64, key: u32) -> Result<(), Error<L::Error>> {
        match self.list.about(kind, a, 0) {
            Some(_) => Err(DUPLICATE.into()),
            None => self.list.join(Key::new(kind, a, 0, key), 0),
        }
    }

    /// Are the mappings of a HWPT as they have to be?
    fn check_row(&self, key: u32, entry: &HwptEntry) -> Result<(), Refusal> {
        let first = entry.first.unwrap_or(0);
        let mut after = None;
        for number in 0..entry.hwpt.mappings {
            let key_of_mapping = first.checked_add(number).ok_or(MALFORMED)?;
            let ser: Option<MappingSer> = self.list.entry(key_of_mapping, KIND_MAPPING);
            let (hwpt, mapping) = decode_mapping(&ser.ok_or(NOT_RECORDED)?)?;
            if hwpt != key {
                return Err(CONTRADICTORY);
            }
            if Some(mapping.iova) <= after {
                return Err(Refusal::Aliased(NAME));
            }
            if self.list.kind(mapping.memory.0) != KIND_MEMORY {
                return Err(NOT_RECORDED);
            }
            after = mapping.last();
        }
        Ok(())
    }
}

impl<L: Grow> Iommufd<L> {
    /// Makes an empty record.
    ///
    /// # Errors
    ///
    /// The lender's.
    pub fn create(lender: L) -> Result<Self, Error<L::Error>> {
        let list = List::create(lender, FAMILY)?;
        Ok(Self { list })
    }

    /// Records a memory file; one that is recorded already keeps its name. To be done before the HWPT that
    /// maps it is added.
    ///
    /// # Errors
    ///
    /// [`Refusal::Contradictory`] for other tokens of one file, and the lender's; nothing has changed then.
    pub fn add_memory(&mut self, memory: &MemoryFile) -> Result<MemoryKey, Error<L::Error>> {
        if let Some(key) = self.memory_with(memory.data) {
            return match self.memory(key) == Some(*memory) {
                true => Ok(key),
                false => Err(CONTRADICTORY.into()),
            };
        }
        self.list.reserve(1, 1)?;
        let key = self.list.insert(&encode_memory(memory)).ok_or(MALFORMED)?;
        self.list.join(Key::new(DATA, memory.data, 0, key), 0)?;
        Ok(MemoryKey(key))
    }

    /// Records a HWPT, which maps nothing yet.
    ///
    /// # Errors
    ///
    /// [`Refusal::Duplicate`] for a token or a domain that is recorded, and the lender's; nothing has changed
    /// then.
    pub fn add_hwpt(&mut self, token: u64, domain: DomainKey) -> Result<HwptKey, Error<L::Error>> {
        let domain_number = domain.get().into();
        if self.list.about(TOKEN, token, 0).is_some()
            || self.list.about(DOMAIN, domain_number, 0).is_some()
        {
            return Err(DUPLICATE.into());
        }
        self.list.reserve(1, 2)?;
        let entry = HwptEntry {
            hwpt: Hwpt {
                token,
                domain,
                mappings: 0,
            },
            first: None,
        };
        let key = self.list.insert(&encode_hwpt(&entry)).ok_or(MALFORMED)?;
        self.list.join(Key::new(TOKEN, token, 0, key), 0)?;
        self.list.join(Key::new(DOMAIN, domain_number, 0, key), 0)?;
        Ok(HwptKey(key))
    }

    /// Records a mapping of the HWPT that was added last, above all its mappings so far. Its memory files have
    /// to be recorded already: mappings are entries in a row.
    ///
    /// # Errors
    ///
    /// What a reader would refuse, and the lender's; nothing has changed then.
    pub fn add_mapping(&mut self, hwpt: HwptKey, mapping: &Mapping) -> Result<(), Error<L::Error>> {
        let ser = encode_mapping(hwpt.0, mapping);
        decode_mapping(&ser)?;
        let entry = self.hwpt_entry(hwpt.0).ok_or(NOT_RECORDED)?;
        if self.memory(mapping.memory).is_none() {
            return Err(NOT_RECORDED.into());
        }
        let count = entry.hwpt.mappings;
        let last = count
            .checked_sub(1)
            .and_then(|last| entry.first?.checked_add(last));
        let after = last.and_then(|last| self.mapping(last)?.1.last());
        if Some(mapping.iova) <= after {
            return Err(Refusal::Aliased(NAME).into());
        }
        self.list.reserve(1, 0)?;
        let key = self.list.free_key().ok_or(MALFORMED)?;
        let first = entry.first.unwrap_or(key);
        if first.checked_add(count) != Some(key) {
            return Err(CONTRADICTORY.into());
        }
        self.list.insert(&ser);
        let entry = HwptEntry {
            hwpt: Hwpt {
                mappings: count.saturating_add(1),
                ..entry.hwpt
            },
            first: Some(first),
        };
        self.list.set(hwpt.0, &encode_hwpt(&entry));
        Ok(())
    }
}
