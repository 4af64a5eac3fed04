// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A VFIO device file.

use core::ops::{Deref, DerefMut};

use zerocopy::{transmute_mut, transmute_ref};

use super::{has_duplicates, is_zero, Header};
use crate::abi::vfio::{VfioSer, BRIDGES, KNOWN_REQUIRED, MAGIC, VERSION};
use crate::abi::Page;
use crate::model::DeviceAddress;
use crate::refusal::{Family, Refusal};

const FAMILY: Family = Family::VfioPci;
const HEADER: Header = Header {
    family: FAMILY,
    magic: MAGIC,
    version: VERSION,
    known_required: KNOWN_REQUIRED,
};

/// What the record of a VFIO device file says besides the bridges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VfioFile {
    /// The device.
    pub address: DeviceAddress,
    /// LUO's data of its iommufd.
    pub iommufd: u64,
    /// Token of its HWPT.
    pub hwpt_token: u64,
}

/// The record of a VFIO device file.
///
/// # Invariants
///
/// The number of bridges is at most [`BRIDGES`]; device and bridges are at different addresses.
#[derive(Debug)]
pub struct Vfio<P> {
    page: P,
}

impl<P: Deref<Target = Page>> Vfio<P> {
    /// Takes over a page that another kernel wrote.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn decode(page: P) -> Result<Self, Refusal> {
        let record: &VfioSer = transmute_ref!(&*page);
        HEADER.check(&record.header)?;
        let count = usize::from(record.bridge_count.get());
        let unused = record.bridges.iter().skip(count);
        if count > BRIDGES
            || unused.into_iter().any(|bridge| bridge.get() != 0)
            || !is_zero(&record.reserved)
            || !is_zero(&record.reserved_end)
        {
            return Err(Refusal::Malformed(FAMILY));
        }
        let this = Self { page };
        this.check_addresses()?;
        Ok(this)
    }

    /// A bridge that is named twice, or is the device, would be finished twice.
    fn check_addresses(&self) -> Result<(), Refusal> {
        let device = core::iter::once(self.file().address);
        match has_duplicates(device.chain(self.bridges())) {
            true => Err(Refusal::Duplicate(FAMILY)),
            false => Ok(()),
        }
    }

    fn record(&self) -> &VfioSer {
        transmute_ref!(&*self.page)
    }

    /// The page.
    pub fn page(&self) -> &P {
        &self.page
    }

    /// Gives the page back.
    pub fn into_page(self) -> P {
        self.page
    }

    /// What the record says besides the bridges.
    pub fn file(&self) -> VfioFile {
        let record = self.record();
        VfioFile {
            address: DeviceAddress {
                segment: record.segment.get(),
                bdf: record.bdf.get(),
            },
            iommufd: record.iommufd.get(),
            hwpt_token: record.hwpt_token.get(),
        }
    }

    /// The bridges above the device, nearest first.
    pub fn bridges(&self) -> impl Iterator<Item = DeviceAddress> + Clone + '_ {
        let record = self.record();
        let (segment, count) = (record.segment.get(), usize::from(record.bridge_count.get()));
        let bridges = record.bridges.iter().take(count);
        bridges.map(move |bdf| DeviceAddress {
            segment,
            bdf: bdf.get(),
        })
    }
}

impl<P: DerefMut<Target = Page>> Vfio<P> {
    /// Makes a record.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooManyBridges`], [`Refusal::Duplicate`].
    pub fn create(mut page: P, file: &VfioFile, bridges: &[u16]) -> Result<Self, Refusal> {
        page.fill(0);
        let record: &mut VfioSer = transmute_mut!(&mut *page);
        record.header = HEADER.encode();
        record.segment = file.address.segment.into();
        record.bdf = file.address.bdf.into();
        record.iommufd = file.iommufd.into();
        record.hwpt_token = file.hwpt_token.into();
        if bridges.len() > BRIDGES {
            return Err(Refusal::TooManyBridges);
        }
        let count = u16::try_from(bridges.len()).map_err(|_| Refusal::TooManyBridges)?;
        record.bridge_count = count.into();
        for (entry, bdf) in record.bridges.iter_mut().zip(bridges) {
            *entry = (*bdf).into();
        }
        let this = Self { page };
        this.check_addresses()?;
        Ok(this)
    }
}
