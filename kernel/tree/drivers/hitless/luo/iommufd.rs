// SPDX-License-Identifier: GPL-2.0-only

//! An iommufd: its marked HWPTs, their tables, and the memory behind them.

use hitless_core::record::attachment::{
    Domain,
    DomainKey, //
};
use hitless_core::record::iommufd::{
    Iommufd,
    Mapping,
    MappingRights,
    MemoryFile,
    MemoryKey, //
};
use hitless_core::record::log::{
    Object,
    Step, //
};
use hitless_core::refusal::Refusal;
use hitless_core::rules;
use hitless_core::rules::memory::MemoryFacts;
use kernel::fs::File;
use kernel::liveupdate::{
    FileHandler,
    Freeze,
    PreserveArgs, //
};
use kernel::prelude::*;
use kernel::sync::aref::ARef;

use crate::failure::{
    Failure,
    Outcome, //
};
use crate::incoming::INCOMING;
use crate::lent;
use crate::log;
use crate::outgoing::OUTGOING;
use crate::seam::iommufd::{
    self,
    FrozenIommufd,
    Hwpt, //
};
use crate::tables::HandedOver;

/// LUO's handler of iommufds.
pub(crate) struct IommufdHandler;

/// A preserved iommufd. Dropping it undoes everything.
pub(crate) struct OutgoingIommufd {
    // Dropped in this order: domains first, while the page that names them is still there, and the
    // freeze last.
    domains: KVec<OutgoingDomain>,
    record: Iommufd<lent::Outgoing>,
    frozen: FrozenIommufd,
}

/// A recorded domain. Dropping it removes it from the records and takes back its tables.
struct OutgoingDomain {
    key: DomainKey,
    tables: HandedOver,
}

impl OutgoingDomain {
    fn new(iommufd: u64, hwpt: &Hwpt) -> Outcome<Self> {
        rules::iommufd::hwpt(hwpt.facts)?;
        let table = hwpt.table.ok_or(Refusal::UnknownTable)?;
        let tables = HandedOver::new(&table)?;
        let key = OUTGOING.lock().add_domain(&Domain {
            table,
            tables: tables.count(),
            iommufd,
            token: hwpt.token,
        })?;
        Ok(Self { key, tables })
    }
}

impl Drop for OutgoingDomain {
    fn drop(&mut self) {
        OUTGOING.lock().remove_domain(self.key);
    }
}

impl OutgoingIommufd {
    /// Freezes an iommufd and records its marked HWPTs.
    fn new(args: &PreserveArgs<'_>) -> Outcome<Self> {
        let mut this = Self {
            domains: KVec::new(),
            record: Iommufd::create(lent::Outgoing::new())?,
            frozen: FrozenIommufd::new(args.file()).ok_or(EINVAL)?,
        };
        let mut hwpts = KVec::new();
        for hwpt in this.frozen.hwpts() {
            hwpts.push(hwpt, GFP_KERNEL)?;
        }
        for hwpt in &hwpts {
            this.add(args, hwpt)?;
        }
        if this.domains.is_empty() {
            return Err(Refusal::NothingMarked.into());
        }
        Ok(this)
    }

    fn add(&mut self, args: &PreserveArgs<'_>, hwpt: &Hwpt) -> Outcome {
        // All memory first: the mappings of a HWPT stand in a row. And before the tables: one whose mapping is
        // still being made is not complete.
        let mut memories = KVVec::new();
        let mut last: Option<(&File, MemoryKey)> = None;
        for mapping in self.frozen.mappings(hwpt) {
            rules::memory::memory(mapping.facts)
                .inspect_err(|_| report_mapping(&mapping))?;
            let file = mapping.file.ok_or(Refusal::OtherMemory)?;
            let key = match last {
                Some((known, key)) if core::ptr::eq(known, file) => key,
                _ => {
                    let memory =
                        memory_of(args, file).inspect_err(|_| report_mapping(&mapping))?;
                    self.record.add_memory(&memory)?
                }
            };
            last = Some((file, key));
            memories.push(key, GFP_KERNEL)?;
        }
        rules::memory::mapped(memories.len())?;

        let domain = OutgoingDomain::new(self.data(), hwpt)?;
        let key = domain.key;
        self.domains.push(domain, GFP_KERNEL)?;
        let hwpt_key = self.record.add_hwpt(hwpt.token, key)?;
        for (mapping, memory) in self.frozen.mappings(hwpt).zip(&memories) {
            self.record
                .add_mapping(hwpt_key, &record_of(&mapping, *memory))?;
        }
        Ok(())
    }

