// SPDX-License-Identifier: GPL-2.0-only

//! The kinds of IOMMU hardware that are known. A kind is a folder of its own, here and in core.

use hitless_core::refusal::Refusal;

use crate::failure::Outcome;
use crate::hardware::Kind;
use crate::vtd;

/// All of them.
pub(crate) const KINDS: &[&dyn Kind] = &[&vtd::Vtd];

/// The kind with a number.
pub(crate) fn kind(number: u32) -> Outcome<&'static dyn Kind> {
    let mut kinds = KINDS.iter();
    let kind = kinds.find(|kind| kind.number() == number);
    Ok(*kind.ok_or(Refusal::OtherIommu)?)
}
