// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! How each page of a record begins.
//!
//! Written by the outgoing kernel, read by the incoming one. The layout of the header is the same for
//! ever. A reader that does not know a bit of `required` must refuse the record; bits of `optional`
//! that it does not know it may pass over. The checksum is right at every moment between two changes of
//! the page; it finds damage, not lies.

use zerocopy::little_endian::{U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The header.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct HeaderSer {
    /// Names the family.
    pub magic: [u8; 8],
    /// Version of the family: 1.
    pub version: U32,
    /// CRC-32C of the page with 0 in this field.
    pub checksum: U32,
    /// Features without which the record is misread.
    pub required: U64,
    /// Features that a reader may pass over.
    pub optional: U64,
    /// Physical address of the first page of the chain.
    pub first: U64,
    /// Physical address of the next page; 0 in the last.
    pub next: U64,
    /// Number of the page in its chain, counted from 0.
    pub number: U32,
    /// Entries of the page that are not free.
    pub count: U32,
    /// Bytes of an entry: 64.
    pub entry_size: U32,
    /// 0.
    pub reserved: U32,
}

const _: () = assert!(size_of::<HeaderSer>() == 64);
const _: () = assert!(core::mem::offset_of!(HeaderSer, checksum) == 12);
const _: () = assert!(core::mem::offset_of!(HeaderSer, next) == 40);
const _: () = assert!(core::mem::offset_of!(HeaderSer, entry_size) == 56);
