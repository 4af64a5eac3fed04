// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Adding and removing, against a model; and without memory at any moment.

extern crate std;

use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use proptest::prelude::*;

use super::super::attachment::DomainKey;
use super::super::iommu::Iommu;
use super::super::iommufd::Iommufd;
use super::super::pci::{DeviceAddress, Devices, Kind};
use super::super::set::{State, Verdict};
use super::fixture::*;
use super::lent::{Handover, Lent, NoMemory};
use crate::error::Error;
use crate::refusal::Refusal;

/// The bridges above a device, in a tree: on each level one for the buses whose numbers begin alike. How far
/// down a bus is, its number says too.
fn path(bdf: u16) -> Vec<DeviceAddress> {
    let bus = bdf >> 8;
    let levels = (1..=bus % 5).rev();
    let bridge = |level: u16| at(0x8000 | level << 8 | bus >> (5 - level));
    levels.map(bridge).collect()
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Add(u16),
    Remove(u16),
    /// With so much memory.
    AddWith(u16, usize),
}

fn op() -> impl Strategy<Value = Op> {
    let bdf = 0_u16..0x2000;
    // Few devices, so that they are met again.
    let bdf = bdf.prop_map(|bdf| bdf & 0x1f03);
    prop_oneof![
        3 => bdf.clone().prop_map(Op::Add),
        2 => bdf.clone().prop_map(Op::Remove),
        1 => (bdf, 0_usize..4).prop_map(|(bdf, limit)| Op::AddWith(bdf, limit)),
    ]
}

/// Devices and bridges that have to be there.
fn functions(model: &BTreeSet<u16>) -> BTreeSet<(DeviceAddress, bool)> {
    let devices = model.iter().map(|bdf| (at(*bdf), false));
    let bridges = model.iter().flat_map(|bdf| path(*bdf));
    devices
        .chain(bridges.map(|bridge| (bridge, true)))
        .collect()
}

fn recorded(devices: &Devices<Lent>) -> BTreeSet<(DeviceAddress, bool)> {
    let functions = devices.iter();
    let functions: Vec<_> = functions
        .map(|function| (function.address, function.kind == Kind::Bridge))
        .collect();
    let set: BTreeSet<_> = functions.iter().copied().collect();
    assert_eq!(set.len(), functions.len());
    set
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn devices_are_as_the_model_has_them(ops in proptest::collection::vec(op(), 1..300)) {
        let mut devices = Devices::create(Lent::at(PCI)).unwrap();
        let mut model = BTreeSet::new();
        for op in ops {
            match op {
                Op::Add(bdf) => {
                    let added = devices.add(at(bdf), IGB, path(bdf).into_iter());
                    prop_assert_eq!(added.is_ok(), model.insert(bdf));
                }
                Op::AddWith(bdf, limit) => {
                    devices.lender().limit(limit);
                    let added = devices.add(at(bdf), IGB, path(bdf).into_iter());
                    devices.lender().limit(usize::MAX);
                    match added {
                        Ok(()) => prop_assert!(model.insert(bdf)),
                        Err(Error::Lender(NoMemory)) => {}
                        Err(Error::Refused(refusal)) => {
                            prop_assert_eq!(refusal, Refusal::AlreadyRecorded);
                            prop_assert!(model.contains(&bdf));
                        }
                    }
                }
                Op::Remove(bdf) => {
                    devices.remove(at(bdf));
                    model.remove(&bdf);
                }
            }
            prop_assert_eq!(recorded(&devices), functions(&model));
        }
        // And so they come out on the other side.
        let handover = Handover::default();
        devices.into_lender().jump(&handover);
        let mut devices = Devices::decode(Lent::of(&handover), PCI).unwrap();
        prop_assert_eq!(recorded(&devices), functions(&model));
        for bdf in model.clone() {
            prop_assert!(devices.bridges(at(bdf)).eq(path(bdf)));
            devices.remove(at(bdf));
            model.remove(&bdf);
            prop_assert_eq!(recorded(&devices), functions(&model));
        }
    }

    #[test]
    fn attachments_are_as_the_model_has_them(
        ops in proptest::collection::vec((0_u16..64, 0_u32..6, any::<bool>(), 0_usize..60), 1..150),
    ) {
        let mut iommu = Iommu::create(Lent::at(IOMMU), KINDS).unwrap();
        let units = [unit(), scalable()];
        let mut domains: BTreeMap<u32, DomainKey> = BTreeMap::new();
        // Device to unit and domain.
        let mut model: BTreeMap<u16, (usize, u32)> = BTreeMap::new();
        for (number, domain, add, limit) in ops {
            let which = usize::from(number & 1);
            let bdf = number << 4 | 0x8000;
            if !add {
                iommu.remove_attachment(at(bdf));
                model.remove(&bdf);
                if !model.values().any(|(_, other)| *other == domain) {
                    if let Some(key) = domains.remove(&domain) {
                        prop_assert!(iommu.remove_domain(key).is_some());
                    }
                } else {
                    prop_assert!(iommu.remove_domain(domains[&domain]).is_none());
                }
                continue;
            }
            let key = match domains.get(&domain) {
                Some(key) => *key,
                None => {
                    let mut fresh = third();
                    fresh.table.top = table(0x3000_0000 + (u64::from(domain) << 12));
                    fresh.token = domain.into();
                    let key = iommu.add_domain(&fresh).unwrap();
                    domains.insert(domain, key);
                    key
                }
            };
            let registers = if which == 0 { REGISTERS } else { SCALABLE_REGISTERS };
            let translation = tables(bdf, &registers).translation(id(key));
            iommu.lender().limit(if limit < 40 { limit } else { usize::MAX });
            let added = iommu.add_attachment(&units[which], at(bdf), key, &translation);
            iommu.lender().limit(usize::MAX);
            match added {
                Ok(()) => prop_assert!(model.insert(bdf, (which, domain)).is_none()),
                Err(Error::Lender(NoMemory)) => {}
                Err(Error::Refused(refusal)) => {
                    prop_assert_eq!(refusal, Refusal::AlreadyRecorded);
                    prop_assert!(model.contains_key(&bdf));
                }
            }
            check_iommu(&iommu, &model, &domains);
        }
        let handover = Handover::default();
        iommu.into_lender().jump(&handover);
        let iommu = Iommu::decode(Lent::of(&handover), IOMMU, KINDS).unwrap();
        check_iommu(&iommu, &model, &domains);
    }
}

