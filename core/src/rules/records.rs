// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Do the records of all families speak of the same things?
//!
//! Each record has been checked by itself when it was decoded. What one leaves to another is checked
//! here: a domain that no iommufd lists has memory that nobody pins, a device that only one record knows
//! is not blocked by the other.

use core::ops::Deref;

use crate::model::DomainKey;
use crate::refusal::{Family, Refusal};
use crate::wire::iommu::Iommu;
use crate::wire::iommufd::Iommufd;
use crate::wire::pci::Devices;
use crate::wire::Page;

/// Checks the records against each other. To be asked once, when all are decoded and before any of them
/// is used; the kernel's glue does in `IncomingIommu::take`.
///
/// `iommufds` are the records of the iommufds that the domains name, each with the physical address of
/// its page, which is how other records name it. `devices` is `None` if no device was preserved:
///
/// ```text
/// let iommufds = this.iommufds.iter().map(|iommufd| (iommufd.page().phys(), iommufd));
/// rules::records::check(devices, &this.records, iommufds)?;
/// ```
///
/// - The devices that are attached are the endpoints of the PCI record, no more and no less.
/// - HWPTs and domains belong together one to one, and name the same iommufd and the same token.
/// - Behind each HWPT there is memory.
///
/// # Errors
///
/// [`Refusal::NotRecorded`] with the family that misses something, [`Refusal::Contradictory`] if a HWPT
/// and its domain name different things, [`Refusal::Duplicate`] if an iommufd comes twice.
pub fn check<'a, P, I>(
    devices: Option<&Devices<P>>,
    iommu: &Iommu<P>,
    iommufds: I,
) -> Result<(), Refusal>
where
    P: Deref<Target = Page> + 'a,
    I: Iterator<Item = (u64, &'a Iommufd<P>)> + Clone,
{
    check_devices(devices, iommu)?;
    for (number, (address, iommufd)) in iommufds.clone().enumerate() {
        let mut earlier = iommufds.clone().take(number);
        if earlier.any(|(other, _)| other == address) {
            return Err(Refusal::Duplicate(Family::Iommufd));
        }
        check_hwpts(iommu, address, iommufd)?;
    }
    for (key, domain) in iommu.domains() {
        let mut iommufds = iommufds.clone();
        let iommufd = iommufds.find(|(address, _)| *address == domain.iommufd);
        let (_, iommufd) = iommufd.ok_or(Refusal::NotRecorded(Family::Iommufd))?;
        check_domain(iommufd, key)?;
    }
    Ok(())
}

/// A device in one record only would be let go by one half of the kernel and not by the other.
fn check_devices<P: Deref<Target = Page>>(
    devices: Option<&Devices<P>>,
    iommu: &Iommu<P>,
) -> Result<(), Refusal> {
    let mut attached = iommu.attachments().map(|attachment| attachment.address);
    let is_known = |address| devices.and_then(|devices| devices.endpoint(address));
    if !attached.all(|address| is_known(address).is_some()) {
        return Err(Refusal::NotRecorded(Family::Pci));
    }
    let mut endpoints = devices
        .into_iter()
        .flat_map(Devices::endpoints)
        .map(|device| device.address);
    if !endpoints.all(|address| iommu.attachment(address).is_some()) {
        return Err(Refusal::NotRecorded(Family::Iommu));
    }
    Ok(())
}

/// Is every HWPT's domain recorded, as that of this HWPT?
fn check_hwpts<P: Deref<Target = Page>>(
    iommu: &Iommu<P>,
    address: u64,
    iommufd: &Iommufd<P>,
) -> Result<(), Refusal> {
    for (token, key) in iommufd.hwpts() {
        let domain = iommu
            .domain(key)
            .ok_or(Refusal::NotRecorded(Family::Iommu))?;
        if (domain.iommufd, domain.token) != (address, token) {
            return Err(Refusal::Contradictory(Family::Iommufd));
        }
    }
    Ok(())
}

/// Has the domain memory behind it? Then it has a HWPT too: memory belongs to one, and what that names has
/// been checked.
fn check_domain<P: Deref<Target = Page>>(
    iommufd: &Iommufd<P>,
    key: DomainKey,
) -> Result<(), Refusal> {
    let mut memories = iommufd.memories();
    memories
        .any(|(domain, _)| domain == key)
        .then_some(())
        .ok_or(Refusal::NotRecorded(Family::Iommufd))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::boxed::Box;

    use super::*;
    use crate::wire::fixture::{self, Records};

    type Record = Box<Page>;

    fn verdict(records: &Records) -> Result<(), Refusal> {
        check(Some(&records.devices), &records.iommu, iommufds(records))
    }

    fn iommufds(records: &Records) -> impl Iterator<Item = (u64, &Iommufd<Record>)> + Clone {
        let iommufds = records.iommufds.iter();
        iommufds.map(|(address, iommufd)| (*address, iommufd))
    }

    fn after(change: impl FnOnce(&mut Records)) -> Result<(), Refusal> {
        let mut records = Records::new();
        change(&mut records);
        verdict(&records)
    }

    const NO_DEVICE: Result<(), Refusal> = Err(Refusal::NotRecorded(Family::Pci));
    const NO_DOMAIN: Result<(), Refusal> = Err(Refusal::NotRecorded(Family::Iommu));
    const NO_HWPT: Result<(), Refusal> = Err(Refusal::NotRecorded(Family::Iommufd));
    const OTHERS: Result<(), Refusal> = Err(Refusal::Contradictory(Family::Iommufd));

    #[test]
    fn records_of_one_machine_hold_together() {
        assert_eq!(after(|_| {}), Ok(()));
    }

    #[test]
    fn an_attached_device_is_an_endpoint() {
        let device = fixture::at(0x0100);
        assert_eq!(
            after(|records| records.devices.remove(device, [].into_iter())),
            NO_DEVICE
        );
        // A bridge at its place is none.
        let bridge = |records: &mut Records| {
            records.devices.remove(device, [].into_iter());
            let bridges = [device].into_iter();
            let other = fixture::at(0x0200);
            records.devices.remove(other, [].into_iter());
            records.devices.add(other, fixture::IGB, bridges).unwrap();
        };
        assert_eq!(after(bridge), NO_DEVICE);
    }

    #[test]
    fn without_devices_nothing_is_attached() {
        let mut records = Records::new();
        let none = |records: &Records| check(None, &records.iommu, iommufds(records));
        assert_eq!(none(&records), NO_DEVICE);
        for address in [0x0100, 0x0200].map(fixture::at) {
            records.iommu.remove_attachment(address);
        }
        assert_eq!(none(&records), Ok(()));
    }

    #[test]
    fn an_endpoint_is_attached() {
        let detach = |records: &mut Records| records.iommu.remove_attachment(fixture::at(0x0100));
        assert_eq!(after(detach), NO_DOMAIN);
    }

    /// What a fresh record of the fixture's iommufd lists instead: token, key, and whether there is
    /// memory.
    fn with_hwpts(hwpts: &[(u64, u16, bool)]) -> Result<(), Refusal> {
        after(|records| {
            let mut iommufd = Iommufd::create(fixture::page());
            for (token, key, memory) in hwpts {
                let key = DomainKey::new(*key).unwrap();
                iommufd.add_hwpt(*token, key).unwrap();
                if *memory {
                    iommufd.add_memory(key, 0x0800_0000).unwrap();
                }
            }
            records.iommufds = std::vec![(fixture::DOMAIN.iommufd, iommufd)];
        })
    }

    #[test]
    fn hwpts_and_domains_belong_together_one_to_one() {
        let (one, two) = (fixture::DOMAIN.token, fixture::OTHER.token);
        assert_eq!(with_hwpts(&[(one, 1, true), (two, 2, true)]), Ok(()));
        // A domain without HWPT: nobody would pin its memory.
        assert_eq!(with_hwpts(&[(one, 1, true)]), NO_HWPT);
        // A HWPT without domain.
        let extra = [(one, 1, true), (two, 2, true), (3, 3, true)];
        assert_eq!(with_hwpts(&extra), NO_DOMAIN);
        // Another token, and each other's.
        assert_eq!(with_hwpts(&[(one, 1, true), (7, 2, true)]), OTHERS);
        assert_eq!(with_hwpts(&[(one, 2, true), (two, 1, true)]), OTHERS);
        // Two HWPTs on one domain.
        let twice = [(one, 1, true), (two, 2, true), (7, 2, true)];
        assert_eq!(with_hwpts(&twice), OTHERS);
    }

    #[test]
    fn every_domain_has_memory() {
        let (one, two) = (fixture::DOMAIN.token, fixture::OTHER.token);
        assert_eq!(with_hwpts(&[(one, 1, true), (two, 2, false)]), NO_HWPT);
    }

    #[test]
    fn an_iommufd_is_at_the_address_that_domains_name() {
        assert_eq!(after(|records| records.iommufds.clear()), NO_HWPT);
        let elsewhere = |records: &mut Records| records.iommufds[0].0 += 0x1000;
        assert_eq!(after(elsewhere), OTHERS);
        let twice = |records: &mut Records| {
            let (address, _) = records.iommufds[0];
            records.iommufds.push((address, fixture::iommufd()));
        };
        assert_eq!(after(twice), Err(Refusal::Duplicate(Family::Iommufd)));
    }
}
