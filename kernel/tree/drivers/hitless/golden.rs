// SPDX-License-Identifier: GPL-2.0-only

//! KUnit: this build of core reads the golden bytes as the one on the host does.

use kernel::prelude::*;

#[kunit_tests(hitless_golden)]
mod tests {
    use hitless_core::abi::Page;
    use hitless_core::model::Mode;
    use hitless_core::refusal::{
        Family,
        Refusal, //
    };
    use hitless_core::rules;
    use hitless_core::wire::{
        iommu::Iommu,
        iommufd::Iommufd,
        pci::Devices,
        tables::TableList,
        vfio::Vfio, //
    };

    const PCI: &Page = include_bytes!("core/testdata/abi/v1/pci.bin");
    const IOMMU: &Page = include_bytes!("core/testdata/abi/v1/iommu.bin");
    const IOMMUFD: &Page = include_bytes!("core/testdata/abi/v1/iommufd.bin");
    const VFIO: &Page = include_bytes!("core/testdata/abi/v1/vfio.bin");
    const TABLES: &Page = include_bytes!("core/testdata/abi/v1/tables.bin");

    #[test]
    fn devices() {
        let devices = Devices::decode(PCI);
        assert!(devices.is_ok_and(|devices| devices.iter().count() == 4));
    }

    #[test]
    fn units_and_domains() {
        let iommu = Iommu::decode(IOMMU);
        assert!(iommu.is_ok_and(|iommu| {
            let scalable = iommu.units().filter(|unit| unit.mode == Mode::Scalable);
            scalable.count() == 1 && iommu.domains().count() == 2
        }));
    }

    #[test]
    fn iommufd() {
        let iommufd = Iommufd::decode(IOMMUFD);
        assert!(iommufd.is_ok_and(|iommufd| iommufd.domain(0x0102_0304_0506_0708).is_some()));
    }

    #[test]
    fn device_file() {
        let vfio = Vfio::decode(VFIO);
        assert!(vfio.is_ok_and(|vfio| vfio.bridges().count() == 2));
    }

    #[test]
    fn list_of_tables() {
        let list = TableList::decode(TABLES);
        assert!(list.is_ok_and(|list| list.next() == Some(0x0900_0000)));
    }

    #[test]
    fn records_hold_together() {
        let records = (
            Devices::decode(PCI),
            Iommu::decode(IOMMU),
            Iommufd::decode(IOMMUFD),
        );
        let checked = match records {
            (Ok(devices), Ok(iommu), Ok(iommufd)) => {
                let iommufds = core::iter::once((0x0400_0000, &iommufd));
                rules::records::check(Some(&devices), &iommu, iommufds)
            }
            (Err(refusal), _, _) | (_, Err(refusal), _) | (_, _, Err(refusal)) => Err(refusal),
        };
        assert!(checked.is_ok());
    }

    #[test]
    fn another_family_is_refused() {
        let refusal = Refusal::NotARecord(Family::Pci);
        assert!(Devices::decode(IOMMU).is_err_and(|error| error == refusal));
    }
}
