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

/// A PCI function. It may be unplugged, but what Linux knows of it stays as long as this is held.
///
/// # Invariants
///
/// A reference to `device` is held, whose address is `address`.
pub(crate) struct PciFunction {
    device: NonNull<bindings::pci_dev>,
    address: DeviceAddress,
}

// SAFETY: References to devices may be given up by any thread, and all that is done here can be done by any.
unsafe impl Send for PciFunction {}

impl PciFunction {
    /// The function at an address, if there is one. It is searched for among all functions of the machine.
    pub(crate) fn find(address: DeviceAddress) -> Option<Self> {
        let [bus, devfn] = address.bdf.to_be_bytes();
        let segment = c_int::try_from(address.segment).ok()?;
        // SAFETY: The function accepts every address, and takes a reference.
        let device = unsafe {
            bindings::pci_get_domain_bus_and_slot(segment, c_uint::from(bus), c_uint::from(devfn))
        };
        // INVARIANT: The reference is the one just taken, and the address the one that was searched for.
        NonNull::new(device).map(|device| Self { device, address })
    }

    /// A function of C's.
    ///
    /// # Safety
    ///
    /// `device` must be valid.
    pub(crate) unsafe fn of(device: *mut bindings::pci_dev) -> Option<Self> {
        // SAFETY: By the safety requirement.
        let segment = unsafe { bindings::hitless_seam_pci_segment(device) };
        // SAFETY: By the safety requirement.
        let bdf = unsafe { bindings::pci_dev_id(device) };
        // SAFETY: By the safety requirement.
        let device = unsafe { bindings::pci_dev_get(device) };
        let address = DeviceAddress { segment, bdf };
        // INVARIANT: The reference is the one just taken, and the function itself has been asked for its address.
        NonNull::new(device).map(|device| Self { device, address })
    }

    pub(crate) fn address(&self) -> DeviceAddress {
        self.address
    }

    pub(crate) fn identity(&self) -> Identity {
        // SAFETY: By the type invariant; these fields do not change.
        let device = unsafe { self.device.as_ref() };
        Identity {
            vendor: device.vendor,
            device: device.device,
            subsystem_vendor: device.subsystem_vendor,
            subsystem_device: device.subsystem_device,
            class_revision: (device.class << 8) | u32::from(device.revision),
        }
    }

    /// Gives the function exactly these bits.
    pub(crate) fn keep(&self, keeps: Keeps) {
        // SAFETY: By the type invariant.
        unsafe { bindings::hitless_seam_pci_keep(self.device.as_ptr(), keeps.0, !keeps.0) };
    }

    /// Waits for what user space is doing to the function, but not longer than `patience` milliseconds. Says whether that
    /// is over.
    pub(crate) fn settle(&self, patience: u32) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::hitless_seam_pci_settle(self.device.as_ptr(), patience) }
    }
}

impl Drop for PciFunction {
    fn drop(&mut self) {
        // SAFETY: By the type invariant there is a reference, and it is not used any more.
        unsafe { bindings::pci_dev_put(self.device.as_ptr()) };
    }
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
