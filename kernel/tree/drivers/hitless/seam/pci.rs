// SPDX-License-Identifier: GPL-2.0-only

//! PCI functions.

use core::ptr::NonNull;

use hitless_core::record::pci::{
    DeviceAddress,
    Identity, //
};
use hitless_core::rules::pci::FoundFacts;
use kernel::bindings;
use kernel::prelude::*;

/// What is to be left alone on a function: bits of C's `enum hitless_keep`.
#[derive(Clone, Copy, Default)]
pub(crate) struct Keeps(pub(crate) usize);

impl Keeps {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const BUS_MASTER: Self = Self::bit(bindings::hitless_keep_HITLESS_KEEP_BUS_MASTER);
    pub(crate) const ATTACHED: Self = Self::bit(bindings::hitless_keep_HITLESS_KEEP_ATTACHED);
    pub(crate) const STATE: Self = Self::bit(bindings::hitless_keep_HITLESS_KEEP_STATE);
    pub(crate) const ATS: Self = Self::bit(bindings::hitless_keep_HITLESS_KEEP_ATS);
    pub(crate) const POWER: Self = Self::bit(bindings::hitless_keep_HITLESS_KEEP_POWER);
    pub(crate) const CLOSED: Self = Self::bit(bindings::hitless_keep_HITLESS_KEEP_CLOSED);
    pub(crate) const RESET: Self = Self::bit(bindings::hitless_keep_HITLESS_KEEP_RESET);
    pub(crate) const CONFIG: Self = Self::bit(bindings::hitless_keep_HITLESS_KEEP_CONFIG);

    const fn bit(bit: bindings::hitless_keep) -> Self {
        Self(1 << bit)
    }

    /// Both, if `this` holds.
    pub(crate) fn and_if(self, this: bool, other: Self) -> Self {
        if this {
            Self(self.0 | other.0)
        } else {
            self
        }
    }
}

/// Gives the function at an address exactly these bits, if there is one.
pub(crate) fn keep(address: DeviceAddress, keeps: Keeps) {
    // SAFETY: The function accepts every address.
    unsafe {
        bindings::hitless_seam_pci_keep(address.segment, address.bdf, keeps.0, !keeps.0);
    }
}

/// Waits for what user space is doing to the function at an address. Says whether that is over.
pub(crate) fn settle(address: DeviceAddress) -> bool {
    // SAFETY: The function accepts every address.
    unsafe { bindings::hitless_seam_pci_settle(address.segment, address.bdf) }
}

/// Identity of a function that has just been found.
pub(crate) fn identity_of(function: &bindings::hitless_pci_function) -> Identity {
    Identity {
        vendor: function.vendor,
        device: function.device,
        subsystem_vendor: function.subsystem_vendor,
        subsystem_device: function.subsystem_device,
        class_revision: function.class_revision,
    }
}

/// Facts by the names of core and of the contract, which must be the same bits.
const _: () = {
    assert!(FoundFacts::BUS_MASTER == bindings::HITLESS_PCI_BUS_MASTER);
    assert!(FoundFacts::AFTER_HANDOVER == bindings::HITLESS_PCI_AFTER_HANDOVER);
};

/// Identity of the PCI function at an address, if there is one.
pub(crate) fn identity(address: DeviceAddress) -> Option<Identity> {
    let [bus, devfn] = address.bdf.to_be_bytes();
    let segment = c_int::try_from(address.segment).ok()?;
    // SAFETY: The function accepts every address, and takes a reference.
    let device = unsafe {
        bindings::pci_get_domain_bus_and_slot(segment, c_uint::from(bus), c_uint::from(devfn))
    };
    let device = NonNull::new(device)?;
    let identity = {
        // SAFETY: The reference taken keeps the device; these fields do not change.
        let device = unsafe { device.as_ref() };
        Identity {
            vendor: device.vendor,
            device: device.device,
            subsystem_vendor: device.subsystem_vendor,
            subsystem_device: device.subsystem_device,
            class_revision: (device.class << 8) | u32::from(device.revision),
        }
    };
    // SAFETY: The reference was taken above and is not used any more.
    unsafe { bindings::pci_dev_put(device.as_ptr()) };
    Some(identity)
}
