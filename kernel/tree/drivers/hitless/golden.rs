// SPDX-License-Identifier: GPL-2.0-only

//! KUnit: this build of core reads the golden bytes as the one on the host does.

use core::ops::{
    Deref,
    DerefMut, //
};

use hitless_core::abi::list::Page;
use hitless_core::record::lender::Take;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;

use crate::lent::{
    Lent,
    RecordPage, //
};

/// Records and where their first page was; the others follow.
const GOLDEN: &[(u64, &[u8])] = &[
    (0x0500_0000, include_bytes!("core/testdata/abi/v1/pci.bin")),
    (0x0600_0000, include_bytes!("core/testdata/abi/v1/iommu.bin")),
    (0x0400_0000, include_bytes!("core/testdata/abi/v1/iommufd.bin")),
    (0x0700_0000, include_bytes!("core/testdata/abi/v1/vfio.bin")),
    (0x0900_0000, include_bytes!("core/testdata/abi/v1/log.bin")),
];

/// A page of the golden bytes.
struct GoldenPage {
    phys: u64,
    page: KBox<Page>,
}

impl Deref for GoldenPage {
    type Target = Page;

    fn deref(&self) -> &Page {
        &self.page
    }
}

impl DerefMut for GoldenPage {
    fn deref_mut(&mut self) -> &mut Page {
        &mut self.page
    }
}

impl RecordPage for GoldenPage {
    fn phys(&self) -> u64 {
        self.phys
    }
}

impl GoldenPage {
    fn at(phys: u64) -> Option<&'static [u8]> {
        GOLDEN.iter().find_map(|(first, bytes)| {
            let offset = usize::try_from(phys.checked_sub(*first)?).ok()?;
            bytes.get(offset..)?.get(..PAGE_SIZE)
        })
    }
}

impl Take for Lent<GoldenPage> {
    fn take_page(&mut self, phys: u64) -> Result<bool> {
        let Some(bytes) = GoldenPage::at(phys) else {
            return Ok(false);
        };
        let mut page = KBox::new([0; PAGE_SIZE], GFP_KERNEL)?;
        page.copy_from_slice(bytes);
        self.add(GoldenPage { phys, page })?;
        Ok(true)
    }
}

#[kunit_tests(hitless_golden)]
mod tests {
    use super::*;
    use crate::hardware;
    use crate::lent::Items;
    use hitless_core::error::Error as CoreError;
    use hitless_core::record::log::Log;
    use hitless_core::record::set::{
        Records,
        Verdict, //
    };
    use hitless_core::record::vfio::Vfio;
    use hitless_core::refusal::{
        Family,
        Refusal, //
    };

    const PCI: u64 = GOLDEN[0].0;
    const IOMMU: u64 = GOLDEN[1].0;
    const IOMMUFD: u64 = GOLDEN[2].0;
    const VFIO: u64 = GOLDEN[3].0;
    const LOG: u64 = GOLDEN[4].0;

    #[test]
    fn all_families_agree() {
        let mut records = Records::new(Items::new());
        assert!(records.take_pci(Lent::<GoldenPage>::new(), PCI).is_ok());
        let taken = records.take_iommu(
            Lent::new(),
            IOMMU,
            hardware::IN_RECORDS,
            Lent::new,
            |_, _| pr_err!("the golden iommufd is refused\n"),
        );
        assert!(taken.is_ok());
        let file = Vfio::decode(Lent::<GoldenPage>::new(), VFIO);
        let device = file.map(|file| records.device(file.file().address));
        assert!(device.is_ok_and(|device| matches!(device, Verdict::Kept(_))));
        let iommufd = records.iommufd(IOMMUFD);
        assert!(iommufd.is_some_and(|iommufd| iommufd.hwpts().count() == 2));
    }

    #[test]
    fn the_log_is_read() {
        let log = Log::decode(Lent::<GoldenPage>::new(), LOG);
        let read = log.map(|log| log.numbers().filter_map(|number| log.event(number)).count());
        assert!(read.is_ok_and(|count| count == 126));
    }

    #[test]
    fn another_family_is_refused() {
        let refusal = Refusal::NotARecord(Family::VfioPci);
        let decoded = Vfio::decode(Lent::<GoldenPage>::new(), IOMMU);
        assert!(decoded.is_err_and(|error| matches!(error, CoreError::Refused(r) if r == refusal)));
    }
}
