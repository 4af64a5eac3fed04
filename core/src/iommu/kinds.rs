// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The kinds of IOMMU hardware that are known.

use super::vtd::record::VTD;
use crate::record::hardware::Kinds;

/// All of them.
pub const KINDS: Kinds = &[&VTD];
