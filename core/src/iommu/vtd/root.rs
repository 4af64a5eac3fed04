// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Root entries (VT-d 9.1, 9.2), 128 bits each.

use super::word::{pointer, PRESENT};
use crate::iommu::address::{HostAddressWidth, TableAddress};
use crate::iommu::bits;
use crate::iommu::flaw::{Entry, Flaw};

/// Words of a root entry: in scalable mode the lower and the upper half.
pub const ROOT_WORDS: usize = 2;

/// Bits 11:1 are reserved, in scalable mode of either half.
const RESERVED: u64 = 0xffe;

/// A present root entry of legacy mode: where the context table of a bus is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootEntry {
    /// The 256 context entries of the bus (CTP).
    pub context_table: TableAddress,
}

impl RootEntry {
    /// `None` if the entry is not present.
    ///
    /// # Errors
    ///
    /// [`Flaw::Reserved`], [`Flaw::PointerBeyondHost`].
    pub const fn decode(
        words: [u64; ROOT_WORDS],
        width: HostAddressWidth,
    ) -> Result<Option<Self>, Flaw> {
        let [low, high] = words;
        if !bits::is_set(low, PRESENT) {
            return Ok(None);
        }
        if low & RESERVED != 0 || high != 0 {
            return Err(Flaw::Reserved(Entry::Root));
        }
        match pointer(low, width, Entry::Root) {
            Ok(context_table) => Ok(Some(Self { context_table })),
            Err(flaw) => Err(flaw),
        }
    }

    /// The words of the entry.
    pub const fn encode(self) -> [u64; ROOT_WORDS] {
        [self.context_table.get() | bits::bit(PRESENT), 0]
    }
}

/// One half of a root entry, if present: the context table of devices 0 to 15 (lower) or 16 to 31
/// (upper) of a bus, 128 entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootHalf {
    /// The context table (LCTP or UCTP).
    pub context_table: TableAddress,
}

impl RootHalf {
    /// `None` if this half is not present.
    ///
    /// # Errors
    ///
    /// [`Flaw::Reserved`], [`Flaw::PointerBeyondHost`].
    pub const fn decode(word: u64, width: HostAddressWidth) -> Result<Option<Self>, Flaw> {
        if !bits::is_set(word, PRESENT) {
            return Ok(None);
        }
        if word & RESERVED != 0 {
            return Err(Flaw::Reserved(Entry::Root));
        }
        match pointer(word, width, Entry::Root) {
            Ok(context_table) => Ok(Some(Self { context_table })),
            Err(flaw) => Err(flaw),
        }
    }

    /// The word of this half.
    pub const fn encode(self) -> u64 {
        self.context_table.get() | bits::bit(PRESENT)
    }
}
