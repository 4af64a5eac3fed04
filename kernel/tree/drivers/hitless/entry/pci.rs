// SPDX-License-Identifier: GPL-2.0-only

//! What PCI asks.

use hitless_core::record::pci::DeviceAddress;
use kernel::prelude::*;

use crate::keeps;
use crate::running;

/// What is to be left alone on a function that has been found?
///
/// # Safety
///
/// None.
#[export]
pub(crate) unsafe extern "C" fn hitless_pci_arrives(segment: u32, bdf: u16) -> c_ulong {
    if !running::is() {
        return 0;
    }
    keeps::of(DeviceAddress { segment, bdf }).0
}