fn check_iommu(
    iommu: &Iommu<Lent>,
    model: &BTreeMap<u16, (usize, u32)>,
    domains: &BTreeMap<u32, DomainKey>,
) {
    let mut uses: BTreeMap<u64, usize> = BTreeMap::new();
    for page in model.keys().flat_map(|bdf| iommu.pages(at(*bdf))) {
        *uses.entry(page).or_default() += 1;
    }
    for (bdf, (_, domain)) in model {
        let attachment = iommu.attachment(at(*bdf)).unwrap().unwrap();
        assert_eq!(attachment.domain, domains[domain]);
        let alone: Vec<_> = iommu.pages_alone(at(*bdf)).collect();
        let expected: Vec<_> = iommu
            .pages(at(*bdf))
            .filter(|page| uses[page] == 1)
            .collect();
        assert_eq!(alone, expected);
    }
    for (which, unit) in [unit(), scalable()].into_iter().enumerate() {
        let here = model.iter().filter(|(_, (unit, _))| *unit == which);
        let addresses: Vec<_> = here.clone().map(|(bdf, _)| at(*bdf)).collect();
        let behind: Vec<_> = iommu
            .behind(unit.base)
            .map(|(address, _)| address)
            .collect();
        assert_eq!(behind, addresses);
        assert_eq!(iommu.unit(unit.base).is_some(), !addresses.is_empty());
        let ids: BTreeSet<_> = here
            .map(|(_, (_, domain))| id(domains[domain]).0.into())
            .collect();
        assert!(iommu.domain_ids(unit.base).eq(ids));
        let on_bus: Vec<_> = iommu
            .on_bus(unit.base, 0, 0x81)
            .map(|a| a.address)
            .collect();
        assert!(addresses.iter().filter(|a| a.bdf >> 8 == 0x81).eq(&on_bus));
    }
    for (domain, key) in domains {
        let users = model.values().filter(|(_, other)| other == domain).count();
        assert_eq!(iommu.users(*key) as usize, users);
        assert_eq!(iommu.attached(*key).count(), users);
    }
    assert_eq!(iommu.is_any_running(), !model.is_empty());
    assert_eq!(iommu.is_outstanding(third().iommufd), !model.is_empty());
}

/// A record that is being made without memory is as it was before.
#[test]
fn without_memory_nothing_changes() {
    for limit in 0..40 {
        let mut iommu = iommu();
        let before = iommu.lender().bytes();
        iommu.lender().limit(limit);
        let fresh = iommu.add_domain(&third());
        iommu.lender().limit(usize::MAX);
        match fresh {
            Ok(key) => assert_eq!(iommu.remove_domain(key), Some(third())),
            Err(error) => assert_eq!(error, Error::Lender(NoMemory)),
        }
        assert!(before == iommu.lender().bytes());
    }
}

