// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Units, domains and attachments: the values, and their entries.

use super::list::{is_page, is_zero};
use super::pci::DeviceAddress;
use crate::abi::iommu::{
    AttachmentSer, DomainSer, UnitSer, ATTACHMENT_PAYLOAD, DOMAIN_INCOHERENT, DOMAIN_SNOOP,
    KIND_ATTACHMENT, KIND_DOMAIN, KIND_UNIT, UNIT_PAYLOAD,
};
use crate::iommu::address::{HostAddressWidth, TableAddress};
use crate::iommu::pt::format::Format;
use crate::iommu::pt::table::Table;
use crate::refusal::{Family, Refusal};

const MALFORMED: Refusal = Refusal::Malformed(Family::Iommu);

/// A unit, as recorded or as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Physical address of the register set; names the unit.
    pub base: u64,
    /// PCI segment of the devices behind it.
    pub segment: u32,
    /// The kind of hardware.
    pub hardware: u8,
    /// What only this kind has.
    pub payload: [u8; UNIT_PAYLOAD],
}

impl Unit {
    pub(super) fn encode(&self) -> UnitSer {
        UnitSer {
            kind: KIND_UNIT,
            hardware: self.hardware,
            reserved: 0.into(),
            segment: self.segment.into(),
            base: self.base.into(),
            payload: self.payload,
        }
    }

    pub(super) fn decode(ser: &UnitSer) -> Result<Self, Refusal> {
        match ser.reserved.get() {
            0 => Ok(Self {
                base: ser.base.get(),
                segment: ser.segment.get(),
                hardware: ser.hardware,
                payload: ser.payload,
            }),
            _ => Err(MALFORMED),
        }
    }
}

/// Names a domain among the records: at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainKey(u32);

impl DomainKey {
    /// `None` for 0.
    pub const fn new(key: u32) -> Option<Self> {
        match key {
            0 => None,
            key => Some(Self(key)),
        }
    }

    /// From the form that C carries.
    pub fn from_u64(key: u64) -> Option<Self> {
        u32::try_from(key).ok().and_then(Self::new)
    }

    /// The key.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// A domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Its page table.
    pub table: Table,
    /// Pages of the page table that were handed over.
    pub tables: u64,
    /// Physical address of the record of the iommufd that has its HWPT.
    pub iommufd: u64,
    /// The HWPT's token.
    pub token: u64,
}

impl Domain {
    pub(super) fn encode(&self) -> DomainSer {
        let Table {
            top,
            format,
            incoherent,
            snoop,
        } = self.table;
        let incoherent = if incoherent { DOMAIN_INCOHERENT } else { 0 };
        let snoop = if snoop { DOMAIN_SNOOP } else { 0 };
        DomainSer {
            kind: KIND_DOMAIN,
            format: format.number(),
            levels: u8::try_from(format.levels()).unwrap_or(0),
            flags: incoherent | snoop,
            reserved: 0.into(),
            top: top.get().into(),
            tables: self.tables.into(),
            iommufd: self.iommufd.into(),
            token: self.token.into(),
            reserved_end: [0; 24],
        }
    }

    pub(super) fn decode(ser: &DomainSer) -> Result<Self, Refusal> {
        let format = Format::from_number(ser.format, ser.levels.into());
        let top = TableAddress::new(ser.top.get(), HostAddressWidth::MAX);
        let sound = ser.flags & !(DOMAIN_INCOHERENT | DOMAIN_SNOOP) == 0
            && ser.reserved.get() == 0
            && is_zero(&ser.reserved_end)
            && is_page(ser.top.get())
            && is_page(ser.iommufd.get())
            && ser.tables.get() != 0;
        match (format, top) {
            (Some(format), Ok(top)) if sound => Ok(Self {
                table: Table {
                    top,
                    format,
                    incoherent: ser.flags & DOMAIN_INCOHERENT != 0,
                    snoop: ser.flags & DOMAIN_SNOOP != 0,
                },
                tables: ser.tables.get(),
                iommufd: ser.iommufd.get(),
                token: ser.token.get(),
            }),
            _ => Err(MALFORMED),
        }
    }
}

/// How a unit translates for a device: what the device's entries are, and say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The number under which the unit caches translations of the domain.
    pub domain_id: u32,
    /// What only the unit's kind of hardware has.
    pub payload: [u8; ATTACHMENT_PAYLOAD],
}

/// A device's attachment to a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The device.
    pub address: DeviceAddress,
    /// Key of the unit that translates for it.
    pub(super) unit: u32,
    /// The domain.
    pub domain: DomainKey,
    /// How the unit translates for it.
    pub translation: Translation,
}

impl Attachment {
    pub(super) fn encode(&self) -> AttachmentSer {
        AttachmentSer {
            kind: KIND_ATTACHMENT,
            reserved: 0,
            bdf: self.address.bdf.into(),
            segment: self.address.segment.into(),
            unit: self.unit.into(),
            domain: self.domain.get().into(),
            domain_id: self.translation.domain_id.into(),
            reserved_id: 0.into(),
            payload: self.translation.payload,
        }
    }

    pub(super) fn address(ser: &AttachmentSer) -> DeviceAddress {
        DeviceAddress {
            segment: ser.segment.get(),
            bdf: ser.bdf.get(),
        }
    }

    pub(super) fn decode(ser: &AttachmentSer) -> Result<Self, Refusal> {
        let domain = DomainKey::new(ser.domain.get()).ok_or(MALFORMED)?;
        if ser.reserved != 0 || ser.reserved_id.get() != 0 {
            return Err(MALFORMED);
        }
        Ok(Self {
            address: Self::address(ser),
            unit: ser.unit.get(),
            domain,
            translation: Translation {
                domain_id: ser.domain_id.get(),
                payload: ser.payload,
            },
        })
    }
}
