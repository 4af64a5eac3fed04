// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What entries of all kinds have in common.

use crate::iommu::address::{HostAddressWidth, TableAddress};
use crate::iommu::bits::POINTER;
use crate::iommu::flaw::{Entry, Flaw};

/// P, bit 0 of the first word of every kind of entry.
pub(super) const PRESENT: u32 = 0;

/// The pointer in `word`, or a refusal that says in which kind of entry it is wrong.
pub(super) const fn pointer(
    word: u64,
    width: HostAddressWidth,
    entry: Entry,
) -> Result<TableAddress, Flaw> {
    match TableAddress::new(word & POINTER, width) {
        Ok(address) => Ok(address),
        Err(_) => Err(Flaw::PointerBeyondHost(entry)),
    }
}
