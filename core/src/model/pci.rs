// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! PCI functions.

use core::fmt;

/// Where a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceAddress {
    /// PCI segment.
    pub segment: u32,
    /// Bus, device and function.
    pub bdf: u16,
}

impl fmt::Display for DeviceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [bus, devfn] = self.bdf.to_be_bytes();
        let (device, function) = (devfn >> 3, devfn & 7);
        write!(f, "{:04x}:{bus:02x}:{device:02x}.{function}", self.segment)
    }
}

/// What a function is; all 0 for a bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Subsystem vendor id.
    pub subsystem_vendor: u16,
    /// Subsystem device id.
    pub subsystem_device: u16,
    /// Class code and revision.
    pub class_revision: u32,
}

/// Part that a function has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A device with a file of its own.
    Endpoint,
    /// A bridge above one or more of them.
    Bridge,
}

/// A function that takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Where it is.
    pub address: DeviceAddress,
    /// Its part.
    pub kind: Kind,
    /// Devices that need it: 1 for a device, at least 1 for a bridge.
    pub users: u32,
    /// What it is.
    pub identity: Identity,
}
