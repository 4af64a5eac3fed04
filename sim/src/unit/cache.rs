// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The caches of a unit and of the devices behind it (VT-d 6.2).

use std::collections::HashMap;

use hitless_core::iommu::address::DomainId;
use hitless_core::iommu::bdf::Bdf;

use crate::dma::Access;

/// A choice of caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caches {
    /// Context entries, per requester.
    pub context: bool,
    /// PASID entries, per requester and PASID.
    pub pasid: bool,
    /// Upper levels of page tables, per domain id.
    pub paging_structure: bool,
    /// Translations, per domain id.
    pub iotlb: bool,
    /// Translations in the device, per requester.
    pub device_tlb: bool,
}

impl Caches {
    /// All of them.
    pub const ALL: Self = Self {
        context: true,
        pasid: true,
        paging_structure: true,
        iotlb: true,
        device_tlb: true,
    };
    /// Those of the unit; the device has none.
    pub const UNIT: Self = Self {
        device_tlb: false,
        ..Self::ALL
    };
    /// None.
    pub const NONE: Self = Self {
        context: false,
        pasid: false,
        paging_structure: false,
        iotlb: false,
        device_tlb: false,
    };
}

/// What tags translations and upper levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tag {
    pub(super) did: DomainId,
    /// For first-stage translations.
    pub(super) pasid: Option<u32>,
}

/// A 4 KiB piece of a translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Translation {
    pub(super) page: u64,
    pub(super) read: bool,
    pub(super) write: bool,
}

/// A table that translates addresses with a certain prefix, and the rights on the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Upper {
    pub(super) table: u64,
    pub(super) read: bool,
    pub(super) write: bool,
}

#[derive(Clone, Debug)]
pub(super) struct UnitCache {
    enabled: Caches,
    pub(super) context: HashMap<Bdf, (Option<DomainId>, [u64; 4])>,
    pub(super) pasid: HashMap<(Bdf, u32), [u64; 8]>,
    uppers: HashMap<(Tag, u32, u64), Upper>,
    iotlb: HashMap<(Tag, u64), Translation>,
    device: HashMap<(Bdf, u64), Translation>,
}

impl UnitCache {
    pub(super) fn new(enabled: Caches) -> Self {
        Self {
            enabled,
            context: HashMap::new(),
            pasid: HashMap::new(),
            uppers: HashMap::new(),
            iotlb: HashMap::new(),
            device: HashMap::new(),
        }
    }

    pub(super) fn evict(&mut self, which: Caches) {
        if which.context {
            self.context.clear();
        }
        if which.pasid {
            self.pasid.clear();
        }
        if which.paging_structure {
            self.uppers.clear();
        }
        if which.iotlb {
            self.iotlb.clear();
        }
        if which.device_tlb {
            self.device.clear();
        }
    }

    pub(super) fn fill_context(&mut self, bdf: Bdf, did: Option<DomainId>, words: [u64; 4]) {
        if self.enabled.context {
            self.context.insert(bdf, (did, words));
        }
    }

    pub(super) fn fill_pasid(&mut self, bdf: Bdf, pasid: u32, words: [u64; 8]) {
        if self.enabled.pasid {
            self.pasid.insert((bdf, pasid), words);
        }
    }

    pub(super) fn iotlb(&self, tag: Tag, page: u64) -> Option<Translation> {
        self.iotlb.get(&(tag, page)).copied()
    }

    pub(super) fn fill_iotlb(&mut self, tag: Tag, page: u64, translation: Translation) {
        if self.enabled.iotlb {
            self.iotlb.insert((tag, page), translation);
        }
    }

    /// The cached table of the lowest level that translates `iova`, and its level.
    pub(super) fn upper(&self, tag: Tag, iova: u64, top: u32) -> Option<(u32, Upper)> {
        (1..top).find_map(|level| {
            let prefix = iova >> (12 + 9 * level);
            let upper = self.uppers.get(&(tag, level, prefix))?;
            Some((level, *upper))
        })
    }

    pub(super) fn fill_upper(&mut self, tag: Tag, level: u32, iova: u64, upper: Upper) {
        if self.enabled.paging_structure {
            let prefix = iova >> (12 + 9 * level);
            self.uppers.insert((tag, level, prefix), upper);
        }
    }

    pub(super) fn retain_translations(&mut self, keep: impl Fn(&Tag) -> bool) {
        self.iotlb.retain(|(tag, _), _| keep(tag));
        self.uppers.retain(|(tag, _, _), _| keep(tag));
    }

    pub(super) fn device_tlb(&self, bdf: Bdf, page: u64) -> Option<Translation> {
        self.device.get(&(bdf, page)).copied()
    }

    pub(super) fn fill_device_tlb(&mut self, bdf: Bdf, page: u64, translation: Translation) {
        if self.enabled.device_tlb {
            self.device.insert((bdf, page), translation);
        }
    }

    pub(super) fn drop_device_tlb(&mut self, bdf: Bdf) {
        self.device.retain(|(owner, _), _| *owner != bdf);
    }
}

impl Translation {
    pub(super) fn allows(self, access: Access) -> bool {
        access.is_in(self.read, self.write)
    }
}

impl Upper {
    pub(super) fn allows(self, access: Access) -> bool {
        access.is_in(self.read, self.write)
    }
}
