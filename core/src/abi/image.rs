// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a kernel image says of itself: whether it can take over what an outgoing kernel hands over.
//!
//! The record stands in the variable part of `kernel_info`, which is in the uncompressed part of a bzImage
//! (Documentation/arch/x86/boot.rst). Read when the image is loaded, by the kernel that is going to jump into it, and by
//! programs. An image without a record takes nothing over. A reader refuses a version that it does not know; a record may be
//! longer than it knows.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Magic number.
pub const MAGIC: [u8; 4] = *b"HTLS";
/// Version.
pub const VERSION: u32 = 1;
/// The handover format that this kernel writes: `VERSION` of the families.
pub const FORMAT: u16 = 1;
/// `ImageSer::defaults`: kexec handover is on if the command line does not say otherwise.
pub const DEFAULT_HANDOVER: u32 = 1 << 0;
/// `ImageSer::defaults`: so is the IOMMU.
pub const DEFAULT_IOMMU: u32 = 1 << 1;
/// `ImageSer::defaults`: the kernel has a command line of its own and obeys no other.
pub const OWN_LINE: u32 = 1 << 2;

/// The record.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ImageSer {
    /// `MAGIC`.
    pub magic: [u8; 4],
    /// Bytes of the record.
    pub size: U32,
    /// `VERSION`.
    pub version: U32,
    /// The oldest handover format that it takes over.
    pub oldest: U16,
    /// The newest.
    pub newest: U16,
    /// Features that it takes over: bit N is the kind of hardware with number N, bit 16 + N the page-table format with
    /// number N.
    pub takes: U64,
    /// Features that what is handed over to it must have: none yet.
    pub needs: U64,
    /// `DEFAULT_HANDOVER`, `DEFAULT_IOMMU`, `OWN_LINE`.
    pub defaults: U32,
    /// 0.
    pub reserved: U32,
}

const _: () = assert!(size_of::<ImageSer>() == 40);
const _: () = assert!(core::mem::offset_of!(ImageSer, takes) == 16);
const _: () = assert!(core::mem::offset_of!(ImageSer, defaults) == 32);
