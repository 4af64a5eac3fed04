// SPDX-License-Identifier: GPL-2.0-only

//! What is done to units of VT-d's.

pub(crate) mod adopt;
pub(crate) mod scrub;
pub(crate) mod swap;
