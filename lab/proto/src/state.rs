// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The harvest state in page 0 of the memfd: what the next kernel's guest program and a watcher outside find there.
//!
//! There are two slots, each with its own checksum; the writer always overwrites the older one. So a reader may
//! look at any moment, also one who finds the memory of a kernel that stopped in the middle of a write: at most one
//! slot is torn, and the other one is whole.

use thiserror::Error;

use crate::layout;
use crate::tally::Tally;

/// Bytes of one slot.
pub const SLOT: usize = 256;
/// The first bytes of a slot, and the version of what follows.
pub const MAGIC: u64 = u64::from_le_bytes(*b"HITLESS\x01");

/// Words that are used.
const USED: usize = 15;
/// Where the checksum of all words before it is.
const CHECKSUM: usize = SLOT - 8;

/// What is in a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Grows by one with every store.
    pub generation: u64,
    /// The card's number.
    pub card: u8,
    /// Domain, bus, device and function in one number: see [`crate::Bdf::number`].
    pub bdf: u32,
    /// Descriptors in the ring.
    pub ring: u32,
    /// Where the memfd starts in the device's address space.
    pub iova: u64,
    /// The descriptor to be harvested next.
    pub next: u32,
    /// The descriptor to be posted next. The card's RDT register says the same and is believed where they differ.
    pub tail: u32,
    /// The count of the card's frames.
    pub tally: Tally,
}

/// Why the state can not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// Neither slot has the magic and a good checksum.
    #[error("no harvest state in the memory's first page: it is not a card's memory, or it was overwritten")]
    None,
    /// A whole slot with words that no guest program would have stored.
    #[error("the harvest state was not written by the guest program: its words are {0:x?}")]
    Foreign([u64; USED]),
}

impl State {
    /// The slot's bytes, and where in the page they go.
    pub fn encode(&self) -> (usize, [u8; SLOT]) {
        let tally = &self.tally;
        let words: [u64; USED] = [
            MAGIC,
            self.generation,
            self.card.into(),
            self.bdf.into(),
            self.ring.into(),
            self.iova,
            self.next.into(),
            self.tail.into(),
            tally.received,
            tally.lost,
            tally.duplicated,
            tally.reordered,
            tally.corrupt,
            tally.next,
            tally.recent,
        ];
        let mut slot = [0; SLOT];
        for (bytes, word) in slot.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let checksum = crc32fast::hash(&slot[..CHECKSUM]);
        slot[CHECKSUM..].copy_from_slice(&u64::from(checksum).to_le_bytes());
        let offset = if self.generation % 2 == 0 { 0 } else { SLOT };
        (offset, slot)
    }

    /// The newest whole slot of `page`, its fields checked.
    ///
    /// # Errors
    ///
    /// Any of [`enum@Error`].
    pub fn decode(page: &[u8]) -> Result<Self, Error> {
        let newest = page
            .chunks_exact(SLOT)
            .take(2)
            .filter_map(whole)
            .max_by_key(|words| words[1])
            .ok_or(Error::None)?;
        Self::of_words(newest).ok_or(Error::Foreign(newest))
    }

    fn of_words(words: [u64; USED]) -> Option<Self> {
        let [_, generation, card, bdf, ring, iova, next, tail, rest @ ..] = words;
        let [received, lost, duplicated, reordered, corrupt, expected, recent] = rest;
        let state = Self {
            generation,
            card: card.try_into().ok()?,
            bdf: bdf.try_into().ok()?,
            ring: ring.try_into().ok()?,
            iova,
            next: next.try_into().ok()?,
            tail: tail.try_into().ok()?,
            tally: Tally {
                received,
                lost,
                duplicated,
                reordered,
                corrupt,
                next: expected,
                recent,
            },
        };
        let good = layout::ring_is_valid(state.ring) && state.next.max(state.tail) < state.ring;
        good.then_some(state)
    }
}

/// The words of a slot that was stored whole.
fn whole(slot: &[u8]) -> Option<[u64; USED]> {
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
    let mut words = [0; USED];
    for (word_of, bytes) in words.iter_mut().zip(slot.chunks_exact(8)) {
        *word_of = word(bytes);
    }
    let checksum = u64::from(crc32fast::hash(&slot[..CHECKSUM]));
    (words[0] == MAGIC && word(&slot[CHECKSUM..]) == checksum).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state(generation: u64) -> State {
        State {
            generation,
            card: 1,
            ring: 4096,
            iova: 1 << 32,
            next: 17,
            tail: 9,
            ..State::default()
        }
    }

    fn store(page: &mut [u8], state: &State) {
        let (offset, slot) = state.encode();
        page[offset..offset + SLOT].copy_from_slice(&slot);
    }

    #[test]
    fn the_newest_slot_wins() {
        let mut page = [0; 4096];
        assert_eq!(State::decode(&page), Err(Error::None));
        for generation in 1..6 {
            store(&mut page, &state(generation));
            assert_eq!(State::decode(&page), Ok(state(generation)));
        }
    }

    #[test]
    fn what_no_card_has_is_refused() {
        for wrong in [(12, 0, 0), (4096, 4096, 0), (4096, 0, 4096)] {
            let (ring, next, tail) = wrong;
            let mut page = [0; 4096];
            store(
                &mut page,
                &State {
                    ring,
                    next,
                    tail,
                    ..state(1)
                },
            );
            assert!(
                matches!(State::decode(&page), Err(Error::Foreign(_))),
                "{wrong:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_torn_store_leaves_the_one_before(generation in 1_u64..1 << 40, cut in 0_usize..=SLOT - 8) {
            let mut page = [0; 4096];
            store(&mut page, &state(generation));
            let newer = State { tally: Tally { received: 5, ..Tally::default() }, ..state(generation + 1) };
            let (offset, slot) = newer.encode();
            page[offset..offset + cut].copy_from_slice(&slot[..cut]);
            prop_assert_eq!(State::decode(&page), Ok(state(generation)));
        }

        #[test]
        fn no_page_makes_it_panic(page in prop::collection::vec(any::<u8>(), 0..1024)) {
            let _ = State::decode(&page);
        }
    }
}
