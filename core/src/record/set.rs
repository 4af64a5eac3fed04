// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! All families together: the only way to the records of the previous kernel.
//!
//! Each family is checked by itself when it is decoded. What one leaves to another is checked here: a
//! domain that no iommufd lists has memory that nobody pins, a device that only one record knows is not
//! blocked by the other. Blame is as narrow as can be told apart: what is wrong with a device refuses that
//! device, what is wrong with an iommufd's record its devices; only a family that cannot be read at all
//! refuses all that it may have spoken of.

use super::attachment::{Attachment, Domain, DomainKey, Unit};
use super::hardware::Kinds;
use super::iommu::Iommu;
use super::iommufd::{Iommufd, Mapping, MemoryFile};
use super::lender::{Lender, Shelf, Take};
use super::pci::{DeviceAddress, Devices, Function};
use super::vfio::DeviceFile;
use crate::error::Error;
use crate::refusal::{Family, Refusal};

/// Records that may have come.
#[derive(Debug)]
pub enum State<T> {
    /// There are none, or everything in them is finished.
    Absent,
    /// They came and are refused as a whole. What they spoke of is unknown.
    Refused(Refusal),
    /// They came and were read.
    Taken(T),
}

impl<T> State<T> {
    /// The records, if they were read.
    pub const fn taken(&self) -> Option<&T> {
        match self {
            Self::Taken(value) => Some(value),
            Self::Absent | Self::Refused(_) => None,
        }
    }

    fn taken_mut(&mut self) -> Option<&mut T> {
        match self {
            Self::Taken(value) => Some(value),
            Self::Absent | Self::Refused(_) => None,
        }
    }

    fn finish(&mut self) -> Option<T> {
        match core::mem::replace(self, Self::Absent) {
            Self::Taken(value) => Some(value),
            Self::Absent | Self::Refused(_) => None,
        }
    }

    /// Keeps what was decoded; says what went wrong.
    fn take<E>(&mut self, decoded: Result<T, Error<E>>, family: Family) -> Result<(), Error<E>> {
        match decoded {
            Ok(value) => {
                *self = Self::Taken(value);
                Ok(())
            }
            Err(error) => {
                *self = Self::Refused(match &error {
                    Error::Refused(refusal) => *refusal,
                    Error::Lender(_) => Refusal::NotHandedOver(family),
                });
                Err(error)
            }
        }
    }
}

/// The record of an iommufd that domains name.
#[derive(Debug)]
pub struct Listed<L> {
    phys: u64,
    state: State<Iommufd<L>>,
}

/// What the records say of a device that was kept running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The function.
    pub function: Function,
    /// Its attachment.
    pub attachment: Attachment,
    /// The unit that translates for it.
    pub unit: Unit,
    /// The domain that it is attached to.
    pub domain: Domain,
    /// The unit goes on with the tables it has.
    pub adopted: bool,
}

/// What the records say of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it is any device.
    Unknown,
    /// It was kept running, and cannot be taken over.
    Refused(Refusal),
    /// It runs on its restored domain.
    Kept(Kept),
    /// It was kept running and has left its restored domain; its file is not finished yet.
    Left(Function),
}

/// What one family says of a device.
enum Answer<T> {
    Nothing,
    /// The family cannot be read.
    Unknown(Refusal),
    Known(Result<T, Refusal>),
}

impl<T> Answer<T> {
    fn new<R>(state: &State<R>, ask: impl FnOnce(&R) -> Option<Result<T, Refusal>>) -> Self {
        match state {
            State::Absent => Self::Nothing,
            State::Refused(refusal) => Self::Unknown(*refusal),
            State::Taken(records) => ask(records).map_or(Self::Nothing, Self::Known),
        }
    }
}

