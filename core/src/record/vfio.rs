// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A VFIO device file.

use super::lender::{Grow, Lender, Take};
use super::list::{is_page, is_zero, Family, List};
use super::pci::DeviceAddress;
use crate::abi::vfio::{DeviceFileSer, KIND_FILE, KNOWN_REQUIRED, MAGIC, VERSION};
use crate::error::Error;
use crate::refusal::{self, Refusal};

const NAME: refusal::Family = refusal::Family::VfioPci;
const FAMILY: Family = Family {
    name: NAME,
    magic: MAGIC,
    version: VERSION,
    known_required: KNOWN_REQUIRED,
    last_kind: KIND_FILE,
};

/// What a VFIO device file was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceFile {
    /// The device.
    pub address: DeviceAddress,
    /// LUO's data of its iommufd.
    pub iommufd: u64,
    /// Token of its HWPT.
    pub hwpt_token: u64,
}

fn encode(file: &DeviceFile) -> DeviceFileSer {
    DeviceFileSer {
        kind: KIND_FILE,
        reserved: 0,
        bdf: file.address.bdf.into(),
        segment: file.address.segment.into(),
        iommufd: file.iommufd.into(),
        hwpt_token: file.hwpt_token.into(),
        reserved_end: [0; 40],
    }
}

fn decode(ser: &DeviceFileSer) -> Result<DeviceFile, Refusal> {
    let sound = ser.reserved == 0 && is_zero(&ser.reserved_end) && is_page(ser.iommufd.get());
    match sound {
        true => Ok(DeviceFile {
            address: DeviceAddress {
                segment: ser.segment.get(),
                bdf: ser.bdf.get(),
            },
            iommufd: ser.iommufd.get(),
            hwpt_token: ser.hwpt_token.get(),
        }),
        false => Err(Refusal::Malformed(NAME)),
    }
}

/// The record of a VFIO device file.
#[derive(Debug)]
pub struct Vfio<L> {
    list: List<L>,
    file: DeviceFile,
}

impl<L: Lender> Vfio<L> {
    /// Physical address of the first page: what LUO carries.
    pub fn phys(&self) -> u64 {
        self.list.phys()
    }

    /// The memory that was lent.
    pub const fn lender(&self) -> &L {
        self.list.lender()
    }

    /// Gives the memory back.
    pub fn into_lender(self) -> L {
        self.list.into_lender()
    }

    /// What the record says.
    pub const fn file(&self) -> &DeviceFile {
        &self.file
    }
}

impl<L: Take> Vfio<L> {
    /// Takes over a record that another kernel wrote. Whether it agrees with the records of devices and
    /// tables [`super::set::Records::file`] says.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and the lender's.
    pub fn decode(lender: L, phys: u64) -> Result<Self, Error<L::Error>> {
        let list = List::decode(lender, phys, FAMILY)?;
        let mut files = list
            .keys()
            .filter_map(|key| list.entry::<DeviceFileSer>(key, KIND_FILE));
        let file = decode(&files.next().ok_or(Refusal::NotRecorded(NAME))?)?;
        if files.next().is_some() {
            return Err(Refusal::Duplicate(NAME).into());
        }
        Ok(Self { list, file })
    }
}

impl<L: Grow> Vfio<L> {
    /// Makes a record.
    ///
    /// # Errors
    ///
    /// [`Refusal::Malformed`], and the lender's.
    pub fn create(lender: L, file: &DeviceFile) -> Result<Self, Error<L::Error>> {
        let ser = encode(file);
        let file = decode(&ser)?;
        let mut list = List::create(lender, FAMILY)?;
        list.reserve(1, 0)?;
        list.insert(&ser);
        Ok(Self { list, file })
    }
}
