// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builders of tables: page tables of all formats, and root, context and PASID tables.

use hitless_core::iommu::address::DomainId;
use hitless_core::iommu::bdf::Bdf;
use hitless_core::iommu::pt::format::Format;
use hitless_core::iommu::pt::vtdss::Levels;
use hitless_core::iommu::pt::walk::TablePage;
use hitless_core::iommu::pt::x86_64;
use hitless_core::iommu::vtd::context::{
    ContextEntry, ContextTarget, ScalableContextEntry, CONTEXT_WORDS, SCALABLE_CONTEXT_WORDS,
};
use hitless_core::iommu::vtd::mode::Mode;
use hitless_core::iommu::vtd::pasid::{
    DirectorySize, PasidDirectoryEntry, PasidEntry, PasidTarget,
};
use hitless_core::iommu::vtd::root::RootHalf;

use crate::execute::Place;
use crate::memory::{index, table, width, PhysicalMemory};

/// A page table under construction.
#[derive(Clone, Debug)]
pub struct PageTable {
    /// Its format.
    pub format: Format,
    /// Its top table.
    pub root: u64,
    /// All its tables so far, in the order they were made.
    pub tables: Vec<TablePage>,
}

impl PageTable {
    /// A page table that maps nothing.
    #[must_use]
    pub fn new(memory: &PhysicalMemory, format: Format) -> Self {
        let root = memory.allocate(1);
        let top = TablePage {
            address: table(root),
            level: format.levels(),
        };
        Self {
            format,
            root,
            tables: vec![top],
        }
    }

    /// Maps the page of size 2^`page_bits` at `iova` to `physical`.
    ///
    /// # Panics
    ///
    /// If something that is not a table is mapped there already.
    pub fn map(
        &mut self,
        memory: &PhysicalMemory,
        iova: u64,
        physical: u64,
        page_bits: u32,
        writable: bool,
    ) {
        let leaf_level = (page_bits - 3) / 9;
        let mut page = self.root;
        for level in (leaf_level + 1..=self.format.levels()).rev() {
            let index = index(iova, level);
            let word = memory.get(page, index).expect("own table");
            page = if word == 0 {
                let below = memory.allocate(1);
                memory.write(page, index, self.pointer(below));
                self.tables.push(TablePage {
                    address: table(below),
                    level: level - 1,
                });
                below
            } else {
                assert_eq!(word & 1 << 7, 0, "a large page is in the way");
                word & 0x000f_ffff_ffff_f000
            };
        }
        let word = self.leaf(physical, writable) | u64::from(leaf_level > 1) << 7;
        memory.write(page, index(iova, leaf_level), word);
    }

    fn pointer(&self, below: u64) -> u64 {
        match self.format {
            Format::Vtdss(_) => below | 0b11,
            // Present, writable, user, accessed.
            Format::X86_64(_) => below | 0b10_0111,
        }
    }

    fn leaf(&self, physical: u64, writable: bool) -> u64 {
        match self.format {
            Format::Vtdss(_) => physical | 1 | u64::from(writable) << 1,
            // Present, user, accessed; writable and dirty.
            Format::X86_64(_) => {
                physical | 0b10_0101 | u64::from(writable) << 1 | u64::from(writable) << 6
            }
        }
    }

    /// Gives all its pages to somebody else.
    pub fn free(&self, memory: &PhysicalMemory) {
        for table in &self.tables {
            memory.free(table.address.get());
        }
    }
}

/// The tables of a unit above the page tables.
#[derive(Clone, Debug)]
pub struct Tables {
    /// Mode of the unit.
    pub mode: Mode,
    /// The root table.
    pub root: u64,
}

/// TT 1 of a legacy context entry, DTE of a scalable one.
pub const DEVICE_TLB: u64 = 1 << 2;

/// Size of the PASID directories made here.
pub const DIRECTORY: DirectorySize = match DirectorySize::from_code(2) {
    Some(size) => size,
    None => panic!("2 is a size code"),
};

impl Tables {
    /// An empty root table.
    #[must_use]
    pub fn new(memory: &PhysicalMemory, mode: Mode) -> Self {
        let root = memory.allocate(1);
        Self { mode, root }
    }

