// SPDX-License-Identifier: GPL-2.0-only

//! An iommufd: its marked HWPTs, their tables, and the memory behind them.

use hitless_core::model::{
    Domain,
    DomainKey, //
};
use hitless_core::refusal::Refusal;
use hitless_core::rules;
use hitless_core::wire::iommufd::Iommufd;
use kernel::fs::File;
use kernel::kho::PreservedPage;
use kernel::liveupdate::{
    FileHandler,
    PreserveArgs, //
};
use kernel::prelude::*;
use kernel::sync::aref::ARef;

use crate::entry::{
    self,
    FrozenIommufd,
    Hwpt, //
};
use crate::errno::{
    Failure,
    Outcome, //
};
use crate::incoming::INCOMING;
use crate::outgoing::OUTGOING;
use crate::tables::HandedOver;

/// LUO's handler of iommufds.
pub(crate) struct IommufdHandler;

/// A preserved iommufd. Dropping it undoes everything but the freeze.
pub(crate) struct OutgoingIommufd {
    // Dropped in this order: domains first, while the page that names them is still there.
    domains: KVec<OutgoingDomain>,
    record: Iommufd<PreservedPage>,
}

/// A recorded domain. Dropping it removes it from the records and takes back its tables.
struct OutgoingDomain {
    key: DomainKey,
    tables: HandedOver,
}

impl OutgoingDomain {
    fn new(iommufd: u64, hwpt: &Hwpt) -> Outcome<Self> {
        rules::preserve::hwpt(hwpt.facts)?;
        let table = hwpt.table.ok_or(Refusal::UnknownTable)?;
        let tables = HandedOver::new(&table)?;
        let key = OUTGOING.lock().add_domain(&Domain {
            table,
            list: tables.list(),
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
    /// Records the marked HWPTs of a frozen iommufd.
    fn new(args: &PreserveArgs<'_>, frozen: &FrozenIommufd<'_>) -> Outcome<Self> {
        let hwpts = frozen.hwpts()?;
        if hwpts.is_empty() {
            return Err(Refusal::NothingMarked.into());
        }
        let mut this = Self {
            domains: KVec::new(),
            record: Iommufd::create(PreservedPage::new()?),
        };
        for hwpt in &hwpts {
            this.add(args, frozen, hwpt)?;
        }
        Ok(this)
    }

    fn add(&mut self, args: &PreserveArgs<'_>, frozen: &FrozenIommufd<'_>, hwpt: &Hwpt) -> Outcome {
        let domain = OutgoingDomain::new(self.data(), hwpt)?;
        let key = domain.key;
        self.domains.push(domain, GFP_KERNEL)?;
        self.record.add_hwpt(hwpt.token, key)?;
        let files = frozen.files(hwpt)?;
        rules::preserve::memory(files.len())?;
        for file in &files {
            let memory = args.sibling(file)?.ok_or(Refusal::MemoryNotInSession)?;
            self.record.add_memory(key, memory.data)?;
        }
        Ok(())
    }

    /// LUO's data: the physical address of the record.
    fn data(&self) -> u64 {
        self.record.page().phys()
    }

    fn tables(&self) -> u64 {
        let domains = self.domains.iter();
        domains.map(|domain| domain.tables.count()).sum()
    }
}

impl FileHandler for IommufdHandler {
    const COMPATIBLE: &'static CStr = c"hitless-iommufd-v1";

    type Outgoing = KBox<OutgoingIommufd>;

    fn can_preserve(file: &File) -> bool {
        entry::iommufd_is(file)
    }

    fn preserve(args: &PreserveArgs<'_>) -> Result<(u64, Self::Outgoing)> {
        let frozen = FrozenIommufd::new(args.file())?;
        let outgoing = OutgoingIommufd::new(args, &frozen).map_err(Failure::report)?;
        let outgoing = KBox::new(outgoing, GFP_KERNEL)?;
        pr_info!(
            "preserved iommufd: {} domains, {} tables\n",
            outgoing.domains.len(),
            outgoing.tables()
        );
        frozen.keep();
        Ok((outgoing.data(), outgoing))
    }

    fn unpreserve(file: &File, outgoing: Self::Outgoing) {
        drop(outgoing);
        FrozenIommufd::kept(file);
    }

    fn freeze(_file: &File, _outgoing: &OutgoingIommufd) -> Result {
        // Nothing about a frozen iommufd can have changed.
        Ok(())
    }

    fn retrieve(data: u64) -> Result<ARef<File>> {
        if !INCOMING.lock().has_iommufd(data) {
            return Err(EIO);
        }
        // Out of memory or of files: nothing has been given up, and it can be tried again.
        entry::iommufd_create(data).map_err(|_| EAGAIN)
    }

    fn can_finish(data: u64, _file: Option<&File>) -> bool {
        INCOMING.lock().can_finish_iommufd(data)
    }

    fn finish(data: u64, _file: Option<&File>) {
        INCOMING.lock().finish_iommufd(data);
    }
}
