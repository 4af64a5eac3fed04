// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What devices ask for.

use hitless_core::iommu::bdf::Bdf;

/// A DMA request without PASID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dma {
    /// The requester.
    pub bdf: Bdf,
    /// The I/O virtual address.
    pub iova: u64,
    /// What it does there.
    pub access: Access,
}

/// Reading or writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A read.
    Read,
    /// A write.
    Write,
}

impl Access {
    pub(crate) fn is_in(self, read: bool, write: bool) -> bool {
        match self {
            Self::Read => read,
            Self::Write => write,
        }
    }
}
