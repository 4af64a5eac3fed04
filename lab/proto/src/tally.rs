// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Accounting of sequence numbers: what came, what is missing, what came twice or late.
//!
//! The guest counts what it harvests and the lab counts what it sees from outside; both use this, so that their
//! figures mean the same.

use serde::{Deserialize, Serialize};

use crate::frame::{self, Header};

/// How many sequence numbers back a late frame can still be told from a repeated one.
const WINDOW: u64 = 64;

/// The count of one card's frames.
///
/// Counting starts with the first frame that comes; its number is not held against it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Frames with the right content that came, repeated ones included.
    pub received: u64,
    /// Sequence numbers between the first and the newest that have not come.
    pub lost: u64,
    /// Frames whose sequence number had come before (or is too old to tell).
    pub duplicated: u64,
    /// Frames older than one that had come already; they are no longer counted as lost.
    pub reordered: u64,
    /// Frames that landed with another content than was sent, or that are another card's.
    pub corrupt: u64,
    /// The next sequence number expected.
    pub next: u64,
    /// Bit n set: sequence number `next - 1 - n` has come.
    pub recent: u64,
}

impl Tally {
    /// Counts what [`frame::check`] said of one landed frame of the card `card`.
    pub fn count(&mut self, card: u8, checked: &Result<Header, frame::Error>) {
        match checked {
            Ok(header) if header.card == card => self.good(header.sequence),
            Ok(_) | Err(_) => self.corrupt += 1,
        }
    }

    /// Counts a frame with the right content.
    pub fn good(&mut self, sequence: u64) {
        let first = self.received == 0;
        self.received += 1;
        if first {
            self.next = sequence.wrapping_add(1);
            // What lies before the first frame is nobody's business: as if it had come.
            self.recent = u64::MAX;
            return;
        }
        if sequence >= self.next {
            let skipped = sequence - self.next;
            self.lost += skipped;
            self.recent = if skipped + 1 >= WINDOW {
                1
            } else {
                (self.recent << (skipped + 1)) | 1
            };
            self.next = sequence.wrapping_add(1);
            return;
        }
        let back = self.next - 1 - sequence;
        if back < WINDOW && self.recent & (1 << back) == 0 {
            self.recent |= 1 << back;
            self.reordered += 1;
            self.lost -= 1;
        } else {
            self.duplicated += 1;
        }
    }

    /// Nothing lost, duplicated, reordered or corrupt.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.reordered == 0 && self.corrupt == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tally(sequences: &[u64]) -> Tally {
        let mut tally = Tally::default();
        for sequence in sequences {
            tally.good(*sequence);
        }
        tally
    }

    #[test]
    fn each_number_is_in_order_or_missing_or_twice_or_late() {
        let counts = |sequences: &[u64]| {
            let all = tally(sequences);
            [all.lost, all.duplicated, all.reordered]
        };
        assert!(tally(&[5, 6, 7]).is_clean());
        assert_eq!(counts(&[0, 1, 4]), [2, 0, 0]);
        assert_eq!(counts(&[0, 1, 4, 2]), [1, 0, 1]);
        assert_eq!(counts(&[0, 1, 1, 0]), [0, 2, 0]);
    }

    #[test]
    fn another_cards_frame_is_corrupt() {
        let mut tally = Tally::default();
        let (card, sequence, sent_ns) = (2, 0, 0);
        tally.count(
            1,
            &Ok(Header {
                card,
                sequence,
                sent_ns,
            }),
        );
        tally.count(1, &Err(frame::Error::NotOurs));
        assert_eq!((tally.received, tally.corrupt), (0, 2));
    }

    proptest! {
        #[test]
        fn every_number_is_received_or_lost(mut gaps in prop::collection::vec(0_u64..200, 1..200)) {
            gaps[0] = 0;
            let mut at = 0;
            let sequences: Vec<u64> = gaps.iter().map(|gap| { at += gap + 1; at }).collect();
            let all = tally(&sequences);
            prop_assert_eq!(all.lost, gaps.iter().sum::<u64>());
            prop_assert_eq!(all.received + all.lost, all.next - sequences[0]);
        }

        #[test]
        fn a_shuffle_within_the_window_loses_nothing(
            order in Just((0_u64..60).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut sequences = vec![100];
            sequences.extend(order.iter().map(|n| n + 101));
            let all = tally(&sequences);
            prop_assert_eq!((all.lost, all.duplicated, all.received), (0, 0, 61));
        }
    }
}
