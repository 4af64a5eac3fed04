// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Validated values: what records say, in a form that cannot be malformed.

pub mod facts;
pub mod iommu;
pub mod pci;

pub use facts::{ArrivalFacts, HwptFacts, MemoryFacts, ReplaceFacts, VfioFacts};
pub use iommu::{Attachment, Domain, DomainKey, EntryFacts, Format, Mode, Table, Unit};
pub use pci::{Device, DeviceAddress, Identity, Kind};
