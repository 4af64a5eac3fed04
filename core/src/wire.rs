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
mod tests;

use zerocopy::little_endian::{U32, U64};

use crate::abi::header::HeaderSer;
use crate::abi::PAGE_SIZE;
use crate::refusal::{Family, Refusal};

/// Features without which a record is misread that are known here: none yet.
const KNOWN_REQUIRED: u64 = 0;

/// A header of version 1 for a family with the given magic number.
fn header(magic: [u8; 8], version: u32) -> HeaderSer {
    HeaderSer {
        magic,
        version: U32::new(version),
        length: U32::new(u32::try_from(PAGE_SIZE).unwrap_or(u32::MAX)),
        required: U64::new(0),
        optional: U64::new(0),
    }
}

/// Checks a header.
fn check_header(
    header: &HeaderSer,
    magic: [u8; 8],
    version: u32,
    family: Family,
) -> Result<(), Refusal> {
    if header.magic != magic {
        Err(Refusal::NotARecord(family))
    } else if header.version.get() != version {
        Err(Refusal::UnknownVersion(family))
    } else if header.required.get() & !KNOWN_REQUIRED != 0 {
        Err(Refusal::UnknownFeature(family))
    } else if usize::try_from(header.length.get()) != Ok(PAGE_SIZE) {
        Err(Refusal::Malformed(family))
    } else {
        Ok(())
    }
}

/// Whether every byte is 0.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
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
