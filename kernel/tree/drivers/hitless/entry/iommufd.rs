// SPDX-License-Identifier: GPL-2.0-only

//! What iommufd asks.

use hitless_core::record::iommufd::{
    Mapping,
    MappingRights,
    MemoryFile, //
};
use hitless_core::record::pci::DeviceAddress;
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
    let features = bindings::IOMMU_LIVEUPDATE_FEATURE_PRESERVE
        | bindings::IOMMU_LIVEUPDATE_FEATURE_BIND_FIRST
        | bindings::IOMMU_LIVEUPDATE_FEATURE_MAPPINGS;
    features.into()
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
    let key = INCOMING.lock().hwpt(iommufd, token);
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
    iommufd: u64,
    token: u64,
    index: u64,
    out: *mut bindings::iommu_hwpt_liveupdate_mapping,
    room: u32,
    total: *mut u64,
) -> c_int {
    if !running::is() {
        return ENOENT.to_errno();
    }
    let incoming = INCOMING.lock();
    // There are fewer than that many mappings.
    let from = u32::try_from(index).unwrap_or(u32::MAX);
    let Some((count, mappings)) = incoming.mappings(iommufd, token, from) else {
        return ENOENT.to_errno();
    };
    // SAFETY: By the safety requirement.
    unsafe { total.write(count.into()) };
    let mut written = 0;
    // CAST: `usize` has 64 bits here.
    for (mapping, memory) in mappings.take(room as usize) {
        let mapping = mapping_to_c(&mapping, &memory);
        let place = out.wrapping_add(written);
        // SAFETY: By the safety requirement there is room for `room` mappings.
        unsafe { place.write(mapping) };
        written += 1;
    }
    // CAST: It is not more than `room`, which is small.
    written as c_int
}

fn mapping_to_c(mapping: &Mapping, memory: &MemoryFile) -> bindings::iommu_hwpt_liveupdate_mapping {
    let MappingRights { read, write } = mapping.rights;
    let read = if read {
        bindings::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE
    } else {
        0
    };
    let write = if write {
        bindings::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE
    } else {
        0
    };
    bindings::iommu_hwpt_liveupdate_mapping {
        iova: mapping.iova,
        length: mapping.length,
        offset: mapping.offset,
        memory_token: memory.token,
        flags: read | write,
        ..Default::default()
    }
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
