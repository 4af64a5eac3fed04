// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Checked small values: addresses, widths, device numbers, domain ids.

use core::fmt;

use super::bits;
use super::Refusal;

/// Number of physical address bits of the platform (HAW, from the DMAR table; VT-d 8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostAddressWidth(u32);

impl HostAddressWidth {
    /// The widest that table entries have room for.
    pub const MAX: Self = Self(52);

    /// # Errors
    ///
    /// [`Refusal::HostAddressWidth`] outside 32 to 52 bits.
    pub const fn new(bits: u32) -> Result<Self, Refusal> {
        if bits >= 32 && bits <= 52 {
            Ok(Self(bits))
        } else {
            Err(Refusal::HostAddressWidth)
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
    /// [`Refusal::Misaligned`] or [`Refusal::BeyondHost`].
    pub const fn new(address: u64, width: HostAddressWidth) -> Result<Self, Refusal> {
        if address & !bits::POINTER != 0 {
            Err(Refusal::Misaligned)
        } else if !width.holds(address) {
            Err(Refusal::BeyondHost)
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
    /// [`Refusal::BeyondHost`] if that page lies beyond the host address width.
    pub fn page(self, page: u16, width: HostAddressWidth) -> Result<Self, Refusal> {
        let offset = u64::from(page) << 12;
        match self.0.checked_add(offset) {
            Some(address) => Self::new(address, width),
            None => Err(Refusal::BeyondHost),
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

/// Bus, device and function of a PCI function, as a source id has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bdf(pub u16);

impl Bdf {
    /// From a bus number and the device and function number below it.
    pub const fn new(bus: u8, devfn: u8) -> Self {
        Self(u16::from_be_bytes([bus, devfn]))
    }

    /// Bus number.
    pub const fn bus(self) -> u8 {
        let [bus, _] = self.0.to_be_bytes();
        bus
    }

    /// Device (bits 7 to 3) and function (bits 2 to 0).
    pub const fn devfn(self) -> u8 {
        let [_, devfn] = self.0.to_be_bytes();
        devfn
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let devfn = self.devfn();
        write!(f, "{:02x}:{:02x}.{}", self.bus(), devfn >> 3, devfn & 7)
    }
}

/// A set of device and function numbers on one bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DevfnSet([u64; 4]);

impl DevfnSet {
    /// The empty set.
    pub const EMPTY: Self = Self([0; 4]);

    /// Those of `devices` that are on `bus`.
    pub fn on_bus(bus: u8, devices: impl IntoIterator<Item = Bdf>) -> Self {
        let mut set = Self::EMPTY;
        for bdf in devices {
            if bdf.bus() == bus {
                set.insert(bdf.devfn());
            }
        }
        set
    }

    /// Adds `devfn`.
    pub fn insert(&mut self, devfn: u8) {
        if let Some(word) = self.0.get_mut(usize::from(devfn >> 6)) {
            *word |= bits::bit(u32::from(devfn & 63));
        }
    }

    /// Whether `devfn` is in the set.
    pub fn contains(&self, devfn: u8) -> bool {
        self.0
            .get(usize::from(devfn >> 6))
            .is_some_and(|word| bits::is_set(*word, u32::from(devfn & 63)))
    }

    /// Whether nothing is in the set.
    pub const fn is_empty(&self) -> bool {
        let [a, b, c, d] = self.0;
        a | b | c | d == 0
    }

    /// Whether any of devices 0 to 15 is in the set: the lower context table of scalable mode.
    pub const fn any_lower(&self) -> bool {
        let [a, b, _, _] = self.0;
        a | b != 0
    }

    /// Whether any of devices 16 to 31 is in the set: the upper context table of scalable mode.
    pub const fn any_upper(&self) -> bool {
        let [_, _, c, d] = self.0;
        c | d != 0
    }
}

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
    /// [`Refusal::UnknownLevels`] for anything but 3, 4 and 5.
    pub const fn new(levels: u32) -> Result<Self, Refusal> {
        match levels {
            3 => Ok(Self::Three),
            4 => Ok(Self::Four),
            5 => Ok(Self::Five),
            _ => Err(Refusal::UnknownLevels),
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
    pub(super) const fn from_code(code: u64) -> Option<Self> {
        match code {
            1 => Some(Self::Three),
            2 => Some(Self::Four),
            3 => Some(Self::Five),
            _ => None,
        }
    }

    /// The AW field of a context or PASID entry.
    pub(super) const fn code(self) -> u64 {
        match self {
            Self::Three => 1,
            Self::Four => 2,
            Self::Five => 3,
        }
    }
}