/// The records of the previous kernel, from boot until everything in them is finished.
#[derive(Debug)]
pub struct Records<L, S> {
    pci: State<Devices<L>>,
    iommu: State<Iommu<L>>,
    /// By address.
    iommufds: S,
    /// Every unit has a root table of this kernel: what was refused is blocked.
    ready: bool,
}

impl<L, S> Records<L, S> {
    /// Nothing has come yet. `iommufds` is empty.
    pub const fn new(iommufds: S) -> Self {
        Self {
            pci: State::Absent,
            iommu: State::Absent,
            iommufds,
            ready: false,
        }
    }
}

/// Taking.
impl<L: Take, S: Shelf<Listed<L>, Error = L::Error>> Records<L, S> {
    /// Takes the record of devices, of which the first page is at `phys`: before the next.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or the lender's; either is kept as the reason to refuse.
    pub fn take_pci(&mut self, lender: L, phys: u64) -> Result<(), Error<L::Error>> {
        self.pci.take(Devices::decode(lender, phys), Family::Pci)
    }

    /// Takes the record of units, domains and attachments, and those of the iommufds, each with a lender of its
    /// own. Of an iommufd that is refused `report` is told.
    ///
    /// # Errors
    ///
    /// What is wrong with the record, or the lender's; either is kept as the reason to refuse.
    pub fn take_iommu(
        &mut self,
        lender: L,
        phys: u64,
        kinds: Kinds,
        mut lend: impl FnMut() -> L,
        mut report: impl FnMut(u64, &Error<L::Error>),
    ) -> Result<(), Error<L::Error>> {
        let decoded = Iommu::decode(lender, phys, kinds);
        self.iommu.take(decoded, Family::Iommu)?;
        let mut next = 0;
        loop {
            let iommu = self.iommu.taken();
            let found = iommu.and_then(|iommu| iommu.iommufds_from(next).next());
            let Some(phys) = found else {
                return Ok(());
            };
            let mut state = State::Absent;
            let decoded = Iommufd::decode(lend(), phys);
            if let Err(error) = state.take(decoded, Family::Iommufd) {
                report(phys, &error);
            }
            // In the order of addresses, so that it can be found.
            if let Err(error) = self.iommufds.push(Listed { phys, state }) {
                self.iommu = State::Refused(Refusal::NotHandedOver(Family::Iommufd));
                return Err(Error::Lender(error));
            }
            next = phys.saturating_add(1);
        }
    }
}

/// Devices.
impl<L: Lender, S: Shelf<Listed<L>>> Records<L, S> {
    /// Whether there are none, or everything in them is finished.
    pub fn is_finished(&self) -> bool {
        let mut iommufds = self.iommufds.items().iter();
        let absent = |listed: &Listed<L>| matches!(listed.state, State::Absent);
        matches!((&self.pci, &self.iommu), (State::Absent, State::Absent)) && iommufds.all(absent)
    }

    /// The record of devices.
    pub const fn pci(&self) -> &State<Devices<L>> {
        &self.pci
    }

    /// The record of units, domains and attachments.
    pub const fn iommu(&self) -> &State<Iommu<L>> {
        &self.iommu
    }

    /// What the records say of the device at an address.
    pub fn device(&self, address: DeviceAddress) -> Verdict {
        let function = Answer::new(&self.pci, |devices| devices.endpoint(address));
        let attachment = Answer::new(&self.iommu, |iommu| iommu.attachment(address));
        let (function, attachment) = match (function, attachment) {
            (Answer::Nothing, Answer::Nothing | Answer::Unknown(_)) => {
                return match &self.pci {
                    State::Refused(refusal) => Verdict::Refused(*refusal),
                    State::Absent | State::Taken(_) => Verdict::Unknown,
                }
            }
            (Answer::Unknown(_), Answer::Nothing) if self.iommu.taken().is_some() => {
                return Verdict::Unknown
            }
            (Answer::Unknown(refusal), _) | (Answer::Known(_), Answer::Unknown(refusal)) => {
                return Verdict::Refused(refusal)
            }
            (Answer::Nothing, Answer::Known(_)) => {
                return Verdict::Refused(Refusal::NotRecorded(Family::Pci))
            }
            (Answer::Known(Err(refusal)), _) | (_, Answer::Known(Err(refusal))) => {
                return Verdict::Refused(refusal)
            }
            (Answer::Known(Ok(function)), Answer::Nothing) => {
                let devices = self.pci.taken();
                return match devices.is_some_and(|devices| devices.has_left(address)) {
                    true => Verdict::Left(function),
                    false => Verdict::Refused(Refusal::NotRecorded(Family::Iommu)),
                };
            }
            (Answer::Known(Ok(function)), Answer::Known(Ok(attachment))) => (function, attachment),
        };
        match self.check(function, attachment) {
            Ok(kept) => Verdict::Kept(kept),
            Err(refusal) => Verdict::Refused(refusal),
        }
    }

