// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A pretend machine for hitless's tests: physical memory, and a VT-d unit that walks tables as
//! hardware does, caches included.
//!
//! The unit reads raw words with its own few lines of decoding instead of `hitless_core`'s, so that a
//! mistake in one of the two shows as a difference.

pub mod build;
pub mod dma;
pub mod execute;
pub mod fault;
pub mod lent;
pub mod memory;
pub mod unit;

pub use build::{PageTable, Tables};
pub use dma::{Access, Dma};
pub use execute::{Execution, Place};
pub use fault::Fault;
pub use memory::PhysicalMemory;
pub use unit::Unit;
