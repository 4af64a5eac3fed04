// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Records of one machine, for tests: two units, two devices, two domains, one iommufd. They are the
//! golden bytes too.

extern crate std;

use std::boxed::Box;
use std::vec::Vec;

use super::iommu::Iommu;
use super::iommufd::Iommufd;
use super::pci::Devices;
use super::tables::TableList;
use super::vfio::{Vfio, VfioFile};
use crate::abi::{Page, PAGE_SIZE};
use crate::model::{
    Attachment, DeviceAddress, Domain, DomainKey, EntryFacts, Format, Identity, Mode, Table, Unit,
};

pub(crate) fn page() -> Box<Page> {
    Box::new([0xa5; PAGE_SIZE])
}

pub(crate) fn at(bdf: u16) -> DeviceAddress {
    DeviceAddress { segment: 0, bdf }
}

pub(crate) const IGB: Identity = Identity {
    vendor: 0x8086,
    device: 0x10c9,
    subsystem_vendor: 0x8086,
    subsystem_device: 0xa03c,
    class_revision: 0x0200_0001,
};

pub(crate) const UNIT: Unit = Unit {
    register_base: 0xfed9_0000,
    root_table: 0x0123_4000,
    live_root: 0x0123_4000,
    capability: 0x00d2_008c_2266_0286,
    extended_capability: 0x00f0_0f5a,
    mode: Mode::Legacy,
    segment: 0,
};

pub(crate) const SCALABLE: Unit = Unit {
    register_base: 0xfed9_1000,
    root_table: 0x0223_4000,
    live_root: 0x0223_4400,
    capability: UNIT.capability,
    extended_capability: UNIT.extended_capability,
    mode: Mode::Scalable,
    segment: 0,
};

pub(crate) const DOMAIN: Domain = Domain {
    table: Table {
        top: 0x0200_0000,
        format: Format::SecondStage,
        levels: 4,
        incoherent: false,
        snoop: true,
    },
    list: 0x0300_0000,
    tables: 39,
    iommufd: 0x0400_0000,
    token: 0x0102_0304_0506_0708,
};

pub(crate) const OTHER: Domain = Domain {
    table: Table {
        top: 0x0210_0000,
        format: Format::FirstStage,
        levels: 4,
        incoherent: false,
        snoop: false,
    },
    list: 0x0310_0000,
    token: 9,
    ..DOMAIN
};

/// An attachment to pages that no other of these devices has but those that it has to share.
pub(crate) fn attachment(bdf: u16, unit: &Unit, domain: DomainKey) -> Attachment {
    let scalable = unit.mode == Mode::Scalable;
    let [bus, devfn] = bdf.to_be_bytes().map(u64::from);
    let half = if scalable { devfn >> 7 } else { 0 };
    let number = u64::from(bdf);
    Attachment {
        address: at(bdf),
        register_base: unit.register_base,
        context_table: unit.root_table + ((1 + 2 * bus + half) << 12),
        pasid_directory: if scalable {
            0x4_0000_0000 + (number << 17)
        } else {
            0
        },
        pasid_table: if scalable {
            0x2_0000_0000 + (number << 12)
        } else {
            0
        },
        max_pasid: if scalable { 1 << 20 } else { 0 },
        domain_id: 4 + domain.get(),
        domain,
        entry: EntryFacts {
            device_tlb: true,
            walk_snoop: scalable,
            page_snoop: false,
        },
    }
}

pub(crate) fn pci() -> Devices<Box<Page>> {
    let mut devices = Devices::create(page());
    let bridges = [at(0x0008), at(0x0010)];
    devices.add(at(0x0100), IGB, bridges.into_iter()).unwrap();
    let bridges = [at(0x0010)];
    devices.add(at(0x0200), IGB, bridges.into_iter()).unwrap();
    devices
}

pub(crate) fn iommu() -> Iommu<Box<Page>> {
    let mut iommu = Iommu::create(page());
    let first = iommu.add_domain(&DOMAIN).unwrap();
    let second = iommu.add_domain(&OTHER).unwrap();
    iommu
        .add_attachment(&UNIT, &attachment(0x0100, &UNIT, first))
        .unwrap();
    iommu
        .add_attachment(&SCALABLE, &attachment(0x0200, &SCALABLE, second))
        .unwrap();
    iommu
}

pub(crate) fn iommufd() -> Iommufd<Box<Page>> {
    let mut iommufd = Iommufd::create(page());
    for (key, domain) in (1..).zip([DOMAIN, OTHER]) {
        let key = DomainKey::new(key).unwrap();
        iommufd.add_hwpt(domain.token, key).unwrap();
        iommufd.add_memory(key, 0x0800_0000).unwrap();
    }
    iommufd
}

pub(crate) const FILE: VfioFile = VfioFile {
    address: DeviceAddress {
        segment: 0,
        bdf: 0x0100,
    },
    iommufd: DOMAIN.iommufd,
    hwpt_token: DOMAIN.token,
};

pub(crate) fn vfio() -> Vfio<Box<Page>> {
    Vfio::create(page(), &FILE, &[0x0008, 0x0010]).unwrap()
}

pub(crate) fn tables() -> TableList<Box<Page>> {
    let mut list = TableList::create(page());
    list.push(0x0200_0000).unwrap();
    list.push(0x0200_1000).unwrap();
    list.set_next(0x0900_0000);
    list
}

/// The records of one machine.
pub(crate) struct Records {
    pub(crate) devices: Devices<Box<Page>>,
    pub(crate) iommu: Iommu<Box<Page>>,
    /// With their addresses.
    pub(crate) iommufds: Vec<(u64, Iommufd<Box<Page>>)>,
}

impl Records {
    pub(crate) fn new() -> Self {
        Self {
            devices: pci(),
            iommu: iommu(),
            iommufds: std::vec![(DOMAIN.iommufd, iommufd())],
        }
    }
}
