// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Records of one machine, for tests: two units, two devices, two domains, one iommufd, one device file. They
//! are the golden bytes too.

extern crate std;

use std::vec::Vec;

use super::super::attachment::{Domain, DomainKey, Unit};
use super::super::hardware::Kinds;
use super::super::iommu::Iommu;
use super::super::iommufd::{Iommufd, Mapping, MappingRights, MemoryFile};
use super::super::pci::{DeviceAddress, Devices, Identity};
use super::super::set::{Listed, Records};
use super::super::vfio::{DeviceFile, Vfio};
use super::lent::{Handover, Lent, Shelved};
use crate::error::Error;
use crate::iommu::address::{DomainId, HostAddressWidth, TableAddress};
use crate::iommu::pt::format::Format;
use crate::iommu::pt::table::Table;
use crate::iommu::vtd::mode::Mode;
use crate::iommu::vtd::record::{DeviceTables, EntryFacts, PasidTables, Registers, VTD};
use crate::refusal::Refusal;

pub(super) static KINDS: Kinds = &[&VTD];

pub(super) const PCI: u64 = 0x0500_0000;
pub(super) const IOMMU: u64 = 0x0600_0000;
pub(super) const IOMMUFD: u64 = 0x0400_0000;
pub(super) const VFIO: u64 = 0x0700_0000;
pub(super) const LOG: u64 = 0x0900_0000;

pub(super) fn at(bdf: u16) -> DeviceAddress {
    DeviceAddress { segment: 0, bdf }
}

pub(super) const ONE: DeviceAddress = DeviceAddress {
    segment: 0,
    bdf: 0x0100,
};
pub(super) const TWO: DeviceAddress = DeviceAddress {
    segment: 0,
    bdf: 0x0200,
};

pub(super) const IGB: Identity = Identity {
    vendor: 0x8086,
    device: 0x10c9,
    subsystem_vendor: 0x8086,
    subsystem_device: 0xa03c,
    class_revision: 0x0200_0001,
};

pub(super) const REGISTERS: Registers = Registers {
    root_table: 0x0123_4000,
    live_root: 0x0123_4000,
    capability: 0x00d2_008c_2266_0286,
    extended_capability: 0x00f0_0f5a,
    mode: Mode::Legacy,
};

pub(super) const SCALABLE_REGISTERS: Registers = Registers {
    root_table: 0x0223_4000,
    live_root: 0x0223_4400,
    mode: Mode::Scalable,
    ..REGISTERS
};

pub(super) fn unit() -> Unit {
    REGISTERS.unit(0xfed9_0000, 0)
}

pub(super) fn scalable() -> Unit {
    SCALABLE_REGISTERS.unit(0xfed9_1000, 0)
}

pub(super) fn table(top: u64) -> TableAddress {
    TableAddress::new(top, HostAddressWidth::MAX).unwrap()
}

pub(super) fn domain() -> Domain {
    Domain {
        table: Table {
            top: table(0x0200_0000),
            format: Format::vtdss(4).unwrap(),
            incoherent: false,
            snoop: true,
        },
        tables: 39,
        iommufd: IOMMUFD,
        token: 0x0102_0304_0506_0708,
    }
}

pub(super) fn other() -> Domain {
    Domain {
        table: Table {
            top: table(0x0210_0000),
            format: Format::x86_64(4).unwrap(),
            incoherent: false,
            snoop: false,
        },
        token: 9,
        ..domain()
    }
}

/// A domain beside the two.
pub(super) fn third() -> Domain {
    Domain {
        table: Table {
            top: table(0x0220_0000),
            ..domain().table
        },
        iommufd: 0x0a00_0000,
        token: 7,
        ..domain()
    }
}

pub(super) fn id(domain: DomainKey) -> DomainId {
    DomainId(4 + domain.get() as u16)
}

