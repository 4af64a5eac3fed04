// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! May a HWPT be preserved?

use crate::facts::{facts, first};
use crate::refusal::Refusal;

facts! {
    /// Facts about a marked HWPT: `HITLESS_HWPT_*`.
    HwptFacts {
        /// It tracks dirty pages.
        DIRTY_TRACKING = 0,
        /// It is a nesting parent.
        NEST_PARENT = 1,
        /// It delivers page faults.
        FAULT = 2,
        /// It is for PASIDs.
        PASID = 3,
        /// It was allocated by attaching to an IOAS.
        AUTO = 4,
        /// Its tables cannot be described.
        UNKNOWN_TABLE = 5,
    }
}

/// May a HWPT with these facts be preserved?
///
/// # Errors
///
/// The first reason against it. A fact that is not known here is one against it.
pub fn hwpt(facts: HwptFacts) -> Result<(), Refusal> {
    first(
        facts.0,
        &[
            (HwptFacts::UNKNOWN_TABLE, Refusal::UnknownTable),
            (HwptFacts::DIRTY_TRACKING, Refusal::DirtyTracking),
            (HwptFacts::NEST_PARENT, Refusal::NestParent),
            (HwptFacts::FAULT, Refusal::PageFaults),
            (HwptFacts::PASID, Refusal::HwptForPasid),
            (HwptFacts::AUTO, Refusal::AutoHwpt),
            (!HwptFacts::KNOWN, Refusal::UnknownTable),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fact_is_a_reason() {
        for bit in 0..32 {
            assert!(hwpt(HwptFacts(1 << bit)).is_err());
        }
        assert_eq!(hwpt(HwptFacts(0)), Ok(()));
    }
}
