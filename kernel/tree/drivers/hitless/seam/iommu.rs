// SPDX-License-Identifier: GPL-2.0-only

//! Pages of tables.

use kernel::bindings;
use kernel::error::to_result;
use kernel::prelude::*;

/// Takes a table page back from the handover, with the accounting of IOMMU pages.
pub(crate) fn restore_page(phys: u64) -> Result {
    // SAFETY: The function itself checks that the page was handed over, and gives it once.
    to_result(unsafe { bindings::hitless_seam_iommu_restore_page(phys) })
}
