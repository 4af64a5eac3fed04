// SPDX-License-Identifier: GPL-2.0-only

//! The image of the next kernel.

use hitless_core::abi;
use hitless_core::rules::image::{
    Image,
    ImageFacts, //
};
use kernel::bindings;

/// What is known of an image, from C.
pub(crate) fn from_c(image: &bindings::hitless_image) -> Image {
    Image {
        facts: ImageFacts(image.facts),
        takes: image.takes,
        needs: image.needs,
    }
}

/// What is known of an image, to C.
pub(crate) fn to_c(image: &Image) -> bindings::hitless_image {
    bindings::hitless_image {
        takes: image.takes,
        needs: image.needs,
        facts: image.facts.0,
        reserved: 0,
    }
}

/// Bytes of C's.
///
/// # Safety
///
/// They must be valid for reading, and not change, as long as the result is used.
pub(crate) unsafe fn bytes<'a>(bytes: bindings::hitless_bytes) -> &'a [u8] {
    if bytes.start.is_null() {
        return &[];
    }
    // SAFETY: By the safety requirement.
    unsafe { core::slice::from_raw_parts(bytes.start.cast(), bytes.size) }
}

/// Facts, and what this kernel's image says, by the names of core and of the contract, which must be the same.
const _: () = {
    assert!(ImageFacts::NO_HANDOVER == bindings::HITLESS_IMAGE_NO_HANDOVER);
    assert!(ImageFacts::NO_RECORD == bindings::HITLESS_IMAGE_NO_RECORD);
    assert!(ImageFacts::OTHER_FORMAT == bindings::HITLESS_IMAGE_OTHER_FORMAT);
    assert!(ImageFacts::HITLESS_OFF == bindings::HITLESS_IMAGE_HITLESS_OFF);
    assert!(ImageFacts::HANDOVER_OFF == bindings::HITLESS_IMAGE_HANDOVER_OFF);
    assert!(ImageFacts::IOMMU_OFF == bindings::HITLESS_IMAGE_IOMMU_OFF);
    assert!(ImageFacts::OTHER_REMAPPING == bindings::HITLESS_IMAGE_OTHER_REMAPPING);
    assert!(ImageFacts::OTHER_PCI == bindings::HITLESS_IMAGE_OTHER_PCI);
    assert!(ImageFacts::ANYWAY == bindings::HITLESS_IMAGE_ANYWAY);
    assert!(ImageFacts::OWN_LINE == bindings::HITLESS_IMAGE_OBEYS_NO_OTHER);
    assert!(ImageFacts::COMES_BACK == bindings::HITLESS_IMAGE_COMES_BACK);

    assert!(abi::image::VERSION == bindings::HITLESS_IMAGE_VERSION);
    assert!(abi::image::DEFAULT_HANDOVER == bindings::HITLESS_IMAGE_DEFAULT_HANDOVER);
    assert!(abi::image::DEFAULT_IOMMU == bindings::HITLESS_IMAGE_DEFAULT_IOMMU);
    assert!(abi::image::OWN_LINE == bindings::HITLESS_IMAGE_OWN_LINE);
    assert!(abi::image::FORMAT as u32 == bindings::HITLESS_IMAGE_OLDEST);
    assert!(abi::image::FORMAT as u32 == bindings::HITLESS_IMAGE_NEWEST);
    assert!(bindings::HITLESS_IMAGE_NEEDS == 0);
};
