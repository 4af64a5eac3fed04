// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The container of all records: entries of 64 bytes over a chain of pages.
//!
//! An entry is named by its key: its number, counted from 1 over all pages of the chain. It keeps its
//! key until it is free again. The first byte of each entry is its kind, which is the family's; a free
//! entry is all 0. A reader that meets a kind it does not know refuses the record if the kind is below
//! 0x80, and passes the entry over otherwise.

use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::header::HeaderSer;

/// Bytes of a page that holds a record.
pub const PAGE_SIZE: usize = 4096;
/// Bytes of an entry.
pub const ENTRY_SIZE: usize = 64;
/// Entries of a page.
pub const ENTRIES: usize = 63;

/// `EntrySer::kind`: free.
pub const KIND_FREE: u8 = 0;
/// `EntrySer::kind`: the first of those that may be passed over.
pub const KIND_OPTIONAL: u8 = 0x80;

/// A page that holds a record.
pub type Page = [u8; PAGE_SIZE];

/// Any entry.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct EntrySer {
    /// The family's `KIND_*`.
    pub kind: u8,
    /// As the kind has it.
    pub payload: [u8; 63],
}

/// A page.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct PageSer {
    /// Header.
    pub header: HeaderSer,
    /// Entries, in no order but where a family has one.
    pub entries: [EntrySer; ENTRIES],
}

const _: () = assert!(size_of::<EntrySer>() == ENTRY_SIZE);
const _: () = assert!(size_of::<PageSer>() == PAGE_SIZE);
const _: () = assert!(core::mem::offset_of!(PageSer, entries) == 64);
