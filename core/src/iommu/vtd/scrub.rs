// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The scrub: before the jump every root and context entry that is not a preserved device's goes,
//! so that after the jump no other device can reach memory.
//!
//! It works with interrupts off on one CPU and must not fail: what it does not understand on the way
//! to a preserved device (a root entry with reserved bits, or a pointer to anything but the recorded
//! context table) is cleared too, which blocks the devices below it. Only recorded context tables are
//! ever written to: the live root table may point anywhere, and what is there may be somebody's memory.

use super::context::{CONTEXT_WORDS, SCALABLE_CONTEXT_WORDS};
use super::devfn::DevfnSet;
use super::mode::{Mode, UnitTables};
use super::record::DeviceTables;
use super::root::{RootEntry, RootHalf};
use crate::iommu::address::{HostAddressWidth, TableAddress};
use crate::iommu::bdf::Bdf;
use crate::iommu::flaw::Flaw;
use crate::iommu::memory::{Memory, WORDS_PER_TABLE};
use crate::record::attachment::Unit;
use crate::record::iommu::Iommu;
use crate::record::lender::Lender;

/// What stays of a bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnBus {
    devices: DevfnSet,
    /// Their context tables: in legacy mode the first for all, in scalable mode one for each half. What has
    /// none here loses its word of the root entry.
    tables: [Option<TableAddress>; 2],
}

impl OnBus {
    /// Those of `devices` that are on `bus`, each with its recorded context table. Of two that disagree
    /// about a table the first is right, and the other loses its entry.
    pub fn new(
        mode: Mode,
        bus: u8,
        devices: impl IntoIterator<Item = (Bdf, TableAddress)>,
    ) -> Self {
        let mut kept = Self::default();
        let [first, second] = &mut kept.tables;
        for (bdf, recorded) in devices {
            if bdf.bus() != bus {
                continue;
            }
            let upper = mode == Mode::Scalable && bdf.devfn() >= 0x80;
            let table = if upper { &mut *second } else { &mut *first };
            if *table.get_or_insert(recorded) == recorded {
                kept.devices.insert(bdf.devfn());
            }
        }
        kept
    }

    /// The devices that stay.
    pub const fn devices(&self) -> &DevfnSet {
        &self.devices
    }
}

/// What stays of a bus behind a recorded unit: the devices that nobody is to blame for. It allocates nothing.
pub fn kept_on_bus<L: Lender>(iommu: &Iommu<L>, unit: &Unit, mode: Mode, bus: u8) -> OnBus {
    let devices = iommu.on_bus(unit.base, unit.segment, bus);
    let devices = devices.filter_map(|attachment| {
        let tables = DeviceTables::decode(&attachment.translation.payload).ok()?;
        let table = TableAddress::new(tables.context_table, HostAddressWidth::MAX).ok()?;
        Some((Bdf(attachment.address.bdf), table))
    });
    OnBus::new(mode, bus, devices)
}

/// Set one 64-bit word of a table to zero, with one store.
///
/// Words of an entry come in rising order, so the present bit goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clear {
    /// The table.
    pub table: TableAddress,
    /// The word.
    pub index: usize,
}

/// A scrub in progress: [`Scrub::next`] gives one word at a time.
///
/// Afterwards the caller invalidates the context cache, the PASID cache and the IOTLB globally, and
/// the device TLBs of what lost its entry if they matter.
#[derive(Clone, Debug)]
pub struct Scrub {
    tables: UnitTables,
    /// Word of the root table to look at next.
    word: usize,
    /// The context table being cleared.
    below: Option<ContextTable>,
}

/// A context table with preserved devices.
#[derive(Clone, Debug)]
struct ContextTable {
    address: TableAddress,
    /// First device and function number it covers, and words per entry.
    first: u8,
    entry_words: usize,
    preserved: DevfnSet,
    word: usize,
}

