// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Any format of page tables.

use super::entry::PageEntry;
use super::{vtdss, x86_64};
use crate::abi::iommu::{FORMAT_VTDSS, FORMAT_X86_64};
use crate::iommu::address::HostAddressWidth;
use crate::iommu::bits;
use crate::iommu::flaw::Flaw;

/// Format of a page table, with its number of levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// VT-d's second stage.
    Vtdss(vtdss::Levels),
    /// The processor's, which is also the first stage of VT-d and of AMD's IOMMU.
    X86_64(x86_64::Levels),
}

impl Format {
    /// A table of VT-d's second stage.
    ///
    /// # Errors
    ///
    /// [`Flaw::UnknownLevels`] unless 3 to 5.
    pub const fn vtdss(levels: u32) -> Result<Self, Flaw> {
        match vtdss::Levels::new(levels) {
            Ok(levels) => Ok(Self::Vtdss(levels)),
            Err(flaw) => Err(flaw),
        }
    }

    /// A table in the processor's format.
    ///
    /// # Errors
    ///
    /// [`Flaw::UnknownLevels`] unless 4 or 5.
    pub const fn x86_64(levels: u32) -> Result<Self, Flaw> {
        match x86_64::Levels::new(levels) {
            Ok(levels) => Ok(Self::X86_64(levels)),
            Err(flaw) => Err(flaw),
        }
    }

    /// The number that records have for the format, levels apart.
    pub const fn number(self) -> u8 {
        match self {
            Self::Vtdss(_) => FORMAT_VTDSS,
            Self::X86_64(_) => FORMAT_X86_64,
        }
    }

    /// The format with this number in records; `None` if there is none, or it has not so many levels.
    pub fn from_number(number: u8, levels: u32) -> Option<Self> {
        match number {
            FORMAT_VTDSS => Self::vtdss(levels).ok(),
            FORMAT_X86_64 => Self::x86_64(levels).ok(),
            _ => None,
        }
    }

    /// Number of levels, which is also the level of the top table.
    pub const fn levels(self) -> u32 {
        match self {
            Self::Vtdss(levels) => levels.get(),
            Self::X86_64(levels) => levels.get(),
        }
    }

    /// Number of address bits the tables translate.
    pub const fn address_bits(self) -> u32 {
        match self.levels() {
            3 => 39,
            4 => 48,
            _ => 57,
        }
    }

    /// Whether `iova` is an address of this format: below the width, or canonical (sign-extended) in
    /// the processor's format.
    pub const fn has_address(self, iova: u64) -> bool {
        let low = bits::bit(self.address_bits()).wrapping_sub(1);
        match self {
            Self::Vtdss(_) => iova & !low == 0,
            Self::X86_64(_) => {
                let sign = low >> 1;
                iova & !sign == 0 || iova & !sign == !sign
            }
        }
    }

    /// Reads `word`, an entry of a table of `level`.
    ///
    /// # Errors
    ///
    /// [`Flaw::Reserved`], [`Flaw::PointerBeyondHost`].
    pub const fn decode(
        self,
        word: u64,
        level: u32,
        width: HostAddressWidth,
    ) -> Result<PageEntry, Flaw> {
        match self {
            Self::Vtdss(_) => vtdss::decode(word, level, width),
            Self::X86_64(_) => x86_64::decode(word, level, width),
        }
    }
}
