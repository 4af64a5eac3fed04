// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! As many as a large server has: what is done grows no faster than what there is.

extern crate std;

use std::vec::Vec;

use super::super::attachment::{Domain, DomainKey, Unit};
use super::super::index::steps;
use super::super::iommu::Iommu;
use super::super::iommufd::{Iommufd, Mapping, MemoryFile};
use super::super::pci::{DeviceAddress, Devices};
use super::super::set::Verdict;
use super::fixture::*;
use super::lent::{Handover, Lent};
use crate::iommu::vtd::record::Registers;

/// How much of everything.
#[derive(Clone, Copy)]
struct Scale {
    units: u64,
    devices: u64,
    domains: u64,
    memories: u64,
}

const LARGE: Scale = Scale {
    units: 64,
    devices: 2_000,
    domains: 4_000,
    memories: 10_000,
};

impl Scale {
    fn address(&self, device: u64) -> DeviceAddress {
        // Eight segments, so that there are buses enough.
        DeviceAddress {
            segment: (device % 8) as u32,
            bdf: 0x0100 + (device / 8 * 8) as u16,
        }
    }

    fn unit(&self, device: u64) -> Unit {
        let number = device % self.units;
        let base = REGISTERS.root_table + (number << 32);
        let registers = Registers {
            root_table: base,
            live_root: base,
            ..REGISTERS
        };
        registers.unit(0xfed0_0000 + (number << 12), (device % 8) as u32)
    }

    /// All records of such a machine, with what it cost to make them.
    fn make(&self) -> (Handover, u64) {
        let _ = steps::take();
        let mut looks = 0;
        let handover = Handover::default();
        let mut devices = Devices::create(Lent::at(PCI)).unwrap();
        for device in 0..self.devices {
            let address = self.address(device);
            let bridge = DeviceAddress {
                bdf: 0x0008 + 8 * (address.bdf >> 8),
                ..address
            };
            let bridge = DeviceAddress {
                bdf: bridge.bdf & 0xff,
                ..bridge
            };
            devices.add(address, IGB, [bridge].into_iter()).unwrap();
        }
        looks += devices.lender().looks();
        devices.into_lender().jump(&handover);

        let mut iommu = Iommu::create(Lent::at(0x10_0000_0000), KINDS).unwrap();
        for number in 0..self.domains {
            let mut fresh: Domain = domain();
            fresh.table.top = table(0x20_0000_0000 + (number << 12));
            fresh.token = number;
            fresh.iommufd = IOMMUFD;
            let key = iommu.add_domain(&fresh).unwrap();
            if number < self.devices {
                let (unit, address) = (self.unit(number), self.address(number));
                let registers = Registers::decode(&unit.payload).unwrap();
                let mut tables = tables(address.bdf, &registers);
                tables.context_table += u64::from(address.segment) << 28;
                let translation = tables.translation(id(key));
                iommu
                    .add_attachment(&unit, address, key, &translation)
                    .unwrap();
            }
        }
        looks += iommu.lender().looks();
        iommu.into_lender().jump(&handover);

        let mut iommufd = Iommufd::create(Lent::at(IOMMUFD)).unwrap();
        let memories: Vec<_> = (0..self.memories)
            .map(|number| {
                // In no order that the index would like.
                let data = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                iommufd
                    .add_memory(&MemoryFile {
                        data,
                        token: number,
                    })
                    .unwrap()
            })
            .collect();
        for number in 0..self.domains {
            let key = DomainKey::new(self.key(number)).unwrap();
            let hwpt = iommufd.add_hwpt(number, key).unwrap();
            let memories = memories.iter().skip((number * 2) as usize % memories.len());
            for (position, memory) in (0..).zip(memories.take(5)) {
                let mapping = Mapping {
                    iova: position << 21,
                    length: 1 << 21,
                    memory: *memory,
                    offset: 0,
                    rights: READ_WRITE,
                };
                iommufd.add_mapping(hwpt, &mapping).unwrap();
            }
        }
        looks += iommufd.lender().looks();
        iommufd.into_lender().jump(&handover);
        (handover, steps::take() + looks)
    }

    /// Key of a domain: each device's attachment follows its domain, and each unit its first device's.
    fn key(&self, number: u64) -> u32 {
        let attachments = number.min(self.devices);
        let units = attachments.min(self.units);
        (1 + number + attachments + units) as u32
    }

    /// Boot, every question, and the end; says what it cost.
    fn live(&self, handover: &Handover) -> u64 {
        let _ = steps::take();
        let mut records = Set::new(super::lent::Shelved(Vec::new()));
        records.take_pci(Lent::of(handover), PCI).unwrap();
        let lend = || Lent::of(handover);
        records
            .take_iommu(lend(), 0x10_0000_0000, KINDS, lend, |_, error| {
                panic!("{error:?}")
            })
            .unwrap();
        let iommu = records.iommu().taken().unwrap();
        assert_eq!(iommu.units().count() as u64, self.units);
        for unit in (0..self.units).map(|number| self.unit(number)) {
            assert!(iommu
                .behind(unit.base)
                .all(|(_, attachment)| attachment.is_ok()));
            assert!(iommu.domain_ids(unit.base).count() as u64 >= self.devices / self.units);
        }
        for number in 0..self.devices {
            let verdict = records.device(self.address(number));
            assert!(matches!(verdict, Verdict::Kept(_)), "{number}: {verdict:?}");
            let mappings = records.mappings(IOMMUFD, number, 0);
            assert!(mappings.count() > 0);
        }
        for number in 0..self.memories {
            let data = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            assert!(records.maps(data));
        }
        for number in 0..self.devices {
            records.device_left(self.address(number));
            records.finish_device(self.address(number));
        }
        for number in 0..self.domains {
            let (key, _) = records.hwpt(IOMMUFD, number).unwrap();
            assert!(records.release(key).is_some());
        }
        let lenders = [
            records.finish_iommufd(IOMMUFD),
            records.finish_pci(),
            records.finish_iommu().map(Iommu::into_lender),
        ];
        let looks = lenders.iter().flatten().map(Lent::looks);
        looks.sum::<u64>() + steps::take()
    }
}

/// A tenth of it costs more than a twentieth.
#[test]
fn nothing_is_quadratic() {
    let small = Scale {
        units: LARGE.units / 4,
        devices: LARGE.devices / 10,
        domains: LARGE.domains / 10,
        memories: LARGE.memories / 10,
    };
    let cost = |scale: Scale| {
        let (handover, made) = scale.make();
        let lived = scale.live(&handover);
        assert!(handover.borrow().is_empty());
        (made, lived)
    };
    let (made, lived) = cost(small);
    let (made_large, lived_large) = cost(LARGE);
    assert!(made_large < 20 * made, "{made} {made_large}");
    assert!(lived_large < 20 * lived, "{lived} {lived_large}");
}

/// What is removed makes room for the next.
#[test]
fn entries_are_used_again() {
    let mut devices = Devices::create(Lent::at(PCI)).unwrap();
    for round in 0..200_u16 {
        for bdf in 0..100 {
            let bdf = round.wrapping_mul(37) ^ bdf;
            devices.add(at(bdf), IGB, core::iter::empty()).unwrap();
        }
        for bdf in 0..100 {
            devices.remove(at(round.wrapping_mul(37) ^ bdf));
        }
    }
    assert_eq!(devices.lender().pages.len(), 2);
    assert_eq!(devices.iter().count(), 0);
}
