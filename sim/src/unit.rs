// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The VT-d unit: translates DMA by walking tables in memory, with the caches that VT-d chapter 6
//! lets hardware have.

mod cache;
mod walk;

pub use cache::Caches;

use hitless_core::iommu::address::DomainId;
use hitless_core::iommu::bdf::Bdf;
use hitless_core::iommu::vtd::mode::Mode;

use crate::dma::Dma;
use crate::fault::Fault;
use crate::memory::PhysicalMemory;
use cache::UnitCache;
use walk::Walker;

/// A remapping unit with translation on.
#[derive(Clone, Debug)]
pub struct Unit {
    mode: Mode,
    root: u64,
    caches: UnitCache,
}

impl Unit {
    /// A unit with empty caches that uses the root table at `root`.
    #[must_use]
    pub fn new(mode: Mode, root: u64, enabled: Caches) -> Self {
        Self {
            mode,
            root,
            caches: UnitCache::new(enabled),
        }
    }

    /// Translates a request as hardware does, filling the caches.
    ///
    /// # Errors
    ///
    /// The fault that hardware would report.
    pub fn dma(&mut self, memory: &PhysicalMemory, dma: Dma) -> Result<u64, Fault> {
        let page = dma.iova >> 12;
        let offset = dma.iova & 0xfff;
        let held = self.caches.device_tlb(dma.bdf, page);
        let mut walker = Walker {
            mode: self.mode,
            root: self.root,
            memory,
            caches: &mut self.caches,
        };
        if let Some(translation) = held.filter(|held| held.allows(dma.access)) {
            walker.translated(dma.bdf)?;
            return Ok(translation.page | offset);
        }
        let translation = walker.translate(dma)?;
        // A device whose translation requests are blocked does without.
        if walker.translated(dma.bdf).is_ok() {
            self.caches.fill_device_tlb(dma.bdf, page, translation);
        }
        Ok(translation.page | offset)
    }

    /// Drops what is cached in the kinds of cache that `which` names: hardware may evict at any
    /// moment.
    pub fn evict(&mut self, which: Caches) {
        self.caches.evict(which);
    }

    /// Device-selective context-cache invalidation.
    pub fn invalidate_context(&mut self, bdf: Bdf, did: DomainId) {
        // In scalable mode context entries have no domain id and the argument is ignored.
        let any = self.mode == Mode::Scalable;
        self.caches
            .context
            .retain(|key, (tag, _)| *key != bdf || !(any || *tag == Some(did)));
    }

    /// PASID-selective-within-domain PASID-cache invalidation.
    pub fn invalidate_pasid(&mut self, did: DomainId, pasid: u32) {
        self.caches
            .pasid
            .retain(|key, entry| key.1 != pasid || walk::did(entry) != did);
    }

    /// Domain-selective IOTLB invalidation, which drops cached upper levels too.
    ///
    /// It reaches second-stage translations only; first-stage ones are tagged with their PASID and
    /// need [`Unit::invalidate_pasid_iotlb`].
    pub fn invalidate_iotlb(&mut self, did: DomainId) {
        self.caches
            .retain_translations(|tag| tag.did != did || tag.pasid.is_some());
    }

    /// PASID-selective PASID-based IOTLB invalidation.
    pub fn invalidate_pasid_iotlb(&mut self, did: DomainId, pasid: u32) {
        self.caches
            .retain_translations(|tag| tag.did != did || tag.pasid != Some(pasid));
    }

    /// Device-TLB invalidation of everything that `bdf` has.
    pub fn invalidate_device_tlb(&mut self, bdf: Bdf) {
        self.caches.drop_device_tlb(bdf);
    }

    /// Global invalidation of everything, as after a scrub.
    pub fn invalidate_all(&mut self) {
        self.caches.evict(Caches::ALL);
    }
}