    /// As `hitless_core` wants it.
    #[must_use]
    pub fn unit(&self) -> hitless_core::iommu::vtd::mode::UnitTables {
        hitless_core::iommu::vtd::mode::UnitTables {
            mode: self.mode,
            root: table(self.root),
            width: width(),
        }
    }

    /// Where the context entry of `bdf` is; context tables are made on the way.
    pub fn context(&self, memory: &PhysicalMemory, bdf: Bdf) -> Place {
        let devfn = usize::from(bdf.devfn());
        let upper = self.mode == Mode::Scalable && devfn >= 0x80;
        let root_index = usize::from(bdf.bus()) * 2 + usize::from(upper);
        let word = memory.get(self.root, root_index).expect("root table");
        let page = if word == 0 {
            let page = memory.allocate(1);
            let context_table = table(page);
            let word = RootHalf { context_table }.encode();
            memory.write(self.root, root_index, word);
            page
        } else {
            word & !0xfff
        };
        let word = match self.mode {
            Mode::Legacy => devfn * CONTEXT_WORDS,
            Mode::Scalable => devfn % 0x80 * SCALABLE_CONTEXT_WORDS,
        };
        Place { page, word }
    }

    /// Lets `bdf` use a device TLB. In either mode bit 2 of its context entry says so: TT 1, or DTE.
    ///
    /// # Panics
    ///
    /// If it has no entry.
    pub fn allow_device_tlb(&self, memory: &PhysicalMemory, bdf: Bdf) {
        let place = self.context(memory, bdf);
        let [low] = place.read(memory);
        assert_eq!(low & 1, 1, "an entry");
        place.write(memory, &[low | DEVICE_TLB]);
    }

    /// In scalable mode: makes a PASID directory and table for `bdf` and gives the place of the
    /// entry of PASID 0.
    pub fn pasid(&self, memory: &PhysicalMemory, bdf: Bdf) -> Place {
        let context = self.context(memory, bdf);
        let pages = u64::from(DIRECTORY.entries()).div_ceil(512);
        let directory = memory.allocate(pages);
        let entry = ScalableContextEntry {
            pasid_directory: table(directory),
            directory_size: DIRECTORY,
            request_pasid: 0,
            request_privileged: false,
            device_tlb: false,
            pasids: false,
            page_requests: false,
            fault_processing_disabled: false,
        };
        context.write(memory, &entry.encode());
        let page = memory.allocate(1);
        let entry = PasidDirectoryEntry {
            pasid_table: table(page),
            fault_processing_disabled: false,
        };
        memory.write(directory, 0, entry.encode());
        Place { page, word: 0 }
    }

    /// The place of the entry that names the page table of `bdf`, with all above it made.
    pub fn place(&self, memory: &PhysicalMemory, bdf: Bdf) -> Place {
        match self.mode {
            Mode::Legacy => self.context(memory, bdf),
            Mode::Scalable => self.pasid(memory, bdf),
        }
    }
}

/// The words of a context entry (legacy) or PASID entry (scalable) for `page_table`.
///
/// # Panics
///
/// If legacy mode is asked for a first-stage table.
#[must_use]
pub fn entry(mode: Mode, page_table: &PageTable, did: DomainId) -> Vec<u64> {
    let root = table(page_table.root);
    match (mode, page_table.format) {
        (Mode::Legacy, Format::Vtdss(levels)) => ContextEntry {
            domain_id: did,
            target: ContextTarget::SecondStage {
                table: root,
                levels,
                device_tlb: false,
            },
            fault_processing_disabled: false,
        }
        .encode()
        .to_vec(),
        (Mode::Legacy, Format::X86_64(_)) => panic!("legacy mode has no first stage"),
        (Mode::Scalable, format) => {
            let target = match format {
                Format::Vtdss(levels) => PasidTarget::SecondStage {
                    table: root,
                    levels,
                    accessed_dirty: false,
                },
                Format::X86_64(levels) => PasidTarget::FirstStage {
                    table: root,
                    levels,
                    address_width: match levels {
                        x86_64::Levels::Four => Levels::Four,
                        x86_64::Levels::Five => Levels::Five,
                    },
                    supervisor_requests: false,
                    write_protect: false,
                    extended_accessed: false,
                },
            };
            PasidEntry {
                domain_id: did,
                target,
                page_walk_snoop: true,
                page_snoop: false,
                fault_processing_disabled: false,
            }
            .encode()
            .to_vec()
        }
    }
}
