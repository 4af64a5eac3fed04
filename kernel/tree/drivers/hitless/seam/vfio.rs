// SPDX-License-Identifier: GPL-2.0-only

//! VFIO device files of vfio-pci.

use core::ptr::NonNull;

use hitless_core::record::pci::DeviceAddress;
use hitless_core::rules::vfio::VfioFacts;
use kernel::bindings;
use kernel::error::to_result;
use kernel::fs::File;
use kernel::prelude::*;
use kernel::sync::aref::ARef;

use super::iommu::{
    RawAttachment,
    RawUnit, //
};
use super::iommufd::new_file;

/// Is it a device file of vfio-pci that is bound to an iommufd?
pub(crate) fn is(file: &File) -> bool {
    // SAFETY: The file is valid.
    unsafe { bindings::hitless_seam_vfio_is(file.as_ptr()) }
}

/// Is it a device file that has been bound to its iommufd?
pub(crate) fn is_bound(file: &File) -> bool {
    // SAFETY: The file is valid.
    unsafe { bindings::hitless_seam_vfio_is_bound(file.as_ptr()) }
}

/// Makes a file for a device that arrived running.
pub(crate) fn create(address: DeviceAddress) -> Result<ARef<File>> {
    let mut file = core::ptr::null_mut();
    // SAFETY: The result is written before the call returns.
    let ret =
        unsafe { bindings::hitless_seam_vfio_create(address.segment, address.bdf, &mut file) };
    // SAFETY: The seam has made the file for us.
    unsafe { new_file(ret, file) }
}

/// A device behind a device file.
pub(crate) struct VfioDevice<'a> {
    pub(crate) address: DeviceAddress,
    pub(crate) facts: VfioFacts,
    /// The iommufd it is bound to.
    pub(crate) iommufd: Option<&'a File>,
    pub(crate) hwpt_token: u64,
    pub(crate) unit: RawUnit,
    pub(crate) attachment: RawAttachment,
}

impl<'a> VfioDevice<'a> {
    /// Collects the facts about the device behind `file`.
    pub(crate) fn describe(file: &'a File) -> Result<Self> {
        let mut raw = bindings::hitless_vfio::default();
        // SAFETY: The file is valid, and the result is written before the call returns.
        to_result(unsafe { bindings::hitless_seam_vfio_describe(file.as_ptr(), &mut raw) })?;
        let iommufd = NonNull::new(raw.iommufd).map(|iommufd| {
            // SAFETY: A bound device file holds its iommufd until it is closed, and `file` is
            // borrowed for that long.
            unsafe { File::from_raw_file(iommufd.as_ptr()) }
        });
        Ok(Self {
            address: DeviceAddress {
                segment: raw.segment,
                bdf: raw.bdf,
            },
            facts: VfioFacts(raw.facts),
            iommufd,
            hwpt_token: raw.hwpt_token,
            unit: RawUnit(raw.unit),
            attachment: RawAttachment(raw.attachment),
        })
    }

    /// The bridges above the device behind `file`, nearest first.
    pub(crate) fn bridges(&self, file: &File) -> Result<KVec<DeviceAddress>> {
        let mut bridges = KVec::new();
        let segment = self.address.segment;
        for index in 0.. {
            // SAFETY: The file is valid.
            let bdf = unsafe { bindings::hitless_seam_vfio_bridge(file.as_ptr(), index) };
            match u16::try_from(bdf) {
                Ok(bdf) => bridges.push(DeviceAddress { segment, bdf }, GFP_KERNEL)?,
                Err(_) => break,
            }
        }
        Ok(bridges)
    }
}

/// Facts by the names of core and of the contract, which must be the same bits.
const _: () = {
    assert!(VfioFacts::NO_IOMMUFD == bindings::HITLESS_VFIO_NO_IOMMUFD);
    assert!(VfioFacts::NOT_ATTACHED == bindings::HITLESS_VFIO_NOT_ATTACHED);
    assert!(VfioFacts::NOT_MARKED == bindings::HITLESS_VFIO_NOT_MARKED);
    assert!(VfioFacts::VIRTFN == bindings::HITLESS_VFIO_VIRTFN);
    assert!(VfioFacts::HAS_VFS == bindings::HITLESS_VFIO_HAS_VFS);
    assert!(VfioFacts::PASIDS == bindings::HITLESS_VFIO_PASIDS);
    assert!(VfioFacts::SHARED_GROUP == bindings::HITLESS_VFIO_SHARED_GROUP);
    assert!(VfioFacts::NOT_D0 == bindings::HITLESS_VFIO_NOT_D0);
    assert!(VfioFacts::OTHER_IOMMU == bindings::HITLESS_VFIO_UNKNOWN_UNIT);
    assert!(VfioFacts::INTERRUPTS == bindings::HITLESS_VFIO_INTERRUPTS);
    assert!(VfioFacts::RESTORED == bindings::HITLESS_VFIO_RESTORED);
    assert!(VfioFacts::ATS == bindings::HITLESS_VFIO_ATS);
    assert!(VfioFacts::NO_GROUP == bindings::HITLESS_VFIO_NO_GROUP);
};
