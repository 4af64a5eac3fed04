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
    /// What the previous kernel did: `hitless-log-v1`. Nothing depends on it: one that is refused cannot be read, and that is
    /// all.
    Log,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pci => "PCI records",
            Self::Iommu => "IOMMU records",
            Self::Iommufd => "iommufd record",
            Self::VfioPci => "VFIO record",
            Self::Log => "log",
        })
    }
}

/// Why something is not preserved, not adopted or not given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    // About the records, whatever is done with them.
    /// The page does not begin with the magic number of its family.
    ///
    /// Remedy: The records are not used, and the devices that they may speak of are stopped; a driver that resets such a
    /// device can use it again. Please report it.
    NotARecord(Family),
    /// A page of the records is not what was written: its checksum is wrong.
    ///
    /// Remedy: the memory of the handover was overwritten between the kernels. Restart what the records spoke of;
    /// if it happens again, suspect the machine's memory, or another driver of either kernel.
    Damaged(Family),
    /// The records have a version that this kernel does not know.
    ///
    /// Remedy: Jump to a kernel whose hitless knows the version that the kernel before it writes; the changelog names the
    /// versions. The devices that the records may speak of are stopped.
    UnknownVersion(Family),
    /// The records need a feature that this kernel does not know.
    ///
    /// Remedy: Jump to a kernel whose hitless is at least as new as that of the kernel before it. The devices that the
    /// records may speak of are stopped.
    UnknownFeature(Family),
    /// A field has a value that it cannot have.
    ///
    /// Remedy: The records are not used, and the devices that they may speak of are stopped; a driver that resets such a
    /// device can use it again. Please report it.
    Malformed(Family),
    /// Two entries speak of the same thing.
    ///
    /// Remedy: The records are not used, and the devices that they may speak of are stopped; a driver that resets such a
    /// device can use it again. Please report it.
    Duplicate(Family),
    /// Two entries that have to agree do not.
    ///
    /// Remedy: At preserve nothing has changed: the next kernel would not believe the records. After the jump the records
    /// are not used, and the devices that they may speak of are stopped. Please report it in either case.
    Contradictory(Family),
    /// One page is said to have two uses.
    ///
    /// Remedy: At preserve nothing has changed: the next kernel would not believe the records. After the jump the records
    /// are not used, and the devices that they may speak of are stopped. Please report it in either case.
    Aliased(Family),
    /// There is no room for another entry.
    ///
    /// Remedy: None: records have room for as much as there is memory. Please report it.
    Full(Family),
    /// The page that a record names was not handed over.
    ///
    /// Remedy: The page did not come with this kernel, or was taken already. The records are not used, and the devices
    /// that they may speak of are stopped. Please report it.
    NotHandedOver(Family),
    /// There is no entry of that name.
    ///
    /// Remedy: What is asked for was not preserved by the kernel before this one. Compare the tokens with those used
    /// there.
    NotRecorded(Family),

    // When an iommufd is preserved.
    /// No HWPT of the iommufd is marked for preservation.
    ///
    /// Remedy: Mark the HWPTs that shall go on with `IOMMU_HWPT_LIVEUPDATE_MARK_PRESERVE` before the iommufd is
    /// preserved.
    NothingMarked,
    /// A marked HWPT tracks dirty pages.
    ///
    /// Remedy: Allocate the HWPT without `IOMMU_HWPT_ALLOC_DIRTY_TRACKING`.
    DirtyTracking,
    /// A marked HWPT is the parent of nested ones.
    ///
    /// Remedy: Allocate the HWPT without `IOMMU_HWPT_ALLOC_NEST_PARENT`.
    NestParent,
    /// A marked HWPT delivers page faults to user space.
    ///
    /// Remedy: Allocate the HWPT without `IOMMU_HWPT_FAULT_ID_VALID`.
    PageFaults,
    /// A marked HWPT is for PASIDs.
    ///
    /// Remedy: Allocate the HWPT without `IOMMU_HWPT_ALLOC_PASID`.
    HwptForPasid,
    /// A marked HWPT was made by attaching to an IOAS and not by an allocation of its own.
    ///
    /// Remedy: Allocate a HWPT with `IOMMU_HWPT_ALLOC` and attach the device to it, not to the IOAS.
    AutoHwpt,
    /// Some memory of a marked HWPT's IOAS is not mapped from a file.
    ///
    /// Remedy: Map all memory of the IOAS with `IOMMU_IOAS_MAP_FILE`.
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
    /// Memory was taken out of a file after it was mapped: the device has other pages than the file.
    ///
    /// Remedy: A hole was punched into the memfd, perhaps by a balloon. Unmap the file from the IOAS and map it anew.
    Holes,
    /// The HWPT's page table has a format that is not preserved.
    ///
    /// Remedy: Use a HWPT of an IOMMU and a page-table format that hitless preserves; README.md lists them.
    UnknownTable,
    /// The HWPT maps no memory.
    ///
    /// Remedy: Map the VM's memory before the iommufd is preserved, or do not mark that HWPT.
    NothingMapped,
    /// A file behind the HWPT's mappings is not preserved in the same session.
    ///
    /// Remedy: Preserve the memfds before the iommufd, in the same session.
    MemoryNotInSession,

    // When a device file is preserved, and again at freeze.
    /// The device is not bound to an iommufd.
    ///
    /// Remedy: Bind the device with `VFIO_DEVICE_BIND_IOMMUFD`.
    NoIommufd,
    /// The device is attached to no HWPT.
    ///
    /// Remedy: Attach the device to a HWPT with `VFIO_DEVICE_ATTACH_IOMMUFD_PT`.
    NotAttached,
    /// The device's HWPT is not marked for preservation.
    ///
    /// Remedy: Mark the HWPT with `IOMMU_HWPT_LIVEUPDATE_MARK_PRESERVE` before its iommufd is preserved.
    NotMarked,
    /// The device is a virtual function.
    ///
    /// Remedy: None: virtual functions are not preserved yet.
    VirtualFunction,
    /// The device has virtual functions.
    ///
    /// Remedy: Remove the virtual functions first, by writing 0 to `sriov_numvfs`.
    HasVirtualFunctions,
    /// The device uses PASIDs.
    ///
    /// Remedy: Detach the device from its PASIDs.
    UsesPasids,
    /// The device shares its IOMMU group or its requester id.
    ///
    /// Remedy: Use a device that is alone in its IOMMU group and has no DMA aliases; another slot may help.
    SharedGroup,
    /// The device is not in power state D0.
    ///
    /// Remedy: Wake the device, and keep it awake until the update is finished.
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
    ///
    /// Remedy: Put the device into a slot with fewer bridges above it: there are more than PCI has buses.
    TooManyBridges,
    /// The device has interrupts set up.
    ///
    /// Remedy: Take the interrupts down with `VFIO_DEVICE_SET_IRQS`, and set them up again after the update.
    InterruptsOn,
    /// The device's own translation cache (ATS) is on.
    ///
    /// Remedy: None: devices with ATS switched on are not preserved yet.
    UsesAts,
    /// Two devices share a HWPT whose page-table format cannot be swapped then.
    ///
    /// Remedy: Give each device a HWPT of its own, with the same mappings.
    SharedHwpt,
    /// The device is still attached to its restored domain.
    ///
    /// Remedy: Finish the update that is under way: swap the device to a new HWPT.
    StillRestored,
    /// The device's iommufd is not preserved in the same session.
    ///
    /// Remedy: Preserve the iommufd before the device file, in the same session.
    IommufdNotInSession,
    /// The device's HWPT is not among the preserved ones of its iommufd.
    ///
    /// Remedy: The HWPT was marked after its iommufd was preserved. Close the session, and preserve everything again.
    HwptNotPreserved,
    /// The device's page table is not the one recorded for its HWPT.
    ///
    /// Remedy: The device was attached to another HWPT after the iommufd was preserved. Close the session, and preserve
    /// everything again.
    OtherTable,
    /// The device is recorded already.
    ///
    /// Remedy: Another session preserves the device: close that one, or leave the device to it.
    AlreadyRecorded,

    // When the device is swapped.
    /// The device is on its restored domain, and its entry cannot be changed without a fault.
    ///
    /// Remedy: The device stays where it is. Attach it to a HWPT that does not deliver page faults, and see that it keeps
    /// its one requester id and its translation caches; if that cannot be had, detach the device, which stops its DMA.
    NotSwappable,

    // When the machine is to sleep.
    /// Something is preserved, and a device that sleeps does not go on.
    ///
    /// Remedy: Close the live update sessions, or jump, and suspend or hibernate the machine afterwards. The same holds for
    /// an image that is loaded with `KEXEC_PRESERVE_CONTEXT`.
    SleepsPreserved,
    /// Something that came from the previous kernel is not finished, and a device that sleeps does not go on.
    ///
    /// Remedy: Retrieve and finish the sessions of the previous update, and suspend or hibernate the machine afterwards.
    SleepsUnfinished,
    /// The machine is on its way to sleep.
    ///
    /// Remedy: Preserve again when it is awake. Who has `/dev/snapshot` open keeps it on the way.
    Asleep,

    // At freeze.
    /// A device of the previous update is still on the tables that it arrived with.
    ///
    /// Remedy: Finish that update first: retrieve the session, swap its devices and finish it. To give them up, add
    /// `hitless.jump=anyway` to the next kernel's command line: they are stopped at the jump.
    NotSwapped,
    /// Somebody holds the device, or a bridge above it, for longer than a moment.
    ///
    /// Remedy: A driver is being unbound from the device, which waits for its file to be closed, or the device is being
    /// reset. Let that end, or close the session.
    Unsettled,
    /// The loaded image gets nothing of what is handed over.
    ///
    /// Remedy: Load the next kernel with `kexec_file_load` (`kexec -s`). To a kernel loaded with `kexec_load` (`kexec
    /// -c`) nothing is handed over, and the VM's memory is free memory to it.
    NoHandover,
    /// The loaded image says nothing of hitless.
    ///
    /// Remedy: Load a kernel with hitless: to another one the devices would be strangers, and they would write wherever
    /// their addresses happen to point. Who accepts that for the guests and the host adds `hitless.jump=anyway` to the
    /// next kernel's command line.
    ImageWithoutHitless,
    /// The loaded image does not take over the format that this kernel writes.
    ///
    /// Remedy: Load a kernel that is nearer to this one. For `hitless.jump=anyway` see the line above.
    ImageOfOtherFormat,
    /// The loaded image does not take over something that is in use: a kind of IOMMU or a page-table format.
    ///
    /// Remedy: Load a kernel that takes it over, or use HWPTs of another format.
    ImageTakesLess,
    /// The loaded image needs something that this kernel does not hand over.
    ///
    /// Remedy: Update to a kernel between the two first.
    ImageNeedsMore,
    /// The loaded image does not obey the command line that it is given.
    ///
    /// Remedy: Load a kernel without `CONFIG_CMDLINE_OVERRIDE`.
    ImageOwnLine,
    /// The next kernel's command line switches hitless off.
    ///
    /// Remedy: Load the image without `hitless=off`.
    NextHitlessOff,
    /// The next kernel's command line does not switch kexec handover and live update on.
    ///
    /// Remedy: Load the image with `kho=on liveupdate=on`.
    NextHandoverOff,
    /// The next kernel's command line switches the IOMMU off, or does not switch it on.
    ///
    /// Remedy: Load the image with the words that switch the IOMMU on in this kernel, and without `iommu=off`.
    NextIommuOff,
    /// The next kernel's command line has other words about the remapping of interrupts than this kernel's.
    ///
    /// Remedy: Load the image with the same `intremap=`, `nointremap`, `nox2apic` and `x2apic_phys` as this kernel has.
    NextOtherRemapping,
    /// The next kernel's command line has other `pci=` options than this kernel's, which number or isolate functions otherwise.
    ///
    /// Remedy: Load the image with the same `pci=` options as this kernel has.
    NextOtherPci,

    // After the jump.
    /// The unit translates for another PCI segment than the recorded one.
    ///
    /// Remedy: The unit is blocked: it translates with an empty root table. Please report it.
    OtherSegment,
    /// The unit is used in the other mode.
    ///
    /// Remedy: The unit is blocked: it translates with an empty root table. Boot with the same parameters
    /// for the IOMMU as the kernel before.
    OtherMode,
    /// The unit's root table is not the recorded one.
    ///
    /// Remedy: The unit is blocked: it translates with an empty root table. Something ran between the two kernels, or the
    /// record is damaged; please report it.
    OtherRoot,
    /// The unit's capabilities are not the recorded ones.
    ///
    /// Remedy: The unit is blocked: it translates with an empty root table. Boot the next kernel on the machine, and with
    /// the firmware, that the kernel before had.
    OtherCapabilities,
    /// The unit does not translate.
    ///
    /// Remedy: The unit is blocked: it translates with an empty root table. Something that ran between the two kernels
    /// switched translation off, and the device may have written where it must not: start the machine anew.
    NotTranslating,
    /// The function at the recorded address is another device.
    ///
    /// Remedy: The device file cannot be retrieved. Finish the session without it, and look for a device that was
    /// unplugged or exchanged during the update.
    OtherDevice,
    /// The device's driver is not there yet; that can still come.
    ///
    /// Remedy: Bind vfio-pci to the device (`driver_override`, `drivers_probe`), and retrieve the file again.
    NoDriverYet,
    /// The unit's tables have been refused.
    ///
    /// Remedy: The device file cannot be retrieved, because the device was stopped when its unit was blocked. The session
    /// can be finished without it; an earlier line of the log names the reason.
    UnitRefused,

    // About the tables of an IOMMU.
    /// What the tables themselves say is not accepted.
    ///
    /// Remedy: At preserve nothing is changed: the tables are not what those of a preserved device should be. After the
    /// jump the unit is blocked: it translates with an empty root table. Please report the line in either case.
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

            Self::NotSwappable => "device cannot change from its restored domain without a fault",

            Self::SleepsPreserved => {
                "machine cannot sleep while anything is preserved: close its session first"
            }
            Self::SleepsUnfinished => {
                "machine cannot sleep before the previous update is finished: finish its sessions first"
            }
            Self::Asleep => "machine is on its way to sleep",

            Self::NotSwapped => "a device of the previous update is not swapped yet",
            Self::Unsettled => "somebody holds the device or a bridge above it",
            Self::NoHandover => "next kernel was not loaded by kexec_file_load",
            Self::ImageWithoutHitless => "next kernel has no hitless",
            Self::ImageOfOtherFormat => "next kernel takes over another format",
            Self::ImageTakesLess => "next kernel does not take over all that is in use",
            Self::ImageNeedsMore => "next kernel needs what is not handed over",
            Self::ImageOwnLine => "next kernel does not obey the command line that it is given",
            Self::NextHitlessOff => "next kernel's command line switches hitless off",
            Self::NextHandoverOff => {
                "next kernel's command line does not switch kho and liveupdate on"
            }
            Self::NextIommuOff => "next kernel's command line does not switch the IOMMU on",
            Self::NextOtherRemapping => {
                "next kernel's command line changes the remapping of interrupts"
            }
            Self::NextOtherPci => {
                "next kernel's command line changes the numbers or the isolation of PCI functions"
            }

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
