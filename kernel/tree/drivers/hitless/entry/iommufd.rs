// SPDX-License-Identifier: GPL-2.0-only

//! What iommufd asks.

use hitless_core::model::DeviceAddress;
use kernel::bindings;
use kernel::prelude::*;

use crate::failure::Failure;
use crate::incoming::INCOMING;
use crate::part::{
    leaves_out,
    Part, //
};
use crate::running;

/// What this kernel can do for an iommufd.
///
/// # Safety
///
/// None.
#[export]
pub(crate) unsafe extern "C" fn hitless_iommufd_features() -> u64 {
    if !running::is() {
        return 0;
    }
    (bindings::IOMMU_LIVEUPDATE_FEATURE_PRESERVE | bindings::IOMMU_LIVEUPDATE_FEATURE_BIND_FIRST)
        .into()
}

/// The domain of a HWPT of an incoming iommufd.
///
/// # Safety
///
/// `domain` must be valid for writing.
#[export]
pub(crate) unsafe extern "C" fn hitless_iommufd_restore(
    iommufd: u64,
    token: u64,
    domain: *mut u64,
) -> c_int {
    if !running::is() {
        return ENOENT.to_errno();
    }
    let key = INCOMING.lock().domain(iommufd, token);
    match key {
        Some(key) => {
            // SAFETY: By the safety requirement.
            unsafe { domain.write(key.get().into()) };
            pr_info!("restored domain {} with token {:#x}\n", key.get(), token);
            0
        }
        None => ENOENT.to_errno(),
    }
}

/// What a HWPT of an incoming iommufd maps.
///
/// # Safety
///
/// `out` must be valid for writing `room` mappings, and `total` for writing.
#[export]
pub(crate) unsafe extern "C" fn hitless_iommufd_mappings(
    _iommufd: u64,
    _token: u64,
    _index: u64,
    _out: *mut bindings::iommu_hwpt_liveupdate_mapping,
    _room: u32,
    _total: *mut u64,
) -> c_int {
    EOPNOTSUPP.to_errno()
}

/// How does a device bind to an iommufd?
///
/// # Safety
///
/// `token` must be valid for writing.
#[export]
pub(crate) unsafe extern "C" fn hitless_iommufd_binds(
    iommufd: u64,
    segment: u32,
    bdf: u16,
    token: *mut u64,
) -> c_int {
    // CAST: Both are small.
    const RESTORED: c_int = bindings::hitless_bind_HITLESS_BIND_RESTORED as c_int;
    const ANEW: c_int = bindings::hitless_bind_HITLESS_BIND_ANEW as c_int;

    if !running::is() {
        return 0;
    }
    let address = DeviceAddress { segment, bdf };
    let answer = INCOMING.lock().binds(iommufd, address);
    match answer {
        Ok(None) => 0,
        Ok(Some(hwpt)) => {
            // SAFETY: By the safety requirement.
            unsafe { token.write(hwpt) };
            if leaves_out(Part::Claim) {
                ANEW
            } else {
                RESTORED
            }
        }
        Err(error) => Failure::from(error).report().to_errno(),
    }
}
