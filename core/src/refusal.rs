// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Every reason to say no, by name.

use core::fmt;

use crate::iommu::flaw::Flaw;

/// Which family of records a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Devices and bridges: `hitless-pci-v1`.
    Pci,
    /// Units, domains and attachments: `hitless-iommu-v1`.
    Iommu,
    /// An iommufd file: `hitless-iommufd-v1`.
    Iommufd,
    /// A VFIO device file: `hitless-vfio-pci-v1`.
    VfioPci,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pci => "PCI records",
            Self::Iommu => "IOMMU records",
            Self::Iommufd => "iommufd record",
            Self::VfioPci => "VFIO record",
        })
    }
}

/// Why something is not preserved, not adopted or not given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The page does not begin with the magic number of its family.
    NotARecord(Family),
    /// A page of the records is not what was written: its checksum is wrong.
    ///
    /// Remedy: the memory of the handover was overwritten between the kernels. Restart what the records spoke of;
    /// if it happens again, suspect the machine's memory, or another driver of either kernel.
    Damaged(Family),
    /// The records have a version that this kernel does not know.
    UnknownVersion(Family),
    /// The records need a feature that this kernel does not know.
    UnknownFeature(Family),
    /// A field has a value that it cannot have.
    Malformed(Family),
    /// Two entries speak of the same thing.
    Duplicate(Family),
    /// Two entries that have to agree do not.
    Contradictory(Family),
    /// One page is said to have two uses.
    Aliased(Family),
    /// There is no room for another entry.
    Full(Family),
    /// The page that a record names was not handed over.
    NotHandedOver(Family),
    /// There is no entry of that name.
    NotRecorded(Family),

    /// No HWPT of the iommufd is marked for preservation.
    NothingMarked,
    /// A marked HWPT tracks dirty pages.
    DirtyTracking,
    /// A marked HWPT is the parent of nested ones.
    NestParent,
    /// A marked HWPT delivers page faults to user space.
    PageFaults,
    /// A marked HWPT is for PASIDs.
    HwptForPasid,
    /// A marked HWPT was made by attaching to an IOAS and not by an allocation of its own.
    AutoHwpt,
    /// Some memory of a marked HWPT's IOAS is not mapped from a file.
    OtherMemory,
    /// Some memory of a marked HWPT's IOAS is mapped from a DMA buffer, for example another device's BAR.
    ///
    /// Remedy: unmap it before; QEMU does not map BARs with the device option `x-no-mmap=on`. The log names the address.
    DmaBuffer,
    /// Some memory of a marked HWPT's IOAS is from a file that is not one of shmem, for example of huge pages.
    ///
    /// Remedy: use memfds without `MFD_HUGETLB` as guest memory. The log names the address.
    NotShmem,
    /// A mapping of a marked HWPT's IOAS is still being made or taken down.
    ///
    /// Remedy: preserve the iommufd when all calls that map or unmap have returned.
    MappingUnsettled,
    /// A file was not sealed against growing, shrinking and further seals when it was mapped.
    Unsealed,
    /// Memory was taken out of a file after it was mapped: the device has other pages than the file.
    Holes,
    /// The HWPT's page table has a format that is not preserved.
    UnknownTable,
    /// The HWPT maps no memory.
    NothingMapped,
    /// A file behind the HWPT's mappings is not preserved in the same session.
    MemoryNotInSession,

    /// The device is not bound to an iommufd.
    NoIommufd,
    /// The device is attached to no HWPT.
    NotAttached,
    /// The device's HWPT is not marked for preservation.
    NotMarked,
    /// The device is a virtual function.
    VirtualFunction,
    /// The device has virtual functions.
    HasVirtualFunctions,
    /// The device uses PASIDs.
    UsesPasids,
    /// The device shares its IOMMU group or its requester id.
    SharedGroup,
    /// The device is not in power state D0.
    NotPoweredOn,
    /// The device's IOMMU is of a kind that is not preserved.
    ///
    /// Remedy: preserve devices behind a supported kind of IOMMU only, and update to a kernel that knows that kind.
    OtherIommu,
    /// The device has no IOMMU group: nothing translates for it.
    ///
    /// Remedy: switch the IOMMU on. What uses a device without one cannot be preserved.
    NoGroup,
    /// There are more bridges above the device than a record holds.
    TooManyBridges,
    /// The device has interrupts set up.
    InterruptsOn,
    /// The device's own translation cache (ATS) is on.
    UsesAts,
    /// Two devices share a HWPT whose page-table format cannot be swapped then.
    SharedHwpt,
    /// The device is still attached to its restored domain.
    StillRestored,
    /// The device's iommufd is not preserved in the same session.
    IommufdNotInSession,
    /// The device's HWPT is not among the preserved ones of its iommufd.
    HwptNotPreserved,
    /// The device's page table is not the one recorded for its HWPT.
    OtherTable,
    /// The device is recorded already.
    AlreadyRecorded,

    /// The device is on its restored domain, and its entry cannot be changed without a fault.
    NotReplaceable,

    /// The loaded image gets nothing of what is handed over.
    NoHandover,

    /// The unit translates for another PCI segment than the recorded one.
    OtherSegment,
    /// The unit is used in the other mode.
    OtherMode,
    /// The unit's root table is not the recorded one.
    OtherRoot,
    /// The unit's capabilities are not the recorded ones.
    OtherCapabilities,
    /// The unit does not translate.
    NotTranslating,
    /// The function at the recorded address is another device.
    OtherDevice,
    /// The device's driver is not there yet; that can still come.
    NoDriverYet,
    /// The unit's tables have been refused.
    UnitRefused,

    /// What the tables themselves say is not accepted.
    Table(Flaw),
}

