// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! How each record begins.
//!
//! Written by the outgoing kernel, read by the incoming one. The layout of the header is the same for
//! ever. A reader that does not know a bit of `required` must refuse the record; bits of `optional`
//! that it does not know it may pass over.

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
    /// Length of the record in bytes, this header included.
    pub length: U32,
    /// Features without which the record is misread.
    pub required: U64,
    /// Features that a reader may pass over.
    pub optional: U64,
}

const _: () = assert!(size_of::<HeaderSer>() == 32);
const _: () = assert!(core::mem::offset_of!(HeaderSer, required) == 16);
