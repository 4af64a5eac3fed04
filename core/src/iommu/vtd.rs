// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Tables of an Intel VT-d remapping unit: what they say, how a live entry is changed, what is
//! cleared before the jump and what is checked after it.
//!
//! Names are those of the "Intel Virtualization Technology for Directed I/O Architecture
//! Specification" (VT-d below), chapters 3 (translation), 6 (caching) and 9 (structure formats).
//!
//! | module | question it answers |
//! |---|---|
//! | [`root`], [`context`], [`pasid`] | what do the words of a root, context or PASID entry mean? |
//! | [`swap`] | in which steps does a live entry change, with no moment at which a DMA faults? |
//! | [`scrub`] | which entries go before the jump? |
//! | [`check`] | do the tables hold what the records say? |
//! | [`adopt`] | may the unit go on with them, and for whom? |
//! | [`leave`], [`irq`] | how is a unit left to the next kernel, and found there, with its interrupt remapping? |
//! | [`record`] | what do the records hold of VT-d? |

pub mod adopt;
pub mod check;
pub mod context;
pub mod devfn;
pub mod irq;
pub mod leave;
pub mod mode;
pub mod pasid;
pub mod record;
pub mod root;
pub mod scrub;
pub mod swap;
mod word;
