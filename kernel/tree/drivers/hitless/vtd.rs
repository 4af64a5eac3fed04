// SPDX-License-Identifier: GPL-2.0-only

//! Units of VT-d's: how they are described, and what is done to them.

pub(crate) mod adopt;
mod describe;
pub(crate) mod scrub;
pub(crate) mod swap;

pub(crate) use self::describe::{
    arrived,
    Vtd, //
};