#[test]
fn mappings_are_read_page_by_page() {
    let handover = handed_over();
    let records = take(&handover);
    let token = other().token;
    let all: Vec<_> = records.mappings(IOMMUFD, token, 0).collect();
    assert_eq!(all.len(), 70);
    let mut paged = Vec::new();
    loop {
        let page: Vec<_> = records
            .mappings(IOMMUFD, token, paged.len() as u32)
            .take(9)
            .collect();
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, all);
    let iommufd = records.iommufd(IOMMUFD).unwrap();
    for (number, (mapping, file)) in (0..).zip(&all) {
        assert_eq!(*file, MEMORY);
        let last = mapping.iova + mapping.length - 1;
        for iova in [mapping.iova, last] {
            assert_eq!(iommufd.position(token, iova), number);
        }
        // In the hole after it.
        assert_eq!(iommufd.position(token, last + 1), number + 1);
    }
    assert_eq!(iommufd.position(token, 0), 0);
    assert_eq!(records.mappings(IOMMUFD, 0xdead, 0).count(), 0);
    assert_eq!(records.mappings(PCI, token, 0).count(), 0);
}

/// From boot to the last finish.
#[test]
fn a_life_in_the_next_kernel() {
    let handover = handed_over();
    let mut records = take(&handover);
    assert!(records.keeps(ONE).is_some() && records.keeps(at(0x0010)).is_some());
    assert_eq!(records.keeps(at(0x0300)), None);
    let (first, found) = records.hwpt(IOMMUFD, domain().token).unwrap();
    assert_eq!(found, domain());
    for base in [unit().base, scalable().base] {
        records.unit_adopted(base);
    }
    records.set_ready();
    assert!(records.is_running(ONE) && records.maps(MEMORY.data) && !records.maps(7));
    assert_eq!(records.release(first), None);
    // Swapped.
    records.device_left(ONE);
    assert!(matches!(records.device(ONE), Verdict::Left(_)));
    assert!(records.keeps(ONE).is_some());
    assert_eq!(records.release(first), Some(domain()));
    assert!(records.hwpt(IOMMUFD, domain().token).is_err());
    // The other one holds everything of the iommufd.
    assert!(records.is_outstanding(IOMMUFD) && records.maps(MEMORY.data));
    assert_eq!(records.outstanding_hwpt(IOMMUFD), Some(other().token));
    records.finish_device(ONE);
    assert_eq!(records.device(ONE), Verdict::Unknown);
    assert!(records.keeps(ONE).is_none() && records.keeps(at(0x0008)).is_none());
    assert!(records.keeps(at(0x0010)).is_some());
    // Stopped.
    records.device_stopped(TWO, Refusal::UnitRefused);
    assert_eq!(records.device(TWO), Verdict::Refused(Refusal::UnitRefused));
    assert!(!records.is_any_running() && !records.maps(MEMORY.data));
    assert_eq!(records.outstanding_hwpt(IOMMUFD), None);
    let (second, _) = records.iommu().taken().unwrap().domains().next().unwrap();
    assert_eq!(records.release(second), Some(other()));
    records.finish_device(TWO);
    assert!(records.finish_iommufd(IOMMUFD).is_some());
    assert!(records.finish_iommufd(IOMMUFD).is_none());
    assert!(records.finish_any_iommufd().is_none());
    assert!(records.finish_pci().is_some());
    assert!(records.finish_iommu().is_some());
    assert!(matches!(
        (records.pci(), records.iommu()),
        (State::Absent, State::Absent)
    ));
}

/// A refused unit runs until it is blocked.
#[test]
fn a_refused_unit_is_blocked_once_it_has_a_root_table() {
    let handover = handed_over();
    let mut records = take(&handover);
    records.unit_adopted(unit().base);
    records.unit_refused(scalable().base, Refusal::OtherMode);
    assert_eq!(records.device(TWO), Verdict::Refused(Refusal::OtherMode));
    assert!(records.is_running(TWO) && records.keeps(TWO).is_none());
    records.set_ready();
    assert!(!records.is_running(TWO) && records.is_running(ONE));
    assert!(matches!(records.device(ONE), Verdict::Kept(kept) if kept.adopted));
}

#[test]
fn the_fixture_is_one_iommufd() {
    let handover = handed_over();
    let iommufd = Iommufd::decode(Lent::of(&handover), IOMMUFD).unwrap();
    assert_eq!(iommufd.hwpts().count(), 2);
    assert_eq!(iommufd.memories().collect::<Vec<_>>(), [MEMORY]);
}
