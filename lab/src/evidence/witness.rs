// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Watches a card's receive ring in the machine's memory, from outside, every millisecond and through the jump.
//!
//! A descriptor marked done is no proof: what counts is the frame in its buffer.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use hitless_proto::frame;
use hitless_proto::layout::{self, Landed, DESCRIPTOR, PAGE};
use hitless_proto::state::{State, SLOT};

use crate::evidence::worker::Worker;
use crate::machine::clock::{Clock, Ns, MS};
use crate::machine::ram::Ram;

/// After so long without a frame it looks behind the next descriptor: a card that met a fault skips some.
const QUIET: Ns = 50 * MS;

/// After so many corrupt descriptors there is no ring any more: the memory is somebody else's.
const HOPELESS: u64 = 1 << 16;

/// A frame in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landing {
    /// When it was seen, at most about a millisecond after it landed.
    pub at: Ns,
    /// Its number.
    pub sequence: u64,
    /// When it was sent.
    pub sent: Ns,
}

/// What has landed.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Frames with the right content, in the order of the ring.
    pub landings: Vec<Landing>,
    /// Descriptors marked done without such a frame.
    pub corrupt: u64,
    /// What is wrong with the first of them.
    pub first_corrupt: String,
    /// Descriptors that the card passed without marking them done.
    pub skipped: u64,
    /// From when to when every descriptor was used and none had been posted again.
    pub dry: Vec<(Ns, Ns)>,
    /// The longest time between two looks.
    pub blind: Ns,
}

impl Seen {
    /// Whether the ring was dry at some moment between two.
    pub fn was_dry(&self, from: Ns, to: Ns) -> bool {
        let mut spells = self.dry.iter();
        spells.any(|(since, until)| *since <= to && from <= *until)
    }
}

/// The ring of one card, looked at step by step.
#[derive(Debug)]
pub struct Watcher {
    ram: Ram,
    card: u8,
    ring: u32,
    /// Guest-physical addresses of the memfd's pages, in file order.
    pages: Vec<u64>,
    next: u32,
    last: Ns,
    /// When it last looked.
    looked: Option<Ns>,
    /// The ring was dry then.
    dry: bool,
    seen: Seen,
}

impl Watcher {
    /// Learns the memory's pages from the index that the guest wrote into it.
    pub fn new(ram: Ram, card: u8, ring: u32, index_pages: &[u64]) -> Result<Self> {
        ensure!(
            layout::ring_is_valid(ring),
            "a ring has no {ring} descriptors"
        );
        let wanted = usize::try_from(layout::memory_size(ring) / PAGE)?;
        let mut index = Vec::new();
        for page in index_pages.iter().skip(1) {
            let mut bytes = [0; PAGE as usize];
            ram.read(*page, &mut bytes).context("the index of pages")?;
            index.extend_from_slice(&bytes);
        }
        let page = |page| {
            layout::physical(&index, page * PAGE)
                .with_context(|| format!("the guest's index has no page {page} of {wanted}"))
        };
        let pages: Vec<u64> = (0..wanted as u64).map(page).collect::<Result<_>>()?;
        let distinct: HashSet<_> = pages.iter().collect();
        ensure!(
            distinct.len() == wanted,
            "the guest's index names a page twice"
        );
        Ok(Self {
            ram,
            card,
            ring,
            pages,
            next: 0,
            last: 0,
            looked: None,
            dry: false,
            seen: Seen::default(),
        })
    }

