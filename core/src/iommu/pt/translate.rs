// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Where a page table sends one address.

use super::entry::{level_shift, PageEntry, Rights};
use super::format::Format;
use crate::iommu::address::{HostAddressWidth, TableAddress};
use crate::iommu::bits;
use crate::iommu::flaw::Flaw;
use crate::iommu::memory::Memory;

/// Where an address goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Physical address, offset within the page included.
    pub physical: u64,
    /// Size of the page, as a power of two.
    pub page_bits: u32,
    /// Rights of the whole way down.
    pub rights: Rights,
}

/// Looks `iova` up; `None` if nothing is mapped there.
///
/// # Errors
///
/// [`Flaw::BeyondTable`] if the format has no such address, and what [`Format::decode`] and
/// [`Memory::read`] refuse.
pub fn translate<M: Memory>(
    memory: &M,
    root: TableAddress,
    format: Format,
    width: HostAddressWidth,
    iova: u64,
) -> Result<Option<Mapping>, Flaw> {
    if !format.has_address(iova) {
        return Err(Flaw::BeyondTable);
    }
    let mut table = root;
    let mut rights = Rights {
        read: true,
        write: true,
    };
    for level in (1..=format.levels()).rev() {
        let index = usize::from(bits::low_u16(
            iova.checked_shr(level_shift(level)).unwrap_or(0) & 0x1ff,
        ));
        match format.decode(memory.read(table, index)?, level, width)? {
            PageEntry::Absent => return Ok(None),
            PageEntry::Table {
                table: next,
                rights: more,
            } => {
                table = next;
                rights = rights.and(more);
            }
            PageEntry::Leaf {
                physical,
                page_bits,
                rights: more,
            } => {
                let offset = iova & bits::bit(page_bits).wrapping_sub(1);
                return Ok(Some(Mapping {
                    physical: physical | offset,
                    page_bits,
                    rights: rights.and(more),
                }));
            }
        }
    }
    // Entries of level 1 are never tables, so the loop has returned by now.
    Ok(None)
}