    fn check(&self, function: Function, attachment: Attachment) -> Result<Kept, Refusal> {
        let iommu = self.iommu.taken();
        let iommu = iommu.ok_or(Refusal::NotRecorded(Family::Iommu))?;
        let domain = iommu.domain(attachment.domain)?;
        self.check_hwpt(attachment.domain, &domain)?;
        let unit = iommu.unit_of(&attachment)?;
        Ok(Kept {
            function,
            attachment,
            unit,
            domain,
            adopted: iommu.is_adopted(unit.base),
        })
    }

    /// Does the iommufd list the domain as that of a HWPT that maps something? Nobody would pin its memory
    /// otherwise.
    fn check_hwpt(&self, key: DomainKey, domain: &Domain) -> Result<(), Refusal> {
        const MISSING: Refusal = Refusal::NotRecorded(Family::Iommufd);
        let listed = self.listed(domain.iommufd).ok_or(MISSING)?;
        let iommufd = match &listed.state {
            State::Absent => return Err(MISSING),
            State::Refused(refusal) => return Err(*refusal),
            State::Taken(iommufd) => iommufd,
        };
        let hwpt = iommufd.hwpt(domain.token).ok_or(MISSING)?;
        if hwpt.domain != key {
            Err(Refusal::Contradictory(Family::Iommufd))
        } else if hwpt.mappings == 0 {
            Err(MISSING)
        } else {
            Ok(())
        }
    }

    /// What the records say of the device of a VFIO device file.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotRecorded`], [`Refusal::HwptNotPreserved`] if the device is on another HWPT than the file says,
    /// [`Refusal::UnitRefused`] if its unit does not go on with the tables it had, and what is wrong with the device.
    pub fn file(&self, file: &DeviceFile) -> Result<Kept, Refusal> {
        match self.device(file.address) {
            Verdict::Kept(kept)
                if (kept.domain.iommufd, kept.domain.token) == (file.iommufd, file.hwpt_token) =>
            {
                match kept.adopted {
                    true => Ok(kept),
                    false => Err(Refusal::UnitRefused),
                }
            }
            Verdict::Kept(_) => Err(Refusal::HwptNotPreserved),
            Verdict::Refused(refusal) => Err(refusal),
            Verdict::Unknown | Verdict::Left(_) => Err(Refusal::NotRecorded(Family::Pci)),
        }
    }

    /// The device or bridge at an address, if anything about it is to be left alone: until the last file that
    /// needs it is finished, or the device was stopped. A bridge stays as long as a device below it runs.
    pub fn keeps(&self, address: DeviceAddress) -> Option<Function> {
        let function = self.pci.taken()?.find(address)?.ok()?;
        match self.device(address) {
            // Only devices are refused.
            Verdict::Refused(_) => None,
            Verdict::Unknown | Verdict::Kept(_) | Verdict::Left(_) => Some(function),
        }
    }

