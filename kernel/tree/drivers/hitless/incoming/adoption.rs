// SPDX-License-Identifier: GPL-2.0-only

//! What became of the units whose tables came.

use kernel::prelude::*;

use crate::seam::iommu;

/// What became of the units whose tables came, by register base.
pub(crate) struct Adoption {
    adopted: KVec<u64>,
    refused: KVec<u64>,
    /// Every unit has a root table of this kernel.
    ready: bool,
    /// Pages that have been restored: each may be only once.
    restored: KVec<u64>,
}

impl Adoption {
    pub(crate) const fn new() -> Self {
        Self {
            adopted: KVec::new(),
            refused: KVec::new(),
            ready: false,
            restored: KVec::new(),
        }
    }

    pub(crate) fn is_adopted(&self, register_base: u64) -> bool {
        self.adopted.contains(&register_base)
    }

    pub(crate) fn is_refused(&self, register_base: u64) -> bool {
        self.refused.contains(&register_base)
    }

    /// Whether nothing behind a unit can reach memory through tables of the previous kernel any more.
    pub(crate) fn is_blocked(&self, register_base: u64) -> bool {
        self.ready && self.is_refused(register_base)
    }

    /// A unit goes on with its tables.
    pub(crate) fn adopt(&mut self, register_base: u64) -> Result {
        Ok(self.adopted.push(register_base, GFP_KERNEL)?)
    }

    /// A unit's tables are refused. It is blocked once it has its root table.
    pub(crate) fn refuse(&mut self, register_base: u64) -> Result {
        self.adopted.retain(|adopted| *adopted != register_base);
        Ok(self.refused.push(register_base, GFP_KERNEL)?)
    }

    pub(crate) fn set_ready(&mut self) {
        self.ready = true;
    }

    /// Takes a page back from the handover.
    pub(crate) fn restore(&mut self, page: u64) -> Result {
        if self.restored.contains(&page) {
            return Ok(());
        }
        self.restored.push(page, GFP_KERNEL)?;
        iommu::restore_page(page)
    }
}
