// SPDX-License-Identifier: GPL-2.0-only

//! State taken from the previous kernel.
//!
//! Records are fetched once, early; a device leaves them when its file is finished, a domain when it
//! is released. After the last finish nothing is left and every question is answered with no. The lock
//! is a leaf: no seam but the one that restores a page is called while it is held.

use hitless_core::error::Error as CoreError;
use hitless_core::record::attachment::{
    Domain,
    DomainKey, //
};
use hitless_core::record::iommufd::{
    Mapping,
    MemoryFile, //
};
use hitless_core::record::pci::{
    DeviceAddress,
    Function,
    Kind, //
};
use hitless_core::record::set::{
    Kept,
    Listed,
    Records,
    Verdict, //
};
use hitless_core::record::vfio::{
    DeviceFile,
    Vfio, //
};
use hitless_core::refusal::{
    Family,
    Refusal, //
};
use hitless_core::rules::pci::{
    arrival,
    Arrival,
    ArrivalFacts, //
};
use kernel::prelude::*;

use crate::failure::{
    Failure,
    Outcome,
    Text, //
};
use crate::hardware;
use crate::lent;
use crate::lent::Items;
use crate::part::{
    leaves_out,
    Part, //
};
use crate::tables;

kernel::sync::global_lock! {
    // SAFETY: `hitless_init()` initializes it before anything else here runs.
    pub(crate) unsafe(uninit) static INCOMING: Mutex<Incoming> = Incoming {
        records: Records::new(Items::new()),
        files: KVVec::new(),
    };
}

/// A mapping with its memory file.
pub(crate) type Mapped = (Mapping, MemoryFile);

type IncomingRecords = Records<lent::Incoming, Items<Listed<lent::Incoming>>>;

/// Everything that came.
pub(crate) struct Incoming {
    records: IncomingRecords,
    /// Records of device files in the order of LUO's data, from the first time that one is asked for to finish.
    files: KVVec<IncomingFile>,
}

/// A record of a device file.
struct IncomingFile {
    data: u64,
    /// `Err`: it was refused, and cannot be taken again.
    record: core::result::Result<Vfio<lent::Incoming>, Refusal>,
}

/// All families together.
impl Incoming {
    /// The records, for what is done to units.
    pub(crate) fn records(&mut self) -> &mut IncomingRecords {
        &mut self.records
    }

    /// What the records say of a device.
    pub(crate) fn device(&self, address: DeviceAddress) -> Verdict {
        self.records.device(address)
    }

    /// Whether nothing came, or everything that came is finished.
    pub(crate) fn is_finished(&self) -> bool {
        self.records.is_finished() && self.files.is_empty()
    }
}

/// PCI: which functions came.
impl Incoming {
    /// Takes the record of devices.
    pub(crate) fn take_pci(&mut self, phys: u64) {
        if leaves_out(Part::PciRecord) {
            return;
        }
        if let Err(error) = self.records.take_pci(lent::Incoming::new(), phys) {
            Failure::from(error).report();
        }
    }

    /// The last device file is finished. Gives the functions that were still recorded: nothing about them is left alone
    /// any more.
    pub(crate) fn finish_pci(&mut self) -> KVVec<DeviceAddress> {
        let mut functions = KVVec::new();
        let devices = self.records.pci().taken().into_iter();
        let mut left = devices.flat_map(|devices| devices.iter());
        let listed = left.try_for_each(|function| functions.push(function.address, GFP_KERNEL));
        if listed.is_err() {
            pr_err!("no memory to let go of devices\n");
        }
        drop(left);
        if let Some(lent) = self.records.finish_pci() {
            lent.free();
        }
        functions
    }

    /// The device or bridge at an address, if anything about it is to be left alone.
    pub(crate) fn keeps(&self, address: DeviceAddress) -> Option<Function> {
        self.records.keeps(address)
    }

    /// Whether a function must not be reset: a device on its restored domain, or a bridge above one that came.
    pub(crate) fn runs(&self, address: DeviceAddress) -> bool {
        let function = self.keeps(address);
        function.is_some_and(|function| function.kind == Kind::Bridge)
            || matches!(self.device(address), Verdict::Kept(_))
    }

