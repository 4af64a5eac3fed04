// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Sets of device and function numbers.

use crate::iommu::bdf::Bdf;
use crate::iommu::bits;

/// A set of device and function numbers on one bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DevfnSet([u64; 4]);

impl DevfnSet {
    /// The empty set.
    pub const EMPTY: Self = Self([0; 4]);

    /// Those of `devices` that are on `bus`.
    pub fn on_bus(bus: u8, devices: impl IntoIterator<Item = Bdf>) -> Self {
        let mut set = Self::EMPTY;
        for bdf in devices {
            if bdf.bus() == bus {
                set.insert(bdf.devfn());
            }
        }
        set
    }

    /// Adds `devfn`.
    pub fn insert(&mut self, devfn: u8) {
        if let Some(word) = self.0.get_mut(usize::from(devfn >> 6)) {
            *word |= bits::bit(u32::from(devfn & 63));
        }
    }

    /// Whether `devfn` is in the set.
    pub fn contains(&self, devfn: u8) -> bool {
        self.0
            .get(usize::from(devfn >> 6))
            .is_some_and(|word| bits::is_set(*word, u32::from(devfn & 63)))
    }

    /// Whether nothing is in the set.
    pub const fn is_empty(&self) -> bool {
        let [a, b, c, d] = self.0;
        a | b | c | d == 0
    }

    /// Whether any of devices 0 to 15 is in the set: the lower context table of scalable mode.
    pub const fn any_lower(&self) -> bool {
        let [a, b, _, _] = self.0;
        a | b != 0
    }

    /// Whether any of devices 16 to 31 is in the set: the upper context table of scalable mode.
    pub const fn any_upper(&self) -> bool {
        let [_, _, c, d] = self.0;
        c | d != 0
    }
}
