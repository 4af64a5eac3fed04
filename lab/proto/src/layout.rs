// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where things are in the VM's memory (the memfd), for the guest that fills it and the lab that watches it from
//! outside.
//!
//! | offset | what |
//! |---|---|
//! | 0 | one page: the harvest state ([`crate::state::State`]), so that it lives through the jump with the memory |
//! | 4 KiB | the index: guest-physical address of every page of the memfd, 8 bytes each, in file order |
//! | 1 MiB | receive ring, 16 bytes a descriptor |
//! | 2 MiB | buffers, 2 KiB a descriptor |

/// Bytes in a page.
pub const PAGE: u64 = 4096;
/// Offset of the index of physical pages.
pub const INDEX: u64 = PAGE;
/// Offset of the receive ring.
pub const RING: u64 = 1 << 20;
/// Offset of the first buffer.
pub const BUFFERS: u64 = 2 << 20;
/// Offset of a page that nothing is kept in.
pub const SPARE: u64 = RING - PAGE;
/// Bytes of one buffer.
pub const BUFFER: u64 = 2048;
/// The guest posts a harvested descriptor again only when this many more have been harvested (or a quarter of the
/// ring, if that is less). A watcher from outside looks every millisecond, so this leaves it time enough to read what
/// landed also when the host does not run it for a while; every descriptor held back is one less for the jump.
pub const REPOST_LAG: u32 = 2048;

/// Size of the memfd for a ring of `descriptors`, bytes.
pub fn memory_size(descriptors: u32) -> u64 {
    BUFFERS + u64::from(descriptors) * BUFFER
}

/// Pages that hold the harvest state and the index, for a ring of `descriptors`.
pub fn index_pages(descriptors: u32) -> u64 {
    1 + (memory_size(descriptors) / PAGE * 8).div_ceil(PAGE)
}

/// Bytes of a receive descriptor.
pub const DESCRIPTOR: u64 = 16;
/// The most descriptors a ring has.
pub const MAX_RING: u32 = 32768;
/// The fewest descriptors a ring has.
pub const MIN_RING: u32 = 64;

/// Whether a ring may have so many descriptors: a multiple of 8, as the card's RDLEN register wants it (82576
/// datasheet, 8.10.7), in the range that the layout has room for.
pub fn ring_is_valid(descriptors: u32) -> bool {
    (MIN_RING..=MAX_RING).contains(&descriptors) && descriptors % 8 == 0
}

/// How many harvested descriptors are held back before one is posted again.
pub fn repost_lag(descriptors: u32) -> u32 {
    REPOST_LAG.min(descriptors / 4)
}

/// Offset of a descriptor.
pub fn descriptor(index: u32) -> u64 {
    RING + u64::from(index) * DESCRIPTOR
}

/// Offset of a descriptor's buffer.
pub fn buffer(index: u32) -> u64 {
    BUFFERS + u64::from(index) * BUFFER
}

/// Guest-physical address of the byte at `offset` of the memfd, by the index (its bytes from [`INDEX`] on).
/// `None` when the index does not reach so far or holds no page there.
pub fn physical(index: &[u8], offset: u64) -> Option<u64> {
    let at = usize::try_from(offset / PAGE).ok()?.checked_mul(8)?;
    let entry = index.get(at..at.checked_add(8)?)?.try_into().ok()?;
    let page = u64::from_le_bytes(entry);
    (page != 0).then_some(page + offset % PAGE)
}

/// What the card wrote into a descriptor: advanced one-buffer format, write-back (82576 datasheet, 7.1.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landed {
    /// Bytes in the buffer.
    pub length: u16,
    /// The frame ends in this descriptor.
    pub end_of_packet: bool,
    /// The extended error bits (31:20 of the second word's low half), 0 in a good frame.
    pub errors: u16,
}

impl Landed {
    /// Reads a descriptor; `None` as long as the card has not marked it done.
    pub fn decode(descriptor: &[u8; DESCRIPTOR as usize]) -> Option<Self> {
        let [.., s0, s1, s2, s3, l0, l1, _, _] = *descriptor;
        let status = u32::from_le_bytes([s0, s1, s2, s3]);
        (status & 1 != 0).then(|| Self {
            length: u16::from_le_bytes([l0, l1]),
            end_of_packet: status & 2 != 0,
            errors: (status >> 20) as u16,
        })
    }
}

/// A descriptor as the driver posts it: advanced one-buffer format, read (82576 datasheet, 7.1.5.1).
pub fn posted(buffer_iova: u64) -> [u8; DESCRIPTOR as usize] {
    let mut descriptor = [0; DESCRIPTOR as usize];
    descriptor[..8].copy_from_slice(&buffer_iova.to_le_bytes());
    descriptor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_do_not_overlap() {
        assert!(index_pages(MAX_RING) * PAGE <= RING);
        assert!(descriptor(MAX_RING) <= BUFFERS);
        assert_eq!(buffer(MAX_RING), memory_size(MAX_RING));
    }

    #[test]
    fn a_descriptor_is_done_when_the_card_says_so() {
        let mut descriptor = posted(0x1_0000_0800);
        assert_eq!(Landed::decode(&descriptor), None);
        descriptor[8..].copy_from_slice(&(256_u64 << 32 | 3).to_le_bytes());
        let landed = Landed::decode(&descriptor).expect("done");
        assert_eq!((landed.length, landed.errors), (256, 0));
        assert!(landed.end_of_packet);
    }

    #[test]
    fn the_index_is_looked_up_by_page() {
        let index = [0_u64, 0x7000].map(u64::to_le_bytes).concat();
        assert_eq!(physical(&index, 8), None);
        assert_eq!(physical(&index, PAGE + 8), Some(0x7008));
        assert_eq!(physical(&index, 2 * PAGE), None);
    }
}