    /// LUO's data: the physical address of the record.
    fn data(&self) -> u64 {
        self.record.phys()
    }

    fn tables(&self) -> u64 {
        let domains = self.domains.iter();
        domains.map(|domain| domain.tables.count()).sum()
    }
}

/// A file of memory, as LUO knows it.
fn memory_of(args: &PreserveArgs<'_>, file: &File) -> Outcome<MemoryFile> {
    let memory = args.token_outgoing(file)?;
    let memory = memory.ok_or(Refusal::MemoryNotInSession)?;
    Ok(MemoryFile {
        data: memory.data,
        token: memory.token,
    })
}

/// Says which mapping the refusal is about that follows in the log.
fn report_mapping(mapping: &iommufd::Mapping<'_>) {
    pr_info!(
        "mapping of {:#x} bytes at {:#x} cannot be preserved\n",
        mapping.length,
        mapping.iova
    );
}

fn record_of(mapping: &iommufd::Mapping<'_>, memory: MemoryKey) -> Mapping {
    Mapping {
        iova: mapping.iova,
        length: mapping.length,
        memory,
        offset: mapping.offset,
        rights: MappingRights {
            read: mapping.facts.has(MemoryFacts::READABLE),
            write: mapping.facts.has(MemoryFacts::WRITEABLE),
        },
    }
}

impl FileHandler for IommufdHandler {
    const COMPATIBLE: &'static CStr = c"hitless-iommufd-v1";

    type Outgoing = KBox<OutgoingIommufd>;

    fn can_preserve(file: &File) -> bool {
        iommufd::is(file)
    }

    fn preserve(args: &PreserveArgs<'_>) -> Result<(u64, Self::Outgoing)> {
        let outgoing = OutgoingIommufd::new(args).map_err(Failure::report)?;
        let outgoing = KBox::new(outgoing, GFP_KERNEL)?;
        pr_info!(
            "preserved iommufd: {} domains, {} tables\n",
            outgoing.domains.len(),
            outgoing.tables()
        );
        log::write(Step::Preserved, Object::Iommufd(outgoing.data()));
        Ok((outgoing.data(), outgoing))
    }

    fn unpreserve(_file: &File, outgoing: Self::Outgoing) {
        let object = Object::Iommufd(outgoing.data());
        drop(outgoing);
        log::write(Step::Unpreserved, object);
    }

    fn freeze(
        _freeze: &Freeze<'_>,
        _file: &File,
        _outgoing: &mut OutgoingIommufd,
    ) -> Result {
        // Nothing about a frozen iommufd can have changed.
        Ok(())
    }

    fn unfreeze(_file: &File, _outgoing: &mut OutgoingIommufd) {}

    fn retrieve(data: u64) -> Result<ARef<File>> {
        if !INCOMING.lock().has_iommufd(data) {
            return Err(EIO);
        }
        // Out of memory or of files: nothing has been given up, and it can be tried again.
        iommufd::create(data).map_err(|_| EAGAIN)
    }

    fn can_finish(data: u64, _file: Option<&File>) -> bool {
        INCOMING.lock().can_finish_iommufd(data)
    }

    fn finish(data: u64, _file: Option<&File>) {
        INCOMING.lock().finish_iommufd(data);
    }
}
