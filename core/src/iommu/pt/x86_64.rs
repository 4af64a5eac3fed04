// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! First-stage page tables (VT-d 3.6, 9.7): the layout of the processor's own.

use super::entry::{decode_present, PageEntry, Rights};
use crate::iommu::address::HostAddressWidth;
use crate::iommu::flaw::Flaw;

/// P, R/W and U/S.
const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const USER: u64 = 4;
/// In a large page bit 12 selects a memory type.
const LARGE_ATTRIBUTES: u64 = 1 << 12;

/// Number of levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Levels {
    /// 48-bit addresses, sign-extended.
    Four,
    /// 57-bit addresses, sign-extended.
    Five,
}

impl Levels {
    /// # Errors
    ///
    /// [`Flaw::UnknownLevels`] for anything but 4 and 5.
    pub const fn new(levels: u32) -> Result<Self, Flaw> {
        match levels {
            4 => Ok(Self::Four),
            5 => Ok(Self::Five),
            _ => Err(Flaw::UnknownLevels),
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        match self {
            Self::Four => 4,
            Self::Five => 5,
        }
    }
}

/// Reads `word`, an entry of a table of `level`.
pub(super) const fn decode(
    word: u64,
    level: u32,
    width: HostAddressWidth,
) -> Result<PageEntry, Flaw> {
    if word & PRESENT == 0 {
        return Ok(PageEntry::Absent);
    }
    // Requests without PASID come with user privilege, so pages without U/S count as not accessible.
    let rights = Rights {
        read: word & USER != 0,
        write: word & USER != 0 && word & WRITE != 0,
    };
    decode_present(word, level, rights, LARGE_ATTRIBUTES, width)
}
