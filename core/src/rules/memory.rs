// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The memory behind HWPTs.

use crate::refusal::Refusal;

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