    /// A device is not on its restored domain any more.
    pub fn device_left(&mut self, address: DeviceAddress) {
        if let State::Taken(iommu) = &mut self.iommu {
            iommu.remove_attachment(address);
        }
        if let State::Taken(devices) = &mut self.pci {
            devices.set_left(address);
        }
    }

    /// A device was stopped, and is refused from now on.
    pub fn device_stopped(&mut self, address: DeviceAddress, refusal: Refusal) {
        if let State::Taken(iommu) = &mut self.iommu {
            iommu.stop(address, refusal);
        }
    }

    /// The file of a device is finished: the device is any device again.
    pub fn finish_device(&mut self, address: DeviceAddress) {
        if let State::Taken(devices) = &mut self.pci {
            devices.remove(address);
        }
        if let State::Taken(iommu) = &mut self.iommu {
            iommu.remove_attachment(address);
        }
    }

    /// Whether a device may be running on tables of the previous kernel.
    pub fn is_running(&self, address: DeviceAddress) -> bool {
        let iommu = self.iommu.taken();
        iommu.is_some_and(|iommu| iommu.is_running(address)) || self.is_unknown_running()
    }

    /// Whether any device may be.
    pub fn is_any_running(&self) -> bool {
        let iommu = self.iommu.taken();
        iommu.is_some_and(Iommu::is_any_running) || self.is_unknown_running()
    }

    /// Whether records of the IOMMU were refused whose devices may be running all the same.
    pub fn is_unknown_running(&self) -> bool {
        matches!(self.iommu, State::Refused(_)) && !self.ready
    }

    /// The last device file is finished: gives the memory back.
    pub fn finish_pci(&mut self) -> Option<L> {
        self.pci.finish().map(Devices::into_lender)
    }
}

/// Units and domains.
impl<L: Lender, S: Shelf<Listed<L>>> Records<L, S> {
    /// The device behind a unit that follows another in the order of addresses, whatever is wrong with it.
    pub fn next_behind(&self, base: u64, after: Option<DeviceAddress>) -> Option<DeviceAddress> {
        self.iommu.taken()?.next_behind(base, after)
    }

    /// Takes the pages that translate for a device back from the handover, page table apart, with `restore`, which
    /// is asked once for each page.
    ///
    /// # Errors
    ///
    /// The first of `restore`.
    pub fn restore_pages(
        &mut self,
        address: DeviceAddress,
        restore: impl FnMut(u64) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        match &mut self.iommu {
            State::Taken(iommu) => iommu.restore_pages(address, restore),
            State::Absent => Err(Refusal::NotRecorded(Family::Iommu)),
            State::Refused(refusal) => Err(*refusal),
        }
    }

    /// A unit goes on with the tables it has.
    pub fn unit_adopted(&mut self, base: u64) {
        if let Some(iommu) = self.iommu.taken_mut() {
            iommu.set_adopted(base);
        }
    }

    /// A unit's tables are refused. It is blocked once it has its root table.
    pub fn unit_refused(&mut self, base: u64, refusal: Refusal) {
        if let Some(iommu) = self.iommu.taken_mut() {
            iommu.refuse_unit(base, refusal);
            if self.ready {
                iommu.stop_refused();
            }
        }
    }

    /// Every unit has a root table of this kernel: what was refused is blocked. A unit that nobody has looked
    /// at, because this kernel does not use it, goes on with what it has.
    pub fn set_ready(&mut self) {
        self.ready = true;
        if let Some(iommu) = self.iommu.taken_mut() {
            iommu.stop_refused();
        }
    }

    /// How many devices may be using a domain's tables, whether they have been probed or not.
    pub fn users(&self, domain: DomainKey) -> u32 {
        self.iommu.taken().map_or(0, |iommu| iommu.users(domain))
    }

    /// Forgets a domain that is gone from hardware and caches; the caller frees its tables. `None`: a device
    /// may still be using them.
    pub fn release(&mut self, domain: DomainKey) -> Option<Domain> {
        self.iommu.taken_mut()?.remove_domain(domain)
    }

