// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Tables of an Intel VT-d remapping unit: what they say, how a live entry is replaced, what is
//! cleared before the jump and what is checked after it.
//!
//! Nothing here touches hardware or memory by itself. Tables are read through [`Memory`], which the
//! caller lends; everything that has to be written comes back as a step that the caller carries out
//! (kernel glue on the machine, the simulator in pretend memory).
//!
//! Names are those of the "Intel Virtualization Technology for Directed I/O Architecture
//! Specification" (VT-d below), chapters 3 (translation), 6 (caching) and 9 (structure formats).
//!
//! | module | question it answers |
//! |---|---|
//! | [`legacy`], [`scalable`] | what do the words of a root, context or PASID entry mean? |
//! | [`page_table`] | which tables make up a page table, and where does an address go? |
//! | [`swap`] | in which steps does a live entry change, with no moment at which a DMA faults? |
//! | [`scrub`] | which entries go before the jump? |
//! | [`adopt`] | do the tables hold exactly what the records say? |

#![deny(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

pub mod adopt;
pub mod legacy;
pub mod page_table;
pub mod scalable;
pub mod scrub;
pub mod swap;

mod address;
mod bits;
mod memory;
mod refusal;

pub use address::{Bdf, DevfnSet, DomainId, HostAddressWidth, Levels, TableAddress};
pub(crate) use memory::read_entry;
pub use memory::{Memory, WORDS_PER_TABLE};
pub use refusal::{Entry, Field, Refusal};

/// In which of its two modes with tables in memory a unit is used (VT-d 3.4, RTADDR_REG.TTM).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Root and context tables; a context entry names a second-stage table.
    Legacy,
    /// Context entries name a PASID directory; a PASID entry names the page table.
    Scalable,
}

/// A remapping unit's tables: where they start and how they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Which kind of tables.
    pub mode: Mode,
    /// The root table (RTADDR_REG).
    pub root_table: TableAddress,
    /// Above which bit addresses are reserved.
    pub width: HostAddressWidth,
}