    /// The memory's pages.
    pub fn pages(&self) -> &[u64] {
        &self.pages
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> Option<()> {
        let page = *self.pages.get(usize::try_from(offset / PAGE).ok()?)?;
        self.ram.read(page + offset % PAGE, bytes).ok()
    }

    /// Looks once; returns how many frames were new.
    pub fn look(&mut self, now: Ns) -> usize {
        // Descriptors behind the tail are the guest's, whatever is written in them.
        let tail = self.tail();
        let mut count = 0;
        while Some(self.next) != tail && count < self.ring as usize {
            if self.seen.corrupt >= HOPELESS {
                return 0;
            }
            let Some(landed) = self.landed(self.next) else {
                break;
            };
            self.take(now, landed);
            count += 1;
        }
        self.note(now, count == 0 && Some(self.next) == tail);
        if count > 0 {
            self.last = now;
        } else if now.saturating_sub(self.last) > QUIET {
            self.last = now;
            self.skip(tail);
        }
        count
    }

    /// Notes when it looked, and whether no descriptor was left: a ring that was dry at both of two looks between which
    /// nothing landed was dry all the time.
    fn note(&mut self, now: Ns, dry: bool) {
        if let Some(before) = self.looked.replace(now) {
            self.seen.blind = self.seen.blind.max(now.saturating_sub(before));
        }
        match self.seen.dry.last_mut() {
            Some((_, until)) if dry && self.dry => *until = now,
            _ if dry => self.seen.dry.push((now, now)),
            _ => {}
        }
        self.dry = dry;
    }

    fn tail(&self) -> Option<u32> {
        let mut page = [0; 2 * SLOT];
        self.read(0, &mut page)?;
        State::decode(&page).ok().map(|state| state.tail)
    }

    fn landed(&self, index: u32) -> Option<Landed> {
        let mut descriptor = [0; DESCRIPTOR as usize];
        self.read(layout::descriptor(index), &mut descriptor)?;
        Landed::decode(&descriptor)
    }

    fn take(&mut self, now: Ns, landed: Landed) {
        let mut bytes = [0; layout::BUFFER as usize];
        let length = usize::from(landed.length).min(bytes.len());
        let bytes = &mut bytes[..length];
        let checked = match self.read(layout::buffer(self.next), bytes) {
            Some(()) => frame::check(bytes).map_err(|error| error.to_string()),
            None => Err("its buffer can not be read".to_owned()),
        };
        match checked {
            Ok(header) if header.card == self.card && landed.errors == 0 => {
                self.seen.landings.push(Landing {
                    at: now,
                    sequence: header.sequence,
                    sent: header.sent_ns,
                });
            }
            Ok(header) => self.corrupt(format!("{header:?}, {landed:?}")),
            Err(error) => self.corrupt(error),
        }
        self.advance();
    }

    fn corrupt(&mut self, what: String) {
        self.seen.corrupt += 1;
        if self.seen.corrupt == 1 {
            self.seen.first_corrupt = format!("descriptor {}: {what}", self.next);
        }
    }

    fn advance(&mut self) {
        self.next = (self.next + 1) % self.ring;
    }

    /// Goes to the first done descriptor among those that the card may have.
    fn skip(&mut self, tail: Option<u32>) {
        let Some(tail) = tail else { return };
        let posted = (tail + self.ring - self.next) % self.ring;
        let ahead = (0..posted).find(|step| self.landed((self.next + step) % self.ring).is_some());
        // Frames that land while this looks come one after the other: then the first is there by now.
        if self.landed(self.next).is_some() {
            return;
        }
        for _ in 0..ahead.unwrap_or(0) {
            self.seen.skipped += 1;
            self.advance();
        }
    }
}

/// A thread that looks every millisecond.
pub type Witness = Worker<Watcher>;

/// Begins to watch.
pub fn watch(watcher: Watcher, clock: Clock) -> Result<Witness> {
    Worker::start("witness", watcher, move |watcher| {
        watcher.look(clock.now());
        Duration::from_millis(1)
    })
}

impl Witness {
    /// Frames so far, wrong ones not included.
    pub fn count(&self) -> u64 {
        self.lock().seen.landings.len() as u64
    }

    /// The last frame that landed.
    pub fn last(&self) -> Option<Landing> {
        self.lock().seen.landings.last().copied()
    }

    /// What has landed so far.
    pub fn seen(&self) -> Seen {
        self.lock().seen.clone()
    }