/// Tables that no other device has but those that it has to share.
pub(super) fn tables(bdf: u16, registers: &Registers) -> DeviceTables {
    let is_scalable = registers.mode == Mode::Scalable;
    let [bus, devfn] = bdf.to_be_bytes().map(u64::from);
    let half = if is_scalable { devfn >> 7 } else { 0 };
    let number = u64::from(bdf);
    DeviceTables {
        context_table: registers.root_table + ((1 + 2 * bus + half) << 12),
        pasid: is_scalable.then_some(PasidTables {
            directory: 0x4_0000_0000 + (number << 17),
            table: 0x2_0000_0000 + (number << 12),
            max_pasid: 1 << 20,
        }),
        entry: EntryFacts {
            device_tlb: true,
            walk_snoop: is_scalable,
            page_snoop: false,
        },
    }
}

pub(super) fn pci() -> Devices<Lent> {
    let mut devices = Devices::create(Lent::at(PCI)).unwrap();
    let bridges = [at(0x0008), at(0x0010)];
    devices.add(ONE, IGB, bridges.into_iter()).unwrap();
    devices.add(TWO, IGB, [at(0x0010)].into_iter()).unwrap();
    devices
}

pub(super) fn attach(
    iommu: &mut Iommu<Lent>,
    unit: &Unit,
    bdf: u16,
    domain: DomainKey,
    change: impl FnOnce(&mut DeviceTables, &mut DomainId),
) -> Result<(), Refusal> {
    let registers = Registers::decode(&unit.payload).unwrap();
    let mut tables = tables(bdf, &registers);
    let mut id = id(domain);
    change(&mut tables, &mut id);
    match iommu.add_attachment(unit, at(bdf), domain, &tables.translation(id)) {
        Ok(()) => Ok(()),
        Err(Error::Refused(refusal)) => Err(refusal),
        Err(Error::Lender(_)) => panic!("memory is lent"),
    }
}

pub(super) fn iommu() -> Iommu<Lent> {
    let mut iommu = Iommu::create(Lent::at(IOMMU), KINDS).unwrap();
    let first = iommu.add_domain(&domain()).unwrap();
    let second = iommu.add_domain(&other()).unwrap();
    attach(&mut iommu, &unit(), 0x0100, first, |_, _| {}).unwrap();
    attach(&mut iommu, &scalable(), 0x0200, second, |_, _| {}).unwrap();
    iommu
}

pub(super) const MEMORY: MemoryFile = MemoryFile {
    data: 0x0800_0000,
    token: 3,
};

pub(super) const READ_WRITE: MappingRights = MappingRights {
    read: true,
    write: true,
};

pub(super) fn iommufd() -> Iommufd<Lent> {
    let mut iommufd = Iommufd::create(Lent::at(IOMMUFD)).unwrap();
    let memory = iommufd.add_memory(&MEMORY).unwrap();
    for (key, domain, mappings) in [(1, domain(), 2), (2, other(), 70)] {
        let key = DomainKey::new(key).unwrap();
        let hwpt = iommufd.add_hwpt(domain.token, key).unwrap();
        for number in 0..mappings {
            let mapping = Mapping {
                iova: 0x1_0000_0000 + number * 0x4000,
                length: 0x3000,
                memory,
                offset: number * 0x3000,
                rights: MappingRights {
                    write: number % 2 == 0,
                    ..READ_WRITE
                },
            };
            iommufd.add_mapping(hwpt, &mapping).unwrap();
        }
    }
    iommufd
}

pub(super) fn file() -> DeviceFile {
    DeviceFile {
        address: ONE,
        iommufd: IOMMUFD,
        hwpt_token: domain().token,
    }
}

pub(super) fn vfio() -> Vfio<Lent> {
    Vfio::create(Lent::at(VFIO), &file()).unwrap()
}

/// All records of the machine, handed over.
pub(super) fn handed_over() -> Handover {
    let handover = Handover::default();
    pci().into_lender().jump(&handover);
    iommu().into_lender().jump(&handover);
    iommufd().into_lender().jump(&handover);
    vfio().into_lender().jump(&handover);
    handover
}

pub(super) type Set = Records<Lent, Shelved<Listed<Lent>>>;

/// What the next kernel makes of what was handed over.
pub(super) fn take(handover: &Handover) -> Set {
    let mut records = Set::new(Shelved(Vec::new()));
    let _ = records.take_pci(Lent::of(handover), PCI);
    let lend = || Lent::of(handover);
    let _ = records.take_iommu(lend(), IOMMU, KINDS, lend, |_, _| {});
    records
}