impl From<Flaw> for Refusal {
    fn from(flaw: Flaw) -> Self {
        Self::Table(flaw)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotARecord(family) => return write!(f, "{family}: not such a record"),
            Self::Damaged(family) => return write!(f, "{family}: damaged"),
            Self::UnknownVersion(family) => return write!(f, "{family}: unknown version"),
            Self::UnknownFeature(family) => {
                return write!(f, "{family}: need a feature unknown here")
            }
            Self::Malformed(family) => return write!(f, "{family}: a field is malformed"),
            Self::Duplicate(family) => return write!(f, "{family}: two entries for one thing"),
            Self::Contradictory(family) => {
                return write!(f, "{family}: two entries contradict each other")
            }
            Self::Aliased(family) => return write!(f, "{family}: one page has two uses"),
            Self::Full(family) => return write!(f, "{family}: no room for another entry"),
            Self::NotHandedOver(family) => return write!(f, "{family}: page was not handed over"),
            Self::NotRecorded(family) => return write!(f, "{family}: no such entry"),
            Self::Table(refusal) => return write!(f, "{refusal}"),

            Self::NothingMarked => "no HWPT of the iommufd is marked",
            Self::DirtyTracking => "HWPT tracks dirty pages",
            Self::NestParent => "HWPT is a nesting parent",
            Self::PageFaults => "HWPT delivers page faults",
            Self::HwptForPasid => "HWPT is for PASIDs",
            Self::AutoHwpt => "HWPT was allocated automatically",
            Self::OtherMemory => "IOAS has a mapping that is not from a file",
            Self::DmaBuffer => "IOAS has a mapping of a DMA buffer",
            Self::NotShmem => "IOAS has a mapping of a file that is not a memfd of ordinary pages",
            Self::MappingUnsettled => "a mapping is being made or taken down",
            Self::Unsealed => "a file was not sealed when it was mapped",
            Self::Holes => "memory was taken out of a file after it was mapped",
            Self::UnknownTable => "HWPT's page table cannot be described",
            Self::NothingMapped => "HWPT maps no memory",
            Self::MemoryNotInSession => "a mapped file is not preserved in this session",

            Self::NoIommufd => "device is not bound to an iommufd",
            Self::NotAttached => "device is not attached to a HWPT",
            Self::NotMarked => "device's HWPT is not marked",
            Self::VirtualFunction => "device is a virtual function",
            Self::HasVirtualFunctions => "device has virtual functions",
            Self::UsesPasids => "device uses PASIDs",
            Self::SharedGroup => "device shares its IOMMU group or requester id",
            Self::NotPoweredOn => "device is not in D0",
            Self::OtherIommu => "device is behind an IOMMU of another kind",
            Self::NoGroup => "device has no IOMMU group",
            Self::TooManyBridges => "too many bridges above the device",
            Self::InterruptsOn => "device has interrupts set up",
            Self::UsesAts => "device uses ATS",
            Self::SharedHwpt => "another device is attached to the same HWPT",
            Self::StillRestored => "device is attached to its restored domain: swap it first",
            Self::IommufdNotInSession => "device's iommufd is not preserved in this session",
            Self::HwptNotPreserved => "device's HWPT is not preserved",
            Self::OtherTable => "device's page table is not the recorded one",
            Self::AlreadyRecorded => "device is recorded already",

            Self::NotReplaceable => "device cannot change from its restored domain without a fault",

            Self::NoHandover => "next kernel was not loaded by kexec_file_load",

            Self::OtherSegment => "unit translates for another PCI segment",
            Self::OtherMode => "unit is used in the other mode",
            Self::OtherRoot => "unit's root table is not the recorded one",
            Self::OtherCapabilities => "unit's capabilities are not the recorded ones",
            Self::NotTranslating => "unit does not translate",
            Self::OtherDevice => "another device is at the recorded address",
            Self::NoDriverYet => "vfio-pci is not bound to the device yet",
            Self::UnitRefused => "tables of the device's unit were refused",
        })
    }
}

impl core::error::Error for Refusal {}
