// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The steps of a change of a live entry.

use super::address::DomainId;

/// One step of a plan. Steps are carried out in order, each completed before the next begins.
///
/// A write is complete when hardware can see it: where the unit does not snoop processor caches
/// (ECAP_REG.C clear) the executor writes the cache line back as part of the step. An invalidation
/// is complete when its wait descriptor has been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// One aligned 64-bit store into the entry.
    Store64 {
        /// Which word of the entry.
        word: usize,
        /// Its new value.
        value: u64,
    },
    /// One aligned 128-bit compare-exchange of two words of the entry. If the words are not `old`
    /// any more, nothing has been written and the plan is void.
    CompareExchange128 {
        /// The first of the two words, even.
        word: usize,
        /// What they must hold.
        old: [u64; 2],
        /// What they shall hold.
        new: [u64; 2],
    },
    /// Device-selective context-cache invalidation, for the device's source id.
    InvalidateContext {
        /// The domain id of the old entry.
        did: DomainId,
    },
    /// PASID-selective-within-domain PASID-cache invalidation.
    InvalidatePasidCache {
        /// The domain id of the old entry.
        did: DomainId,
        /// The PASID.
        pasid: u32,
    },
    /// Domain-selective IOTLB invalidation. It also drops cached upper levels.
    InvalidateIotlb {
        /// The domain id of the old entry.
        did: DomainId,
    },
    /// PASID-selective PASID-based IOTLB invalidation, for first-stage translations.
    InvalidatePasidIotlb {
        /// The domain id of the old entry.
        did: DomainId,
        /// The PASID.
        pasid: u32,
    },
    /// Invalidation of everything in the device's own translation cache.
    InvalidateDeviceTlb,
    /// From here on this entry's device does not use the old tables. When that holds for all devices
    /// of the domain they may be freed, and if the new entries have another domain id, the old id
    /// may be reused.
    Release,
}

const CAPACITY: usize = 5;

/// The steps of a swap, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan([Option<Step>; CAPACITY]);

impl Plan {
    pub(crate) const fn new(steps: [Option<Step>; CAPACITY]) -> Self {
        Self(steps)
    }

    /// The steps.
    pub fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        self.0.iter().copied().flatten()
    }
}
