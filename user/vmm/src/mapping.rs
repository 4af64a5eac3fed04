// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a HWPT maps.

use serde::{Deserialize, Serialize};

/// A mapping begins and ends at multiples of it, in bytes.
pub(crate) const PAGE: u64 = 4096;

/// What a device may do with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rights {
    /// It may read.
    Read,
    /// It may write.
    Write,
    /// It may read and write.
    ReadWrite,
}

impl Rights {
    /// Whether it may read.
    pub const fn readable(self) -> bool {
        !matches!(self, Self::Write)
    }

    /// Whether it may write.
    pub const fn writeable(self) -> bool {
        !matches!(self, Self::Read)
    }

    pub(crate) fn of(readable: bool, writeable: bool) -> Option<Self> {
        match (readable, writeable) {
            (true, true) => Some(Self::ReadWrite),
            (true, false) => Some(Self::Read),
            (false, true) => Some(Self::Write),
            (false, false) => None,
        }
    }
}

/// One mapping of a HWPT: which memory a device finds at an I/O virtual address.
///
/// ```
/// use hitless_vmm::{Mapping, Rights};
/// // The first GiB of the memfd `ram`, at IOVA 0.
/// let low = Mapping { iova: 0, length: 1 << 30, memory: "ram".into(), offset: 0, rights: Rights::ReadWrite };
/// assert!(low.rights.writeable());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// First I/O virtual address: a multiple of 4096.
    pub iova: u64,
    /// Bytes: a multiple of 4096, not 0.
    pub length: u64,
    /// The name of the memfd.
    pub memory: String,
    /// Where it begins in the memfd, in bytes: a multiple of 4096.
    pub offset: u64,
    /// What the device may do there.
    pub rights: Rights,
}

impl Mapping {
    /// Where it ends, if it is one.
    pub(crate) fn end(&self) -> Option<u64> {
        let aligned = [self.iova, self.length, self.offset]
            .iter()
            .all(|value| value % PAGE == 0);
        self.offset.checked_add(self.length)?;
        let end = self.iova.checked_add(self.length)?;
        (aligned && self.length > 0).then_some(end)
    }

    /// Whether `next` goes on where this one ends, in the address space and in the memfd.
    fn goes_on_in(&self, next: &Self) -> bool {
        let same = (&self.memory, self.rights) == (&next.memory, next.rights);
        let joined = [self.iova, self.offset].map(|start| start.checked_add(self.length));
        same && joined == [Some(next.iova), Some(next.offset)]
    }
}

/// The same mappings in order, with neighbours joined that are one piece of memory: how many calls made them makes no
/// difference to a device.
pub(crate) fn joined(mappings: &[Mapping]) -> Vec<Mapping> {
    let mut sorted = mappings.to_vec();
    sorted.sort_by_key(|mapping| mapping.iova);
    let mut joined: Vec<Mapping> = Vec::new();
    for mapping in sorted {
        match joined.last_mut() {
            Some(last) if last.goes_on_in(&mapping) => last.length += mapping.length,
            _ => joined.push(mapping),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(iova: u64, offset: u64) -> Mapping {
        Mapping {
            iova: iova * PAGE,
            length: PAGE,
            memory: "ram".into(),
            offset: offset * PAGE,
            rights: Rights::ReadWrite,
        }
    }

    #[test]
    fn neighbours_are_joined_where_they_are_one_piece_of_memory() {
        let other = Mapping {
            rights: Rights::Read,
            ..page(4, 4)
        };
        // Given in any order; the third is not joined for its rights, the last for its place in the file.
        let all = [page(3, 3), other.clone(), page(2, 2), page(5, 9)];
        let first = Mapping {
            length: 2 * PAGE,
            ..page(2, 2)
        };
        assert_eq!(joined(&all), [first, other, page(5, 9)]);
        assert_eq!(joined(&[]), []);
    }

    proptest::proptest! {
        #[test]
        fn how_a_piece_was_cut_makes_no_difference(
            cuts in proptest::collection::btree_set(1_u64..1000, 0..20),
            start in 0_u64..1 << 40,
        ) {
            let whole = Mapping { length: 1000 * PAGE, ..page(start, 7) };
            let ends = cuts.iter().copied().chain([1000]);
            let mut at = 0;
            let mut pieces: Vec<_> = ends
                .map(|end| {
                    let length = (end - at) * PAGE;
                    let piece = Mapping { length, ..page(start + at, 7 + at) };
                    at = end;
                    piece
                })
                .collect();
            pieces.reverse();
            proptest::prop_assert_eq!(joined(&pieces), std::slice::from_ref(&whole));
        }
    }
}
