// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! In which mode a unit is used, and where its tables start.

use crate::iommu::address::{HostAddressWidth, TableAddress};

/// In which of its two modes with tables in memory a unit is used (VT-d 3.4, RTADDR_REG.TTM).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Root and context tables; a context entry names a second-stage table.
    Legacy,
    /// Context entries name a PASID directory; a PASID entry names the page table.
    Scalable,
}

/// A remapping unit's tables: where they start and how they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitTables {
    /// Which kind of tables.
    pub mode: Mode,
    /// The root table (RTADDR_REG).
    pub root: TableAddress,
    /// Above which bit addresses are reserved.
    pub width: HostAddressWidth,
}