impl Scrub {
    /// Starts a scrub of the unit's tables.
    pub const fn new(tables: UnitTables) -> Self {
        Self {
            tables,
            word: 0,
            below: None,
        }
    }

    /// The next word to set to zero, or `None` when nothing is left. Words that are zero already do
    /// not come up.
    ///
    /// `kept` says what stays of a bus; it must give the same answer each time. The caller may, but need
    /// not, clear a word before it asks for the next.
    pub fn next<M: Memory>(
        &mut self,
        memory: &M,
        mut kept: impl FnMut(u8) -> OnBus,
    ) -> Option<Clear> {
        loop {
            if let Some(table) = &mut self.below {
                if let Some(clear) = table.next(memory) {
                    return Some(clear);
                }
                self.below = None;
            }
            if self.word >= WORDS_PER_TABLE {
                return None;
            }
            let index = self.word;
            self.word = index.saturating_add(1);
            match memory.read(self.tables.root, index) {
                Ok(0) => {}
                Ok(word) => {
                    self.below = self.context_table(memory, word, index, &mut kept);
                    // In legacy mode this takes the reserved high word of an entry that stays, too.
                    if self.below.is_none() {
                        return Some(Clear {
                            table: self.tables.root,
                            index,
                        });
                    }
                }
                // Nothing can be done about a root table that is not there.
                Err(_) => return None,
            }
        }
    }

    /// The context table that the root table's `word` names, if it is the recorded one of preserved
    /// devices.
    fn context_table<M: Memory>(
        &self,
        memory: &M,
        word: u64,
        index: usize,
        kept: &mut impl FnMut(u8) -> OnBus,
    ) -> Option<ContextTable> {
        let upper = index % 2 == 1;
        let bus = u8::try_from(index / 2).ok()?;
        let kept = kept(bus);
        let [first, second] = kept.tables;
        let recorded = if upper { second } else { first }?;
        let (address, entry_words) = match self.tables.mode {
            Mode::Legacy => {
                let entry = RootEntry::decode([word, 0], self.tables.width);
                (entry.ok().flatten()?.context_table, CONTEXT_WORDS)
            }
            Mode::Scalable => {
                let half = RootHalf::decode(word, self.tables.width);
                (half.ok().flatten()?.context_table, SCALABLE_CONTEXT_WORDS)
            }
        };
        if address != recorded {
            return None;
        }
        // A table that is not in memory keeps nobody's entry: better no root entry either.
        memory.read(address, 0).ok()?;
        Some(ContextTable {
            address,
            first: if upper { 0x80 } else { 0 },
            entry_words,
            preserved: kept.devices,
            word: 0,
        })
    }
}

impl ContextTable {
    fn next<M: Memory>(&mut self, memory: &M) -> Option<Clear> {
        while self.word < WORDS_PER_TABLE {
            let index = self.word;
            self.word = index.saturating_add(1);
            let entry = index.checked_div(self.entry_words)?;
            let devfn = u8::try_from(entry).ok()?.wrapping_add(self.first);
            if self.preserved.contains(devfn) {
                continue;
            }
            // A word that cannot be read is not cleared either: the table is not memory.
            if matches!(memory.read(self.address, index), Ok(word) if word != 0) {
                return Some(Clear {
                    table: self.address,
                    index,
                });
            }
        }
        None
    }
}

/// Carries out a whole scrub with `clear`, which sets a word to zero, and says how many words that
/// were.
///
/// # Errors
///
/// The first error of `clear`; the scrub is incomplete then, and the caller has to block the unit.
pub fn scrub<M: Memory>(
    memory: &M,
    tables: UnitTables,
    mut kept: impl FnMut(u8) -> OnBus,
    mut clear: impl FnMut(Clear) -> Result<(), Flaw>,
) -> Result<u64, Flaw> {
    let mut scrub = Scrub::new(tables);
    let mut words: u64 = 0;
    while let Some(step) = scrub.next(memory, &mut kept) {
        clear(step)?;
        words = words.saturating_add(1);
    }
    Ok(words)
}