    /// How does a device go on that is probed?
    pub(crate) fn arrival(&self, address: DeviceAddress, facts: ArrivalFacts) -> Arrival {
        let keeps = self.keeps(address);
        let bridge = keeps.is_some_and(|function| function.kind == Kind::Bridge);
        arrival(facts, &self.device(address), bridge)
    }

    /// Something else is where a device was.
    pub(crate) fn device_refused(&mut self, address: DeviceAddress, refusal: Refusal) {
        self.records.device_stopped(address, refusal);
    }

    /// A device was stopped.
    pub(crate) fn device_stopped(&mut self, address: DeviceAddress) {
        self.records
            .device_stopped(address, Refusal::UnitRefused);
    }

    /// A device is not on its restored domain any more. Gives the domain id that nobody on its unit uses now.
    pub(crate) fn device_left(&mut self, address: DeviceAddress) -> Option<u32> {
        let Verdict::Kept(kept) = self.device(address) else {
            self.records.device_left(address);
            return None;
        };
        let id = kept.attachment.translation.domain_id;
        self.records.device_left(address);
        let iommu = self.records.iommu().taken()?;
        let used = iommu.domain_ids(kept.unit.base).any(|used| used == id);
        (kept.adopted && !used).then_some(id)
    }
}

/// Device files.
impl Incoming {
    /// What the record of a device file says, which is taken at the first time and stays.
    pub(crate) fn file(&mut self, data: u64) -> Outcome<DeviceFile> {
        let place = match self.find(data) {
            Ok(place) => place,
            Err(place) => {
                self.take_file(data, place)?;
                place
            }
        };
        match self.files.get(place).map(|file| &file.record) {
            Some(Ok(record)) => Ok(*record.file()),
            Some(Err(refusal)) => Err((*refusal).into()),
            None => Err(Refusal::NotRecorded(Family::VfioPci).into()),
        }
    }

    /// Where a device file is, or would be.
    fn find(&self, data: u64) -> core::result::Result<usize, usize> {
        self.files.binary_search_by_key(&data, |file| file.data)
    }

    fn take_file(&mut self, data: u64, place: usize) -> Outcome {
        self.files.reserve(1, GFP_KERNEL)?;
        let record = match Vfio::decode(lent::Incoming::new(), data) {
            Ok(record) => Ok(record),
            Err(CoreError::Refused(refusal)) => Err(refusal),
            Err(CoreError::Lender(error)) => return Err(error.into()),
        };
        let file = IncomingFile { data, record };
        let inserted = self.files.insert_within_capacity(place, file);
        inserted.map_err(|_| ENOMEM.into())
    }

    /// What the records say of the device of a device file, if they agree.
    pub(crate) fn kept(&self, file: &DeviceFile) -> core::result::Result<Kept, Refusal> {
        self.records.file(file)
    }

    /// A device file is finished. Gives the device, with the bridges above it, if it is known which one it was.
    pub(crate) fn finish_file(&mut self, data: u64) -> Result<KVec<DeviceAddress>> {
        let mut functions = KVec::new();
        let file = self.find(data).ok();
        let file = file.and_then(|place| self.files.remove(place).ok());
        let Some(Ok(record)) = file.map(|file| file.record) else {
            return Ok(functions);
        };
        let address = record.file().address;
        let devices = self.records.pci().taken().into_iter();
        let bridges = devices.flat_map(|devices| devices.bridges(address));
        let listed = Iterator::chain(core::iter::once(address), bridges)
            .try_for_each(|function| functions.push(function, GFP_KERNEL));
        self.records.finish_device(address);
        record.into_lender().free();
        listed?;
        Ok(functions)
    }

    /// Whether a device may be running on tables of the previous kernel.
    pub(crate) fn is_running(&self, address: DeviceAddress) -> bool {
        self.records.is_running(address)
    }

    /// Whether any device may be.
    pub(crate) fn is_any_running(&self) -> bool {
        self.records.is_any_running()
    }

    /// May the device bind to the iommufd with this key? Gives the token of the HWPT that it runs on; `None`: it
    /// does not run on any.
    pub(crate) fn binds(&self, iommufd: u64, address: DeviceAddress) -> Result<Option<u64>> {
        match self.device(address) {
            Verdict::Kept(kept) if kept.domain.iommufd == iommufd => Ok(Some(kept.domain.token)),
            Verdict::Kept(_) => Err(EPERM),
            Verdict::Unknown | Verdict::Refused(_) | Verdict::Left(_) => Ok(None),
        }
    }
}

