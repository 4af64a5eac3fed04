// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Requester ids.

use core::fmt;

/// Bus, device and function of a PCI function, as a source id has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bdf(pub u16);

impl Bdf {
    /// From a bus number and the device and function number below it.
    pub const fn new(bus: u8, devfn: u8) -> Self {
        Self(u16::from_be_bytes([bus, devfn]))
    }

    /// Bus number.
    pub const fn bus(self) -> u8 {
        let [bus, _] = self.0.to_be_bytes();
        bus
    }

    /// Device (bits 7 to 3) and function (bits 2 to 0).
    pub const fn devfn(self) -> u8 {
        let [_, devfn] = self.0.to_be_bytes();
        devfn
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let devfn = self.devfn();
        write!(f, "{:02x}:{:02x}.{}", self.bus(), devfn >> 3, devfn & 7)
    }
}
