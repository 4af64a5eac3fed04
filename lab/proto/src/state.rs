// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The harvest state in page 0 of the memfd: what the next kernel's guest program and a watcher outside find there.
//!
//! There are two slots, each with its own checksum; the writer always overwrites the older one. So a reader may
//! look at any moment, also one who finds the memory of a kernel that stopped in the middle of a write: at most one
//! slot is torn, and the other one is whole.

use thiserror::Error;

use crate::layout;
use crate::tally::Tally;

/// The version of the slot's fields. A reader refuses another one.
pub const VERSION: u32 = 1;
/// Bytes of one slot.
pub const SLOT: usize = 256;
/// The first bytes of a slot.
pub const MAGIC: u64 = u64::from_le_bytes(*b"HITLESS\0");

/// Words of a slot that are used; the last 8 bytes hold the checksum of them all.
const WORDS: usize = SLOT / 8 - 1;

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
    /// A whole slot of another version.
    #[error("the harvest state has version {0} and this program knows {VERSION}: use images of one build")]
    Version(u32),
    /// A field that no guest program would have stored.
    #[error("the harvest state says {what} is {value}: it was not written by the guest program")]
    Field {
        /// The field.
        what: &'static str,
        /// What stands there.
        value: u64,
    },
}

impl State {
    /// The slot's bytes, and where in the page they go.
    pub fn encode(&self) -> (usize, [u8; SLOT]) {
        let words = [
            MAGIC,
            u64::from(VERSION),
            self.generation,
            u64::from(self.card),
            u64::from(self.bdf),
            u64::from(self.ring),
            self.iova,
            u64::from(self.next),
            u64::from(self.tail),
            self.tally.received,
            self.tally.lost,
            self.tally.duplicated,
            self.tally.reordered,
            self.tally.corrupt,
            self.tally.next,
            self.tally.recent,
        ];
        let mut slot = [0; SLOT];
        for (bytes, word) in slot.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let checksum = u64::from(crc32fast::hash(&slot[..WORDS * 8]));
        slot[WORDS * 8..].copy_from_slice(&checksum.to_le_bytes());
        let offset = if self.generation % 2 == 0 { 0 } else { SLOT };
        (offset, slot)
    }

    /// The newest whole slot of `page`, its fields checked.
    ///
    /// # Errors
    ///
    /// Any of [`enum@Error`].
    pub fn decode(page: &[u8]) -> Result<Self, Error> {
        let mut best: Option<Self> = None;
        let mut refused = Error::None;
        for slot in page.chunks_exact(SLOT).take(2) {
            match Self::decode_slot(slot) {
                Ok(state) if best.is_none_or(|best| best.generation < state.generation) => {
                    best = Some(state)
                }
                Ok(_) | Err(Error::None) => {}
                Err(error) => refused = error,
            }
        }
        best.ok_or(refused)
    }

    fn decode_slot(slot: &[u8]) -> Result<Self, Error> {
        let mut words = [0; WORDS + 1];
        for (word, bytes) in words.iter_mut().zip(slot.chunks_exact(8)) {
            let mut number = [0; 8];
            number.copy_from_slice(bytes);
            *word = u64::from_le_bytes(number);
        }
        if words[0] != MAGIC || words[WORDS] != u64::from(crc32fast::hash(&slot[..WORDS * 8])) {
            return Err(Error::None);
        }
        let version = narrow::<u32>("its version", words[1])?;
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let state = Self {
            generation: words[2],
            card: narrow("the card", words[3])?,
            bdf: narrow("the device address", words[4])?,
            ring: narrow("the ring", words[5])?,
            iova: words[6],
            next: narrow("the next descriptor", words[7])?,
            tail: narrow("the tail descriptor", words[8])?,
            tally: Tally {
                received: words[9],
                lost: words[10],
                duplicated: words[11],
                reordered: words[12],
                corrupt: words[13],
                next: words[14],
                recent: words[15],
            },
        };
        if !layout::ring_is_valid(state.ring) {
            return Err(Error::Field {
                what: "the ring",
                value: u64::from(state.ring),
            });
        }
        for (what, index) in [
            ("the next descriptor", state.next),
            ("the tail descriptor", state.tail),
        ] {
            if index >= state.ring {
                return Err(Error::Field {
                    what,
                    value: u64::from(index),
                });
            }
        }
        Ok(state)
    }
}

fn narrow<T: TryFrom<u64>>(what: &'static str, value: u64) -> Result<T, Error> {
    T::try_from(value).map_err(|_| Error::Field { what, value })
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
    fn an_empty_page_holds_none() {
        assert_eq!(State::decode(&[0; 4096]), Err(Error::None));
        assert_eq!(State::decode(&[]), Err(Error::None));
    }

    #[test]
    fn the_newest_slot_wins() {
        let mut page = [0; 4096];
        for generation in 1..6 {
            store(&mut page, &state(generation));
            assert_eq!(State::decode(&page), Ok(state(generation)));
        }
    }

    #[test]
    fn a_ring_no_card_has_is_refused() {
        let mut page = [0; 4096];
        store(
            &mut page,
            &State {
                ring: 12,
                next: 0,
                tail: 0,
                ..state(1)
            },
        );
        assert_eq!(
            State::decode(&page),
            Err(Error::Field {
                what: "the ring",
                value: 12
            })
        );
        store(
            &mut page,
            &State {
                next: 4096,
                ..state(1)
            },
        );
        assert!(matches!(State::decode(&page), Err(Error::Field { .. })));
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
