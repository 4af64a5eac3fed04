// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Encode and decode, over pages that the caller lends.
//!
//! The page is the truth: what is preserved is written into it at once, and what is asked is read out
//! of it. Each type here owns the loan of one page. `create` makes an empty record in a page;
//! `decode` is the one way to a record that another kernel wrote, and checks all of it, so that after
//! it no reader has to check again.

pub mod iommu;
pub mod iommufd;
pub mod pci;
pub mod tables;
pub mod vfio;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{Immutable, IntoBytes};

use crate::abi::header::HeaderSer;
pub use crate::abi::Page;
use crate::abi::PAGE_SIZE;
use crate::refusal::{Family, Refusal};

/// What the header of a family's records says.
struct Header {
    family: Family,
    magic: [u8; 8],
    version: u32,
    /// Features without which a record is misread. A bit means something else in each family.
    known_required: u64,
}

impl Header {
    /// The header of a record that needs no feature.
    fn encode(&self) -> HeaderSer {
        HeaderSer {
            magic: self.magic,
            version: U32::new(self.version),
            length: U32::new(u32::try_from(PAGE_SIZE).unwrap_or(u32::MAX)),
            required: U64::new(0),
            optional: U64::new(0),
        }
    }

    /// Is it the header of a record that can be read here?
    fn check(&self, header: &HeaderSer) -> Result<(), Refusal> {
        if header.magic != self.magic {
            Err(Refusal::NotARecord(self.family))
        } else if header.version.get() != self.version {
            Err(Refusal::UnknownVersion(self.family))
        } else if header.required.get() & !self.known_required != 0 {
            Err(Refusal::UnknownFeature(self.family))
        } else if usize::try_from(header.length.get()) != Ok(PAGE_SIZE) {
            Err(Refusal::Malformed(self.family))
        } else {
            Ok(())
        }
    }
}

/// Whether every byte is 0.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// A free entry is all 0: what a later version may write there is not passed over.
fn check_free<T: IntoBytes + Immutable>(entry: &T, family: Family) -> Result<(), Refusal> {
    match is_zero(entry.as_bytes()) {
        true => Ok(()),
        false => Err(Refusal::Malformed(family)),
    }
}

/// Whether two items of an iterator are equal.
fn has_duplicates<I>(items: I) -> bool
where
    I: Iterator + Clone,
    I::Item: PartialEq,
{
    let mut rest = items;
    while let Some(item) = rest.next() {
        if rest.clone().any(|other| other == item) {
            return true;
        }
    }
    false
}
