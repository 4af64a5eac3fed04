// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Searches all of the machine's memory for frames where none may be.
//!
//! A card writes a frame to the start of a buffer, and buffers start at multiples of 2 KiB. Copies that the guest's
//! processor made while it checked frames start elsewhere and are not meant.
//!
//! What is found are heads of whole frames. Not found are the sixteen bytes that a card writes into a descriptor, and a
//! frame that somebody has overwritten since: so a search is made before a new kernel's memory is filled. What its boot
//! has used before that is out of reach; of the second card's own memory a witness knows.

use std::collections::{BTreeSet, HashSet};
use std::iter::zip;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use hitless_proto::frame;
use hitless_proto::layout::{BUFFER, PAGE};

use crate::machine::clock::{Clock, Ns};
use crate::machine::priority::hurry;
use crate::machine::ram::Ram;

/// Bytes read at a time, a multiple of a page.
const PIECE: usize = 4 << 20;
/// Where frames may be.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    /// The numbers of the card that is preserved and of the other one.
    pub cards: [u8; 2],
    /// Pages of the first card's memory: its frames may be there and nowhere else.
    pub pages: HashSet<u64>,
    /// The first sequence number of the second card that may not be anywhere: those before were sent while it was
    /// still in use.
    pub second_card_before: u64,
}

/// A frame where none may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stray {
    /// Guest-physical address.
    pub physical: u64,
    /// The card it was sent to.
    pub card: u8,
    /// Its number.
    pub sequence: u64,
}

/// A search that goes on beside everything else: what it finds, and how long it took.
pub type Search = JoinHandle<Result<(BTreeSet<Stray>, Ns)>>;

/// Begins to search.
pub fn begin(ram: Ram, allowed: Allowed, clock: Clock) -> Search {
    std::thread::spawn(move || {
        // The ring is served by nobody while this is waited for.
        hurry();
        let from = clock.now();
        let strays = search(&ram, &allowed)?;
        Ok((strays, clock.now() - from))
    })
}

/// Looks at everything that was ever written.
fn search(ram: &Ram, allowed: &Allowed) -> Result<BTreeSet<Stray>> {
    let unreadable = "the machine's memory can not be searched";
    let (ethertype, magic) = (frame::ETHERTYPE.to_be_bytes(), frame::MAGIC.to_le_bytes());
    let mut strays = BTreeSet::new();
    let mut bytes = vec![0; PIECE];
    let mut offset = 0;
    loop {
        offset = ram.written_from(offset).context(unreadable)?;
        if offset >= ram.size() {
            return Ok(strays);
        }
        let count = ram.piece(offset, &mut bytes).context(unreadable)?;
        let starts = (offset..).step_by(BUFFER as usize);
        for (start, buffer) in zip(starts, bytes[..count].chunks_exact(BUFFER as usize)) {
            if buffer[12..14] == ethertype && buffer[14..18] == magic {
                let mut sequence = [0; 8];
                sequence.copy_from_slice(&buffer[24..32]);
                let stray = Stray {
                    physical: start,
                    card: buffer[18],
                    sequence: u64::from_le_bytes(sequence),
                };
                if is_stray(&stray, allowed) {
                    strays.insert(stray);
                }
            }
        }
        offset += count as u64;
    }
}

fn is_stray(stray: &Stray, allowed: &Allowed) -> bool {
    let [first, second] = allowed.cards;
    match stray.card {
        card if card == first => !allowed.pages.contains(&(stray.physical / PAGE * PAGE)),
        card if card == second => stray.sequence >= allowed.second_card_before,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::pretend::{Pretend, RING};
    use crate::evidence::witness::Watcher;
    use std::os::unix::fs::FileExt;

    #[test]
    fn only_frames_where_none_may_be_are_found() {
        let mut pretend = Pretend::new();
        let expect = |pretend: &Pretend, expected: &[(u64, u8, u64)]| {
            let (ram, index) = pretend.seen();
            let watcher = Watcher::new(ram.clone(), 1, RING, index).expect("a good index");
            let allowed = Allowed {
                cards: [1, 2],
                pages: watcher.pages().iter().copied().collect(),
                second_card_before: 10,
            };
            let found = search(&ram, &allowed).expect("readable");
            let found = found.iter().map(|it| (it.physical, it.card, it.sequence));
            assert!(found.eq(expected.iter().copied()), "{expected:?}");
        };
        let write = |pretend: &Pretend, frame: [u8; 256], at| {
            pretend.file.write_all_at(&frame, at).expect("written");
        };
        for sequence in 0..20 {
            pretend.land(&Pretend::frame(1, sequence));
        }
        // A copy that starts where no card writes, and what the second card received before the jump.
        write(&pretend, Pretend::frame(1, 3), 8192 + 16);
        write(&pretend, Pretend::frame(2, 9), 0);
        expect(&pretend, &[]);
        write(&pretend, Pretend::frame(1, 3), 2048);
        expect(&pretend, &[(2048, 1, 3)]);
        // After the jump the second card may write nowhere, not even into the first one's memory.
        let at = pretend.land(&Pretend::frame(2, 10));
        expect(&pretend, &[(2048, 1, 3), (at, 2, 10)]);
    }
}
