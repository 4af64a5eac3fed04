// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The page table of a domain.

use super::format::Format;
use crate::iommu::address::TableAddress;

/// A page table, with what of it entries that point to it have to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// The top table.
    pub top: TableAddress,
    /// Format and number of levels.
    pub format: Format,
    /// Hardware does not snoop the tables.
    pub incoherent: bool,
    /// Snooping of the domain's accesses is forced.
    pub snoop: bool,
}
