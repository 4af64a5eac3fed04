// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What shows of the machine's IOMMU from outside, whichever kind it is. A second kind is asked here, too: its trace events
//! have names of their own, and its registers another place.

#[cfg(test)]
pub(super) use crate::evidence::vtd::recorded;
pub use crate::evidence::vtd::FAULTS;
pub(super) use crate::evidence::vtd::{event, look, request, BEGINS, JUDGED};
