// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The memory behind HWPTs.

use crate::facts::{facts, first};
use crate::refusal::Refusal;

facts! {
    /// Facts about the memory behind a mapping of a marked HWPT: `HITLESS_MEMORY_*`.
    MemoryFacts {
        /// It is not from a file.
        NO_FILE = 0,
        /// It is from a DMA buffer.
        DMABUF = 1,
        /// Its file is not one of shmem.
        NOT_SHMEM = 2,
        /// Folios were taken out of the file after it was mapped.
        HOLES = 3,
        /// The mapping is still being made or taken down.
        UNSETTLED = 4,
        /// The device may read it.
        READABLE = 5,
        /// The device may write to it.
        WRITEABLE = 6,
    }
}

/// May memory with these facts be preserved?
///
/// What seals its file has does not matter. Pages that were pinned are still what the file has as long as no folio was taken
/// out of it, and from the memfd's preserve on none can be.
///
/// # Errors
///
/// The first reason against it. A fact that is not known here is one against it.
pub fn memory(facts: MemoryFacts) -> Result<(), Refusal> {
    first(
        facts.0,
        &[
            (MemoryFacts::UNSETTLED, Refusal::MappingUnsettled),
            (MemoryFacts::DMABUF, Refusal::DmaBuffer),
            (MemoryFacts::NO_FILE, Refusal::OtherMemory),
            (MemoryFacts::NOT_SHMEM, Refusal::NotShmem),
            (MemoryFacts::HOLES, Refusal::Holes),
            (!MemoryFacts::KNOWN, Refusal::OtherMemory),
        ],
    )
}

/// May a HWPT that has this many mappings be preserved?
///
/// # Errors
///
/// [`Refusal::NothingMapped`]: the next kernel takes a domain without memory for one whose memory has
/// been kept from it.
pub fn mapped(mappings: usize) -> Result<(), Refusal> {
    (mappings > 0).then_some(()).ok_or(Refusal::NothingMapped)
}

/// Does a session's memory stay pinned and frozen?
///
/// Whatever the records say of single files: a device that may be using a restored domain of one of the
/// session's iommufds may be writing to any memory file of the session. `iommufds` says of each
/// iommufd of the session whether it is outstanding ([`crate::record::set::Records::is_outstanding`]).
pub fn stays_pinned(mut iommufds: impl Iterator<Item = bool>) -> bool {
    iommufds.any(|outstanding| outstanding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fact_but_rights_is_a_reason() {
        for bit in 0..32 {
            let rights = MemoryFacts::READABLE | MemoryFacts::WRITEABLE;
            let verdict = memory(MemoryFacts(1 << bit));
            assert_eq!(verdict.is_ok(), rights & 1 << bit != 0, "{bit}");
        }
    }

    #[test]
    fn a_hwpt_maps_something() {
        assert_eq!(mapped(0), Err(Refusal::NothingMapped));
        assert_eq!(mapped(1), Ok(()));
    }

    #[test]
    fn one_outstanding_iommufd_keeps_all_memory() {
        assert!(stays_pinned([false, true].into_iter()));
        assert!(!stays_pinned([false, false].into_iter()));
        assert!(!stays_pinned([].into_iter()));
    }
}
