// SPDX-License-Identifier: GPL-2.0-only

//! State given to the next kernel.
//!
//! It exists while a preserved file needs it, and consists of two pages. The lock is a leaf but for
//! those of the allocator and of kexec handover: no seam is called while it is held.

use hitless_core::model::{
    Attachment,
    Device,
    DeviceAddress,
    Domain,
    DomainKey,
    Identity,
    Unit, //
};
use hitless_core::refusal::{
    Family,
    Refusal, //
};
use hitless_core::wire::{
    iommu::Iommu,
    pci::Devices, //
};
use kernel::kho::{
    self,
    PreservedPage, //
};
use kernel::prelude::*;

use crate::failure::Outcome;

kernel::sync::global_lock! {
    // SAFETY: `hitless_init()` initializes it before anything else here runs.
    pub(crate) unsafe(uninit) static OUTGOING: Mutex<Outgoing> = Outgoing {
        pci: None,
        iommu: None,
    };
}

/// The records, each while there is a file that needs it.
pub(crate) struct Outgoing {
    pci: Option<Devices<PreservedPage>>,
    iommu: Option<Iommu<PreservedPage>>,
}

/// What LUO has to have arranged before a handler asks.
const NO_RECORDS: Refusal = Refusal::NotRecorded(Family::Iommu);

impl Outgoing {
    /// Makes the record of devices; gives its physical address.
    pub(crate) fn create_pci(&mut self) -> Result<u64> {
        let page = PreservedPage::new()?;
        let phys = page.phys();
        self.pci = Some(Devices::create(page));
        Ok(phys)
    }

    /// Undo of [`Self::create_pci`].
    pub(crate) fn drop_pci(&mut self) {
        self.pci = None;
    }

    /// Makes the record of units, domains and attachments; gives its physical address.
    pub(crate) fn create_iommu(&mut self) -> Result<u64> {
        let page = PreservedPage::new()?;
        let phys = page.phys();
        self.iommu = Some(Iommu::create(page));
        Ok(phys)
    }

    /// Undo of [`Self::create_iommu`].
    pub(crate) fn drop_iommu(&mut self) {
        self.iommu = None;
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

    /// Records a device with the bridges above it and hands over the pages that translate for it,
    /// down to its page table. Pages shared with other devices are handed over once.
    pub(crate) fn add_device(
        &mut self,
        identity: Identity,
        bridges: &[DeviceAddress],
        unit: &Unit,
        attachment: &Attachment,
    ) -> Outcome {
        let iommu = self.iommu.as_mut().ok_or(NO_RECORDS)?;
        let pci = self.pci.as_mut().ok_or(NO_RECORDS)?;
        let address = attachment.address;
        let mut fresh = KVec::new();
        for page in attachment.pages(unit.root_table) {
            if !iommu.uses_page(page) {
                fresh.push(page, GFP_KERNEL)?;
            }
        }

        iommu.add_attachment(unit, attachment)?;
        if let Err(refusal) = pci.add(address, identity, bridges.iter().copied()) {
            iommu.remove_attachment(address);
            return Err(refusal.into());
        }
        for (done, page) in fresh.iter().enumerate() {
            if let Err(error) = kho::preserve_page(*page) {
                fresh
                    .iter()
                    .take(done)
                    .for_each(|page| kho::unpreserve_page(*page));
                pci.remove(address, bridges.iter().copied());
                iommu.remove_attachment(address);
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Undo of [`Self::add_device`].
    pub(crate) fn remove_device(&mut self, address: DeviceAddress, bridges: &[DeviceAddress]) {
        if let Some(pci) = &mut self.pci {
            pci.remove(address, bridges.iter().copied());
        }
        let Some(iommu) = &mut self.iommu else {
            return;
        };
        let Some(attachment) = iommu.attachment(address) else {
            return;
        };
        let Some(unit) = iommu.unit(attachment.register_base) else {
            return;
        };
        iommu.remove_attachment(address);
        attachment
            .pages(unit.root_table)
            .filter(|page| !iommu.uses_page(*page))
            .for_each(kho::unpreserve_page);
    }

    /// The device or bridge at an address, if it takes part.
    pub(crate) fn device(&self, address: DeviceAddress) -> Option<Device> {
        self.pci.as_ref()?.find(address)
    }

    /// A device's attachment, with its unit and its domain.
    pub(crate) fn attached(&self, address: DeviceAddress) -> Option<(Unit, Attachment, Domain)> {
        let iommu = self.iommu.as_ref()?;
        let attachment = iommu.attachment(address)?;
        let unit = iommu.unit(attachment.register_base)?;
        Some((unit, attachment, iommu.domain(attachment.domain)?))
    }

    /// The unit with a register base, if devices behind it take part.
    pub(crate) fn unit(&self, register_base: u64) -> Option<Unit> {
        self.iommu.as_ref()?.unit(register_base)
    }

    /// The attachments to a unit.
    pub(crate) fn attachments_of(
        &self,
        register_base: u64,
    ) -> impl Iterator<Item = Attachment> + '_ {
        self.iommu
            .iter()
            .flat_map(move |iommu| iommu.attachments_of(register_base))
    }
}
