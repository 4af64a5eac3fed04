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
use std::thread::JoinHandle;

use anyhow::{anyhow, Context, Result};
use hitless_proto::frame;
use hitless_proto::layout::{BUFFER, PAGE};
use memchr::memmem;

use crate::machine::clock::{Clock, Ns};
use crate::machine::priority::hurry;
use crate::machine::ram::Ram;

/// Bytes read at a time, a multiple of a page.
const PIECE: usize = 4 << 20;
/// Where the ethertype stands in a frame.
const ETHERTYPE_AT: usize = 12;
/// Bytes from the start of a frame that are looked at.
const HEAD: usize = 40;

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

/// What a search has found.
#[derive(Debug)]
pub struct Found {
    /// Frames where none may be.
    pub strays: BTreeSet<Stray>,
    /// How long it took.
    pub took: Ns,
}

/// A search that goes on beside everything else.
#[derive(Debug)]
pub struct Search(JoinHandle<Result<Found>>);

impl Search {
    /// Begins.
    pub fn start(ram: Ram, allowed: Allowed, clock: Clock) -> Result<Self> {
        let thread = std::thread::Builder::new()
            .name("search".to_owned())
            .spawn(move || {
                // The ring is served by nobody while this is waited for.
                hurry();
                let from = clock.now();
                let strays = search(&ram, &allowed)?;
                Ok(Found {
                    strays,
                    took: clock.now() - from,
                })
            })
            .context("no thread for the search")?;
        Ok(Self(thread))
    }

    /// Waits for its end.
    pub fn join(self) -> Result<Found> {
        self.0
            .join()
            .unwrap_or_else(|_| Err(anyhow!("the search of the machine's memory panicked")))
    }
}

/// Looks through everything.
fn search(ram: &Ram, allowed: &Allowed) -> Result<BTreeSet<Stray>> {
    let mut needle = frame::ETHERTYPE.to_be_bytes().to_vec();
    needle.extend_from_slice(&frame::MAGIC.to_le_bytes());
    let finder = memmem::Finder::new(&needle);
    let mut strays = BTreeSet::new();
    let mut bytes = vec![0; PIECE];
    let mut offset = 0;
    loop {
        let unreadable = "the machine's memory can not be searched";
        offset = ram.written_from(offset).context(unreadable)?;
        if offset >= ram.size() {
            return Ok(strays);
        }
        let count = ram.piece(offset, &mut bytes).context(unreadable)?;
        let piece = &bytes[..count];
        for at in finder.find_iter(piece) {
            // A frame starts at a multiple of 2 KiB and pieces are whole pages, so none crosses their border.
            let Some(start) = at.checked_sub(ETHERTYPE_AT) else {
                continue;
            };
            let Some(head) = piece.get(start..start + HEAD) else {
                continue;
            };
            let physical = offset + start as u64;
            let mut sequence = [0; 8];
            sequence.copy_from_slice(&head[24..32]);
            let stray = Stray {
                physical,
                card: head[18],
                sequence: u64::from_le_bytes(sequence),
            };
            if physical % BUFFER == 0 && is_stray(&stray, allowed) {
                strays.insert(stray);
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

    fn found(pretend: &Pretend) -> Vec<(u64, u8, u64)> {
        let (ram, index) = pretend.seen();
        let watcher = Watcher::new(ram.clone(), 1, RING, index).expect("a good index");
        let allowed = Allowed {
            cards: [1, 2],
            pages: watcher.pages().iter().copied().collect(),
            second_card_before: 10,
        };
        search(&ram, &allowed)
            .expect("readable")
            .iter()
            .map(|stray| (stray.physical, stray.card, stray.sequence))
            .collect()
    }

    #[test]
    fn frames_in_their_own_memory_are_no_strays() {
        let mut pretend = Pretend::new();
        for sequence in 0..20 {
            pretend.land(&Pretend::frame(1, sequence));
        }
        assert_eq!(found(&pretend), []);
    }

    #[test]
    fn a_frame_outside_of_it_is_one() {
        let pretend = Pretend::new();
        pretend
            .file
            .write_all_at(&Pretend::frame(1, 3), 2048)
            .expect("written");
        // A copy that starts where no card writes.
        pretend
            .file
            .write_all_at(&Pretend::frame(1, 3), 8192 + 16)
            .expect("written");
        assert_eq!(found(&pretend), [(2048, 1, 3)]);
    }

    #[test]
    fn the_second_card_may_not_write_after_the_jump_not_even_into_the_firsts_memory() {
        let mut pretend = Pretend::new();
        pretend
            .file
            .write_all_at(&Pretend::frame(2, 9), 0)
            .expect("written");
        assert_eq!(found(&pretend), []);
        pretend.land(&Pretend::frame(2, 10));
        assert_eq!(found(&pretend).len(), 1);
    }
}
