// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Memory that the caller lends to a record: its pages, and room for the index.
//!
//! A record owns its lender, grows it, and gives it back in the end. Nothing else may be in it, and
//! nobody else changes it meanwhile.

pub use super::index::Node;
use crate::abi::list::Page;

/// Pages and index of one record.
///
/// Only the functions that add something may allocate; all others are called with interrupts off too.
pub trait Lender {
    /// What lending fails with, which comes through to the caller unchanged.
    type Error;

    /// Number of pages.
    fn pages(&self) -> u32;

    /// The page with a number, counted from 0. `None` from [`Self::pages`] on.
    fn page(&self, number: u32) -> Option<&Page>;

    /// The same for writing.
    fn page_mut(&mut self, number: u32) -> Option<&mut Page>;

    /// Physical address of the page with a number; not 0.
    fn phys(&self, number: u32) -> Option<u64>;

    /// The index so far.
    fn nodes(&self) -> &[Node];

    /// The same for writing.
    fn nodes_mut(&mut self) -> &mut [Node];

    /// Appends [`Node::EMPTY`]. The memory need not be physically contiguous, and there may be much of
    /// it: about 20 for each device.
    ///
    /// # Errors
    ///
    /// There is no memory.
    fn add_node(&mut self) -> Result<(), Self::Error>;
}

/// The outgoing kernel's: it can be asked for more pages.
pub trait Grow: Lender {
    /// Appends a page that will be handed over. Its contents do not matter.
    ///
    /// # Errors
    ///
    /// There is no memory.
    fn add_page(&mut self) -> Result<(), Self::Error>;
}

/// The incoming kernel's: it can take pages that were handed over.
pub trait Take: Lender {
    /// Appends the page at a physical address. `false`: no such page was handed over, or it has been
    /// taken before, by whomever. That a page can be taken once only is what makes a chain that runs in a
    /// circle, or into another one, end.
    ///
    /// # Errors
    ///
    /// There is no memory.
    fn take_page(&mut self, phys: u64) -> Result<bool, Self::Error>;
}

/// Memory for values of one type, which only grows.
pub trait Shelf<T> {
    /// What growing fails with.
    type Error;

    /// The values.
    fn items(&self) -> &[T];

    /// The same for writing.
    fn items_mut(&mut self) -> &mut [T];

    /// Appends a value.
    ///
    /// # Errors
    ///
    /// There is no memory.
    fn push(&mut self, item: T) -> Result<(), Self::Error>;
}
