// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Facts about files and live entries as the seams report them, one bit each: the `HITLESS_HWPT_*`,
//! `HITLESS_VFIO_*` and `HITLESS_REPLACE_*` of `include/linux/hitless.h`.

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
        /// Some mapping of its IOAS is not from a file.
        OTHER_MEMORY = 5,
        /// Some file was not sealed when it was mapped.
        UNSEALED = 6,
        /// It is a restored domain.
        RESTORED = 7,
        /// Its tables cannot be described.
        UNKNOWN_TABLE = 8,
        /// Folios were taken out of a file after it was mapped.
        HOLES = 9,
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
        /// Its IOMMU is not VT-d.
        NOT_VTD = 8,
        /// There are more bridges than can be reported.
        TOO_MANY_BRIDGES = 9,
        /// It has interrupts set up.
        INTERRUPTS = 10,
        /// It is attached to its restored domain.
        RESTORED = 11,
        /// Its own translation cache (ATS) is on.
        ATS = 12,
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
