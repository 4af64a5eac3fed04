// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What the neutral part of the IOMMU records asks of a kind of hardware.
//!
//! A kind of hardware lays out the payloads of units and attachments. Records that name a kind that is
//! not among those given to the decoder are refused for the devices behind these units.

use core::fmt;

use super::attachment::{Translation, Unit};
use super::pci::DeviceAddress;
use crate::iommu::pt::table::Table;
use crate::refusal::Refusal;

/// Pages in a row that translate for a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    /// Physical address of the first.
    pub first: u64,
    /// How many there are.
    pub count: u32,
    /// What they are to the unit, below 2^24, if other devices have them too: who has the same
    /// number has the same pages. `None`: they are the device's alone.
    pub shared: Option<u32>,
}

impl Pages {
    /// Physical addresses of the pages.
    pub fn addresses(self) -> impl Iterator<Item = u64> {
        let numbers = (0..self.count).map(u64::from);
        numbers.filter_map(move |number| self.first.checked_add(number << 12))
    }

    pub(super) fn end(self) -> u64 {
        self.first.saturating_add(u64::from(self.count) << 12)
    }
}

/// A kind of IOMMU hardware.
pub trait Hardware: Sync + fmt::Debug {
    /// The number that records have for this kind.
    fn kind(&self) -> u8;

    /// Whether a kernel's command line switches the driver on or off, if it says anything.
    fn switched(&self, line: &[u8]) -> Option<bool>;

    /// Is the payload of a unit well-formed?
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    fn check_unit(&self, unit: &Unit) -> Result<(), Refusal>;

    /// Does the unit, which is well-formed, translate for a device in the recorded way, with this page
    /// table?
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    fn check(
        &self,
        unit: &Unit,
        address: DeviceAddress,
        translation: &Translation,
        table: &Table,
    ) -> Result<(), Refusal>;

    /// May two devices behind the unit have this page table in one domain? Not if neither could be
    /// swapped then.
    fn may_share(&self, unit: &Unit, table: &Table) -> bool;

    /// The pages with number `number`, counted from 0, of those that translate for a device: from what
    /// the unit's registers point to down to its page table, which is not one of them. At most 8.
    fn pages(
        &self,
        unit: &Unit,
        address: DeviceAddress,
        translation: &Translation,
        number: u32,
    ) -> Option<Pages>;
}

/// The kinds of hardware that are known.
pub type Kinds = &'static [&'static dyn Hardware];
