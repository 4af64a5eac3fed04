// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Second-stage page tables of VT-d (3.7, 9.8).
//!
//! There is no present bit: an entry counts if it allows reading or writing. The format is also that
//! of the domain's addresses, which are not sign-extended.

use super::entry::{decode_present, PageEntry, Rights};
use crate::iommu::address::HostAddressWidth;
use crate::iommu::flaw::Flaw;

/// R and W.
const READ: u64 = 1;
const WRITE: u64 = 2;

/// Number of levels of a second-stage page table (VT-d 3.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Levels {
    /// 39-bit addresses, AW code 1.
    Three,
    /// 48-bit addresses, AW code 2.
    Four,
    /// 57-bit addresses, AW code 3.
    Five,
}

impl Levels {
    /// # Errors
    ///
    /// [`Flaw::UnknownLevels`] for anything but 3, 4 and 5.
    pub const fn new(levels: u32) -> Result<Self, Flaw> {
        match levels {
            3 => Ok(Self::Three),
            4 => Ok(Self::Four),
            5 => Ok(Self::Five),
            _ => Err(Flaw::UnknownLevels),
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        match self {
            Self::Three => 3,
            Self::Four => 4,
            Self::Five => 5,
        }
    }

    /// From the AW field of a context or PASID entry.
    pub(crate) const fn from_code(code: u64) -> Option<Self> {
        match code {
            1 => Some(Self::Three),
            2 => Some(Self::Four),
            3 => Some(Self::Five),
            _ => None,
        }
    }

    /// The AW field of a context or PASID entry.
    pub(crate) const fn code(self) -> u64 {
        match self {
            Self::Three => 1,
            Self::Four => 2,
            Self::Five => 3,
        }
    }
}

/// Reads `word`, an entry of a table of `level`.
pub(super) const fn decode(
    word: u64,
    level: u32,
    width: HostAddressWidth,
) -> Result<PageEntry, Flaw> {
    if word & (READ | WRITE) == 0 {
        return Ok(PageEntry::Absent);
    }
    let rights = Rights {
        read: word & READ != 0,
        write: word & WRITE != 0,
    };
    decode_present(word, level, rights, 0, width)
}
