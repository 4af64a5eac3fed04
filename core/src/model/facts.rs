// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Facts about files and live entries as the seams report them, one bit each: the `HITLESS_HWPT_*`,
//! `HITLESS_MEMORY_*`, `HITLESS_VFIO_*`, `HITLESS_ARRIVES_*` and `HITLESS_SWAP_*` of `include/linux/hitless/`. Glue
//! asserts that they are the same bits.

macro_rules! facts {
    ($(#[$doc:meta])* $name:ident { $($(#[$fact:meta])* $constant:ident = $bit:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub u32);

        impl $name {
            $($(#[$fact])* pub const $constant: u32 = 1 << $bit;)*
            /// Every fact that is known here.
            pub const KNOWN: u32 = $(Self::$constant)|*;

            /// Whether `fact` is reported.
            pub const fn has(self, fact: u32) -> bool {
                self.0 & fact != 0
            }
        }
    };
}

facts! {
    /// Facts about a marked HWPT.
    HwptFacts {
        /// It tracks dirty pages.
        DIRTY_TRACKING = 0,
        /// It is a nesting parent.
        NEST_PARENT = 1,
        /// It delivers page faults.
        FAULT = 2,
        /// It is for PASIDs.
        PASID = 3,
        /// It was allocated by attaching to an IOAS.
        AUTO = 4,
        /// Its tables cannot be described.
        UNKNOWN_TABLE = 5,
    }
}

facts! {
    /// Facts about the memory behind a mapping of a marked HWPT.
    MemoryFacts {
        /// It is not from a file.
        NO_FILE = 0,
        /// It is from a DMA buffer.
        DMABUF = 1,
        /// Its file is not one of shmem.
        NOT_SHMEM = 2,
        /// Folios were taken out of the file after it was mapped.
        HOLES = 3,
        /// The mapping is still being made or taken down.
        UNSETTLED = 4,
        /// The device may read it.
        READABLE = 5,
        /// The device may write to it.
        WRITEABLE = 6,
    }
}

facts! {
    /// Facts about a device that is probed.
    ArrivalFacts {
        /// Nobody else is in its IOMMU group.
        ALONE = 0,
        /// It is bus master.
        BUS_MASTER = 1,
        /// The tables of its unit were refused.
        BLOCKED = 2,
    }
}

facts! {
    /// Facts about a device behind a VFIO device file.
    VfioFacts {
        /// It is bound to no iommufd.
        NO_IOMMUFD = 0,
        /// It is attached to nothing.
        NOT_ATTACHED = 1,
        /// It is attached to something that is not marked.
        NOT_MARKED = 2,
        /// It is a virtual function.
        VIRTFN = 3,
        /// It has virtual functions.
        HAS_VFS = 4,
        /// It uses PASIDs.
        PASIDS = 5,
        /// Its IOMMU group has other members, or it has DMA aliases.
        SHARED_GROUP = 6,
        /// It is not in D0.
        NOT_D0 = 7,
        /// No unit translates for it whose driver knows hitless.
        UNKNOWN_UNIT = 8,
        /// It has interrupts set up.
        INTERRUPTS = 9,
        /// It is attached to its restored domain.
        RESTORED = 10,
        /// Its own translation cache (ATS) is on.
        ATS = 11,
        /// It has no IOMMU group.
        NO_GROUP = 12,
    }
}

facts! {
    /// Facts about a live entry whose device is to be attached to another paging domain.
    ReplaceFacts {
        /// It points to a restored domain.
        RESTORED = 0,
        /// There is no entry, or nothing is attached to the device.
        NO_ENTRY = 1,
        /// What it points to is not a paging domain whose table can be described.
        UNKNOWN_TABLE = 2,
        /// It is not a PCI function's own entry.
        NOT_PCI = 3,
        /// The device uses other requester ids too, each with an entry.
        ALIASES = 4,
        /// Either domain delivers page faults.
        PAGE_FAULTS = 5,
    }
}