    /// Waits until frame `sequence` has landed, at most so long; whether it has.
    pub fn wait_for(&self, sequence: u64, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            if self.last().is_some_and(|last| last.sequence >= sequence) {
                return true;
            }
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::pretend::{Pretend, RING};

    fn watcher(card: &Pretend) -> Watcher {
        let (ram, pages) = card.seen();
        Watcher::new(ram, 1, RING, pages).expect("a good index")
    }

    fn sequences(watcher: &Watcher) -> Vec<u64> {
        let landings = watcher.seen.landings.iter();
        landings.map(|landing| landing.sequence).collect()
    }

    #[test]
    fn frames_are_seen_when_they_land_and_a_done_bit_without_one_is_corrupt() {
        let mut card = Pretend::new();
        let mut watcher = watcher(&card);
        assert_eq!(watcher.look(1), 0);
        card.land(&Pretend::frame(1, 0));
        card.land(&Pretend::frame(1, 1));
        assert_eq!((watcher.look(7), watcher.look(8)), (2, 0));
        let second = Landing {
            at: 7,
            sequence: 1,
            sent: 1,
        };
        assert_eq!(watcher.seen.landings[1], second);
        card.done();
        card.land(&Pretend::frame(2, 2));
        let mut damaged = Pretend::frame(1, 3);
        damaged[100] ^= 1;
        card.land(&damaged);
        card.land(&Pretend::frame(1, 4));
        watcher.look(9);
        assert_eq!(watcher.seen.corrupt, 3);
        assert!(watcher.seen.first_corrupt.starts_with("descriptor 2: "));
        assert_eq!(sequences(&watcher), [0, 1, 4]);
    }

    #[test]
    fn an_exhausted_ring_is_not_read_twice() {
        let mut card = Pretend::new();
        let mut watcher = watcher(&card);
        for sequence in 0..u64::from(RING) - 1 {
            card.land(&Pretend::frame(1, sequence));
        }
        for now in 0..3 {
            watcher.look(now * 1000 * MS);
        }
        assert_eq!(watcher.seen.landings.len(), RING as usize - 1);
        assert_eq!(watcher.seen.dry, [(1000 * MS, 2000 * MS)]);
        assert_eq!(watcher.seen.blind, 1000 * MS);
        // The guest posts some again: the ring goes on.
        card.write(layout::descriptor(RING - 1), &layout::posted(0));
        card.write(layout::descriptor(0), &layout::posted(0));
        card.tail(2, 1);
        card.land(&Pretend::frame(1, 63));
        card.land(&Pretend::frame(1, 64));
        assert_eq!(watcher.look(9000 * MS), 2);
        assert_eq!((watcher.next, watcher.seen.skipped), (1, 0));
        assert_eq!(watcher.seen.dry.len(), 1, "it was posted to meanwhile");
        assert!(watcher.seen.was_dry(0, 1000 * MS) && !watcher.seen.was_dry(2001 * MS, 9000 * MS));
    }

    #[test]
    fn descriptors_that_the_card_skipped_are_passed_after_a_while() {
        let mut card = Pretend::new();
        let mut watcher = watcher(&card);
        card.land(&Pretend::frame(1, 0));
        card.pass();
        card.pass();
        card.land(&Pretend::frame(1, 3));
        for now in [1, 2, 2 + 2 * QUIET] {
            watcher.look(now);
        }
        assert_eq!(sequences(&watcher), [0]);
        watcher.look(3 + 2 * QUIET);
        assert_eq!(sequences(&watcher), [0, 3]);
        assert_eq!(watcher.seen.skipped, 2);
    }

    #[test]
    fn memory_that_is_somebody_elses_is_given_up() {
        let card = Pretend::new();
        let mut watcher = watcher(&card);
        // Every bit set: each descriptor looks done, and there is no tail.
        let (from, to) = (layout::descriptor(0), layout::descriptor(RING));
        let all = vec![0xff; usize::try_from(to - from).expect("a size")];
        card.write(from, &all);
        card.write(0, &[0xff; PAGE as usize]);
        let looks = (0..2 * HOPELESS).take_while(|now| watcher.look(*now) > 0);
        assert!(looks.count() > 1);
        assert_eq!(watcher.seen.corrupt, HOPELESS);
        assert_eq!(watcher.seen.landings, []);
    }

    #[test]
    fn an_index_that_was_not_written_is_refused() {
        let card = Pretend::new();
        card.write(layout::INDEX + 16, &[0; 8]);
        let (ram, pages) = card.seen();
        assert!(Watcher::new(ram, 1, RING, pages).is_err());
    }
}
