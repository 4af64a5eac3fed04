// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Checked small values: addresses, widths, device numbers, domain ids.

use core::fmt;

use super::bits;
use super::flaw::Flaw;

/// Number of physical address bits of the platform (VT-d 8.1: HAW, which the firmware tells).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostAddressWidth(u32);

impl HostAddressWidth {
    /// The widest that table entries have room for.
    pub const MAX: Self = Self(52);

    /// # Errors
    ///
    /// [`Flaw::HostAddressWidth`] outside 32 to 52 bits.
    pub const fn new(bits: u32) -> Result<Self, Flaw> {
        if bits >= 32 && bits <= 52 {
            Ok(Self(bits))
        } else {
            Err(Flaw::HostAddressWidth)
        }
    }

    /// The width in bits.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether `address` lies below the width.
    pub const fn holds(self, address: u64) -> bool {
        address < bits::bit(self.0)
    }
}

/// Physical address of a 4 KiB table: a multiple of 4096, below the host address width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableAddress(u64);

impl TableAddress {
    /// # Errors
    ///
    /// [`Flaw::Misaligned`] or [`Flaw::BeyondHost`].
    pub const fn new(address: u64, width: HostAddressWidth) -> Result<Self, Flaw> {
        if address & !bits::POINTER != 0 {
            Err(Flaw::Misaligned)
        } else if !width.holds(address) {
            Err(Flaw::BeyondHost)
        } else {
            Ok(Self(address))
        }
    }

    /// The physical address.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The page with number `page` of a structure that starts here (a PASID directory).
    ///
    /// # Errors
    ///
    /// [`Flaw::BeyondHost`] if that page lies beyond the host address width.
    pub fn page(self, page: u16, width: HostAddressWidth) -> Result<Self, Flaw> {
        let offset = u64::from(page) << 12;
        match self.0.checked_add(offset) {
            Some(address) => Self::new(address, width),
            None => Err(Flaw::BeyondHost),
        }
    }
}

impl fmt::Display for TableAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Domain identifier: the tag of a domain's cached translations within one unit (DID).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainId(pub u16);