    /// The last iommufd and the last device file are finished. What nobody released is the caller's to release;
    /// what is left of iommufds comes from [`Self::finish_any_iommufd`].
    pub fn finish_iommu(&mut self) -> Option<Iommu<L>> {
        self.iommu.finish()
    }
}

/// Iommufds.
impl<L: Lender, S: Shelf<Listed<L>>> Records<L, S> {
    fn position(&self, phys: u64) -> Option<usize> {
        let listed = self.iommufds.items();
        listed
            .binary_search_by_key(&phys, |listed| listed.phys)
            .ok()
    }

    fn listed(&self, phys: u64) -> Option<&Listed<L>> {
        self.iommufds.items().get(self.position(phys)?)
    }

    /// The record of the iommufd with this data of LUO's, until it is finished.
    pub fn iommufd(&self, phys: u64) -> Option<&Iommufd<L>> {
        self.listed(phys)?.state.taken()
    }

    /// The domain of the HWPT with a token of an iommufd, until it is released.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or [`Refusal::NotRecorded`].
    pub fn hwpt(&self, iommufd: u64, token: u64) -> Result<(DomainKey, Domain), Refusal> {
        let iommu = self.iommu.taken();
        let found = iommu.and_then(|iommu| iommu.domain_of(iommufd, token));
        let (key, domain) = found.ok_or(Refusal::NotRecorded(Family::Iommu))?;
        self.check_hwpt(key, &domain)?;
        Ok((key, domain))
    }

    /// The mappings of the HWPT with a token of an iommufd from number `from` on, each with its memory file.
    /// [`Iommufd::position`] says which number an address has.
    pub fn mappings(
        &self,
        iommufd: u64,
        token: u64,
        from: u32,
    ) -> impl Iterator<Item = (Mapping, MemoryFile)> + '_ {
        let iommufd = self.iommufd(iommufd).into_iter();
        iommufd.flat_map(move |iommufd| {
            let mappings = iommufd.mappings(token, from);
            mappings.filter_map(|mapping| Some((mapping, iommufd.memory(mapping.memory)?)))
        })
    }

    /// Whether a device may be using tables of an iommufd's domains.
    pub fn is_outstanding(&self, iommufd: u64) -> bool {
        let iommu = self.iommu.taken();
        iommu.is_some_and(|iommu| iommu.is_outstanding(iommufd)) || self.is_unknown_running()
    }

    /// A HWPT of an iommufd that devices may be using: why the iommufd cannot be finished.
    pub fn outstanding_hwpt(&self, iommufd: u64) -> Option<u64> {
        let mut hwpts = self.iommufd(iommufd)?.hwpts();
        hwpts.find_map(|hwpt| (self.users(hwpt.domain) != 0).then_some(hwpt.token))
    }

    /// Whether the memory with this data of LUO's is that of an iommufd that is outstanding.
    pub fn maps(&self, data: u64) -> bool {
        let mut listed = self.iommufds.items().iter();
        let maps = listed.any(|listed| {
            let iommufd = listed.state.taken();
            iommufd.is_some_and(|iommufd| iommufd.memory_with(data).is_some())
                && self.is_outstanding(listed.phys)
        });
        maps || self.is_unknown_running()
    }

    /// An iommufd is finished: gives the memory back.
    pub fn finish_iommufd(&mut self, phys: u64) -> Option<L> {
        let position = self.position(phys)?;
        let listed = self.iommufds.items_mut().get_mut(position)?;
        listed.state.finish().map(Iommufd::into_lender)
    }

    /// Gives the memory of some iommufd back that is not finished.
    pub fn finish_any_iommufd(&mut self) -> Option<L> {
        let mut listed = self.iommufds.items_mut().iter_mut();
        let iommufd = listed.find_map(|listed| listed.state.finish());
        iommufd.map(Iommufd::into_lender)
    }
}
