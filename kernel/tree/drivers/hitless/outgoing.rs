// SPDX-License-Identifier: GPL-2.0-only

//! State given to the next kernel.
//!
//! It exists while a preserved file needs it, and consists of records in pages and of the index of their
//! entries. The lock is a leaf but for those of the allocator, of kexec handover and of the log: no seam is
//! called while it is held.

use hitless_core::record::attachment::{
    Attachment,
    Domain,
    DomainKey,
    Translation,
    Unit, //
};
use hitless_core::record::iommu::Iommu;
use hitless_core::record::log::{
    Object,
    Step, //
};
use hitless_core::record::pci::{
    DeviceAddress,
    Devices,
    Function,
    Identity, //
};
use hitless_core::refusal::{
    Family,
    Refusal, //
};
use hitless_core::rules;
use hitless_core::rules::image::Image;
use kernel::kho;
use kernel::prelude::*;

use crate::failure::Outcome;
use crate::hardware;
use crate::lent;
use crate::log;

kernel::sync::global_lock! {
    // SAFETY: `hitless_init()` initializes it before anything else here runs.
    pub(crate) unsafe(uninit) static OUTGOING: Mutex<Outgoing> = Outgoing {
        pci: None,
        iommu: None,
        image: None,
        asleep: 0,
    };
}

/// The records, each while there is a file that needs it.
pub(crate) struct Outgoing {
    pci: Option<Devices<lent::Outgoing>>,
    iommu: Option<Iommu<lent::Outgoing>>,
    /// The image that the machine is about to jump into, or was the last time.
    image: Option<Image>,
    /// So often it is on its way to sleep, for a sleep can begin while an image for another one is held: nothing may be
    /// preserved until it is awake from all.
    asleep: u32,
}

/// What LUO has to have arranged before a handler asks.
const NO_RECORDS: Refusal = Refusal::NotRecorded(Family::Iommu);

impl Outgoing {
    /// Makes the record of devices; gives its physical address.
    pub(crate) fn create_pci(&mut self) -> Outcome<u64> {
        rules::sleep::preserve(self.asleep > 0)?;
        let devices = self.pci.insert(Devices::create(lent::Outgoing::new())?);
        Ok(devices.phys())
    }

    /// Undo of [`Self::create_pci`].
    pub(crate) fn drop_pci(&mut self) {
        self.pci = None;
    }

    /// Makes the record of units, domains and attachments; gives its physical address.
    pub(crate) fn create_iommu(&mut self) -> Outcome<u64> {
        rules::sleep::preserve(self.asleep > 0)?;
        let iommu = Iommu::create(lent::Outgoing::new(), hardware::IN_RECORDS)?;
        Ok(self.iommu.insert(iommu).phys())
    }

    /// Undo of [`Self::create_iommu`].
    pub(crate) fn drop_iommu(&mut self) {
        self.iommu = None;
    }

    /// The machine goes to sleep, if nothing is preserved.
    pub(crate) fn sleep(&mut self, unfinished: bool) -> Outcome {
        let preserved = self.pci.is_some() || self.iommu.is_some();
        rules::sleep::sleep(preserved, unfinished)?;
        self.asleep += 1;
        Ok(())
    }

    /// Undo of [`Self::sleep`].
    pub(crate) fn wake(&mut self) {
        self.asleep = self.asleep.saturating_sub(1);
    }

    /// Records a domain.
    pub(crate) fn add_domain(&mut self, domain: &Domain) -> Outcome<DomainKey> {
        let iommu = self.iommu.as_mut().ok_or(NO_RECORDS)?;
        Ok(iommu.add_domain(domain)?)
    }

    /// Undo of [`Self::add_domain`].
    pub(crate) fn remove_domain(&mut self, key: DomainKey) {
        if let Some(iommu) = &mut self.iommu {
            iommu.remove_domain(key);
        }
    }

    /// The domain of the HWPT with a token of an iommufd.
    pub(crate) fn domain_of(&self, iommufd: u64, token: u64) -> Option<(DomainKey, Domain)> {
        self.iommu.as_ref()?.domain_of(iommufd, token)
    }

    /// Records a device with the bridges above it, nearest first, and hands over the pages that translate
    /// for it, down to its page table. Pages shared with other devices are handed over once.
    pub(crate) fn add_device(
        &mut self,
        address: DeviceAddress,
        identity: Identity,
        bridges: &[DeviceAddress],
        unit: &Unit,
        domain: DomainKey,
        translation: &Translation,
    ) -> Outcome {
        let iommu = self.iommu.as_mut().ok_or(NO_RECORDS)?;
        let pci = self.pci.as_mut().ok_or(NO_RECORDS)?;

        iommu.add_attachment(unit, address, domain, translation)?;
        if let Err(error) = pci.add(address, identity, bridges.iter().copied()) {
            iommu.remove_attachment(address);
            return Err(error.into());
        }
        if let Err(error) = preserve_all(|| iommu.pages_alone(address)) {
            pci.remove(address);
            iommu.remove_attachment(address);
            return Err(error.into());
        }
        log::write(Step::Preserved, Object::Function(address));
        Ok(())
    }

    /// Undo of [`Self::add_device`].
    pub(crate) fn remove_device(&mut self, address: DeviceAddress) {
        if let Some(pci) = &mut self.pci {
            pci.remove(address);
        }
        if let Some(iommu) = &mut self.iommu {
            iommu
                .pages_alone(address)
                .for_each(kho::unpreserve_page);
            iommu.remove_attachment(address);
        }
        log::write(Step::Unpreserved, Object::Function(address));
    }

    /// The device or bridge at an address, if it takes part.
    pub(crate) fn function(&self, address: DeviceAddress) -> Option<Function> {
        self.pci.as_ref()?.find(address)?.ok()
    }

    /// The machine is about to jump into an image: files are frozen next.
    pub(crate) fn jumps_into(&mut self, image: Image) {
        self.image = Some(image);
    }

    /// Does the image that the machine is about to jump into take over a device?
    pub(crate) fn fits(&self, address: DeviceAddress) -> Outcome {
        let iommu = self.iommu.as_ref().ok_or(NO_RECORDS)?;
        let uses = iommu.uses_of(address).ok_or(Refusal::NotAttached)?;
        let image = self.image.as_ref().ok_or(Refusal::NoHandover)?;
        Ok(rules::image::device(image, uses)?)
    }

    /// A device's attachment, with its unit and its domain.
    pub(crate) fn attached(&self, address: DeviceAddress) -> Option<(Unit, Attachment, Domain)> {
        let iommu = self.iommu.as_ref()?;
        let attachment = iommu.attachment(address)?.ok()?;
        let unit = iommu.unit_of(&attachment).ok()?;
        Some((unit, attachment, iommu.domain(attachment.domain).ok()?))
    }

    /// The unit with a register base, if devices behind it take part. Any context.
    pub(crate) fn unit(&self, base: u64) -> Option<Unit> {
        self.iommu.as_ref()?.unit(base)?.ok()
    }

    /// The record of units, domains and attachments, if there is one. Any context.
    pub(crate) fn iommu(&self) -> Option<&Iommu<lent::Outgoing>> {
        self.iommu.as_ref()
    }
}

/// Hands over pages, all or none. `pages` gives the same ones each time.
fn preserve_all<I: Iterator<Item = u64>>(pages: impl Fn() -> I) -> Result {
    for (done, page) in pages().enumerate() {
        if let Err(error) = kho::preserve_page(page) {
            pages().take(done).for_each(kho::unpreserve_page);
            return Err(error);
        }
    }
    Ok(())
}
