// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Everything that another release of QEMU may have different, in one place.
//!
//! Neither channel says which release has written it: the cpr state has a version of its own, and the main stream names the
//! machine. What is known here was compared with these releases:
//!
//! | release | how | difference |
//! |---|---|---|
//! | 10.0 | refused | no part for VFIO devices |
//! | 10.1, 10.2 | sources of 10.2.2 were read | none |
//! | 11.1 | streams of 11.1.3 are tests | none |
//!
//! Whoever adds a release records its streams as `testdata/README.md` tells, and runs the tests with it.

/// What the cpr state begins with.
pub(crate) const CPR_MAGIC: u32 = 0x5143_5052;
/// The version of the cpr state.
pub(crate) const CPR_VERSION: u32 = 1;
/// Stands before each element of a list.
pub(crate) const ELEMENT: u8 = 1;
/// Ends a list.
pub(crate) const END_OF_LIST: u8 = 0;
/// The byte with which a descriptor comes.
pub(crate) const DESCRIPTOR: u8 = 0x20;
/// Stands before a named part of the state.
pub(crate) const PART: u8 = 5;
/// The part with the ids of VFIO devices.
pub(crate) const DEVICES: &str = "CprState/vfio devices";
/// Its version.
pub(crate) const DEVICES_VERSION: u32 = 1;

/// What the main stream begins with.
pub(crate) const MAIN_MAGIC: u32 = 0x5145_564d;
/// The version of the main stream.
pub(crate) const MAIN_VERSION: u32 = 3;
/// Stands before the name of the machine.
pub(crate) const CONFIGURATION: u8 = 7;
/// Ends the sections of the main stream.
pub(crate) const END_OF_SECTIONS: u8 = 0;
/// Stands before the description in JSON with which a main stream ends.
pub(crate) const DESCRIPTION: u8 = 6;

/// What a device's descriptors are named after its own name, and whether each vector has one.
pub(crate) const SIGNALS: &[(&str, Signal)] = &[
    ("_interrupt", Signal::Vector),
    ("_kvm_interrupt", Signal::KvmVector),
    ("_intx-interrupt", Signal::Intx),
    ("_intx-unmask", Signal::Intx),
    ("_err_notifier", Signal::Error),
    ("_req_notifier", Signal::Request),
];

/// What an eventfd of a device is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// A vector of MSI or MSI-X, when QEMU itself handles it.
    Vector,
    /// The same vector, when KVM injects it into the guest.
    KvmVector,
    /// The interrupt pin, in either direction.
    Intx,
    /// The device reports an error.
    Error,
    /// The host wants the device back.
    Request,
}

impl Signal {
    /// Whether there is one for each vector, so that its number means something.
    pub fn is_per_vector(self) -> bool {
        matches!(self, Self::Vector | Self::KvmVector)
    }
}