/// IOMMU: which tables came, and which memory they map.
impl Incoming {
    /// Takes the record of units, domains and attachments, and those of the iommufds.
    ///
    /// The record of devices is taken first.
    pub(crate) fn take_iommu(&mut self, phys: u64) {
        let taken = self.records.take_iommu(
            lent::Incoming::new(),
            phys,
            hardware::IN_RECORDS,
            lent::Incoming::new,
            |iommufd, error| match error {
                CoreError::Refused(refusal) => {
                    pr_warn!("iommufd at {:#x} is refused: {}\n", iommufd, Text(*refusal));
                }
                CoreError::Lender(_) => pr_warn!("no memory for iommufd at {:#x}\n", iommufd),
            },
        );
        if let Err(error) = taken {
            Failure::from(error).report();
        }
    }

    /// The last iommufd and the last device file are finished: nothing walks the tables any more.
    pub(crate) fn finish_iommu(&mut self) {
        if let Some(iommu) = self.records.finish_iommu() {
            let mut in_use = false;
            for (key, domain) in iommu.domains() {
                // What LUO finishes and what the records say need not agree: hardware has the last word.
                if iommu.users(key) == 0 {
                    tables::release(&domain);
                } else {
                    pr_err!("a device still uses domain {}: its tables are lost\n", key.get());
                    in_use = true;
                }
            }
            if !in_use {
                iommu.into_lender().free();
            }
        }
        while let Some(lent) = self.records.finish_any_iommufd() {
            lent.free();
        }
    }

    /// How many devices use a domain's tables under an id on a unit, whether they have been probed or not.
    pub(crate) fn id_users(&self, key: DomainKey, base: u64, id: u32) -> usize {
        let iommu = self.records.iommu().taken().into_iter();
        let users = iommu.flat_map(|iommu| iommu.behind(base));
        let users = users.filter(|(_, attachment)| {
            attachment.is_ok_and(|attachment| {
                attachment.domain == key && attachment.translation.domain_id == id
            })
        });
        users.count()
    }

    /// Forgets a domain that is gone from hardware and caches; the caller frees its tables.
    ///
    /// `None` also if a device that has not come up yet still points to its tables.
    pub(crate) fn release(&mut self, key: DomainKey) -> Option<Domain> {
        self.records.release(key)
    }

    /// How many devices use a domain's tables, whether they have been probed or not.
    pub(crate) fn users(&self, key: DomainKey) -> u32 {
        self.records.users(key)
    }
}

/// Iommufds.
impl Incoming {
    /// Whether there is an iommufd with this key.
    pub(crate) fn has_iommufd(&self, key: u64) -> bool {
        self.records.iommufd(key).is_some()
    }

    /// The domain of a HWPT of an iommufd, until it is released.
    pub(crate) fn hwpt(&self, iommufd: u64, token: u64) -> Option<DomainKey> {
        Some(self.records.hwpt(iommufd, token).ok()?.0)
    }

    /// What a HWPT of an iommufd maps, from number `from` on, and how many mappings it has in all.
    pub(crate) fn mappings(
        &self,
        iommufd: u64,
        token: u64,
        from: u32,
    ) -> Option<(u32, impl Iterator<Item = Mapped> + '_)> {
        let hwpt = self.records.iommufd(iommufd)?.hwpt(token)?;
        let mappings = self.records.mappings(iommufd, token, from);
        Some((hwpt.mappings, mappings))
    }

    /// Whether hardware may still use a table of an iommufd's.
    pub(crate) fn is_outstanding(&self, key: u64) -> bool {
        self.records.is_outstanding(key)
    }

    /// Whether an iommufd may be finished: hardware uses no table of its.
    pub(crate) fn can_finish_iommufd(&self, key: u64) -> bool {
        if let Some(token) = self.records.outstanding_hwpt(key) {
            pr_info!(
                "finish: HWPT with token {:#x} is outstanding: swap it\n",
                token
            );
        }
        !self.is_outstanding(key)
    }

    /// An iommufd is finished.
    pub(crate) fn finish_iommufd(&mut self, key: u64) {
        if let Some(lent) = self.records.finish_iommufd(key) {
            lent.free();
        }
    }
}
