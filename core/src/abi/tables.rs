// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The list of a domain's page-table pages: a chain of pages.
//!
//! Part of `hitless-iommu-v1`. All pages but the last are full. Written at preserve; read by the
//! incoming kernel when the restored domain is released, and not before.

use zerocopy::little_endian::{U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Magic number.
pub const MAGIC: [u8; 8] = *b"hitl-tbl";
/// Tables that one page of the chain has room for.
pub const TABLES: usize = 509;

/// A page of the chain.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct TableListSer {
    /// Magic number.
    pub magic: [u8; 8],
    /// Physical address of the next page; 0 in the last.
    pub next: U64,
    /// Number of valid entries in `tables`.
    pub count: U32,
    /// 0.
    pub reserved: U32,
    /// Physical addresses of the tables.
    pub tables: [U64; TABLES],
}

const _: () = assert!(size_of::<TableListSer>() == super::PAGE_SIZE);
