// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Watches a card's receive ring in the machine's memory, from outside, every millisecond and through the jump.
//!
//! A descriptor marked done is no proof: what counts is the frame in its buffer.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};
use hitless_proto::frame;
use hitless_proto::layout::{self, Landed, DESCRIPTOR, PAGE};
use hitless_proto::state::{State, SLOT};

use crate::machine::clock::{Clock, Ns, MS};
use crate::machine::priority::hurry;
use crate::machine::ram::Ram;

/// After so long without a frame it looks behind the next descriptor: a card that met a fault skips some.
const QUIET: Ns = 50 * MS;

/// After so many corrupt descriptors there is no ring any more: the memory is somebody else's.
const HOPELESS: usize = 1 << 16;

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
    /// Descriptors marked done without such a frame: when, and what is wrong.
    pub corrupt: Vec<(Ns, String)>,
    /// Descriptors that the card passed without marking them done.
    pub skipped: u64,
    /// How often the ring was gone round.
    pub laps: u64,
    /// From when to when every descriptor was used and none had been posted again.
    pub dry: Vec<(Ns, Ns)>,
    /// The longest time between two looks.
    pub blind: Ns,
}

impl Seen {
    /// Whether the ring was dry at some moment between two.
    pub fn was_dry(&self, from: Ns, to: Ns) -> bool {
        self.dry
            .iter()
            .any(|(since, until)| *since <= to && from <= *until)
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
        let mut pages = Vec::with_capacity(wanted);
        for page in 0..wanted as u64 {
            let Some(physical) = layout::physical(&index, page * PAGE) else {
                bail!("the guest's index has no page {page} of {wanted}");
            };
            pages.push(physical);
        }
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
            if self.seen.corrupt.len() >= HOPELESS {
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
            Ok(header) => self.corrupt(now, &format!("{header:?}, {landed:?}")),
            Err(error) => self.corrupt(now, &error),
        }
        self.advance();
    }

    fn corrupt(&mut self, now: Ns, what: &str) {
        self.seen
            .corrupt
            .push((now, format!("descriptor {}: {what}", self.next)));
    }

    fn advance(&mut self) {
        self.next += 1;
        if self.next == self.ring {
            self.next = 0;
            self.seen.laps += 1;
        }
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
#[derive(Debug)]
pub struct Witness {
    watcher: Arc<Mutex<Watcher>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    /// Begins to watch.
    pub fn start(watcher: Watcher, clock: Clock) -> Result<Self> {
        let watcher = Arc::new(Mutex::new(watcher));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new()
            .name("witness".to_owned())
            .spawn({
                let (watcher, stop) = (Arc::clone(&watcher), Arc::clone(&stop));
                move || {
                    hurry();
                    while !stop.load(Ordering::Relaxed) {
                        lock(&watcher).look(clock.now());
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            })
            .context("no thread for the witness")?;
        Ok(Self {
            watcher,
            stop,
            thread: Some(thread),
        })
    }

    /// Frames so far, wrong ones not included.
    pub fn count(&self) -> u64 {
        lock(&self.watcher).seen.landings.len() as u64
    }

    /// When the last frame landed.
    pub fn last(&self) -> Option<Landing> {
        lock(&self.watcher).seen.landings.last().copied()
    }

    /// What has landed so far.
    pub fn seen(&self) -> Seen {
        lock(&self.watcher).seen.clone()
    }

    /// The memory's pages.
    pub fn pages(&self) -> Vec<u64> {
        lock(&self.watcher).pages().to_vec()
    }

    /// Waits until frame `sequence` has landed, at most so long; whether it has.
    pub fn wait_for(&self, sequence: u64, limit: Duration) -> bool {
        let end = std::time::Instant::now() + limit;
        loop {
            if self.last().is_some_and(|last| last.sequence >= sequence) {
                return true;
            }
            if std::time::Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn lock(watcher: &Mutex<Watcher>) -> MutexGuard<'_, Watcher> {
    watcher.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed.
            let _ = thread.join();
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
        watcher
            .seen
            .landings
            .iter()
            .map(|landing| landing.sequence)
            .collect()
    }

    #[test]
    fn frames_are_seen_when_they_land() {
        let mut card = Pretend::new();
        let mut watcher = watcher(&card);
        assert_eq!(watcher.look(1), 0);
        card.land(&Pretend::frame(1, 0));
        card.land(&Pretend::frame(1, 1));
        assert_eq!((watcher.look(7), watcher.look(8)), (2, 0));
        assert_eq!(sequences(&watcher), [0, 1]);
        assert_eq!(
            watcher.seen.landings[1],
            Landing {
                at: 7,
                sequence: 1,
                sent: 1
            }
        );
    }

    #[test]
    fn a_done_bit_without_a_payload_is_corrupt() {
        let mut card = Pretend::new();
        let mut watcher = watcher(&card);
        card.done(256);
        card.land(&Pretend::frame(2, 0));
        let mut damaged = Pretend::frame(1, 1);
        damaged[100] ^= 1;
        card.land(&damaged);
        card.land(&Pretend::frame(1, 2));
        watcher.look(1);
        assert_eq!(watcher.seen.corrupt.len(), 3);
        assert_eq!(sequences(&watcher), [2]);
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
        card.post(RING - 1);
        card.post(0);
        card.tail(2, 1);
        card.land(&Pretend::frame(1, 63));
        card.land(&Pretend::frame(1, 64));
        assert_eq!(watcher.look(9000 * MS), 2);
        assert_eq!((watcher.seen.laps, watcher.seen.skipped), (1, 0));
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
        watcher.look(1);
        watcher.look(2);
        assert_eq!(sequences(&watcher), [0]);
        watcher.look(2 + 2 * QUIET);
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
        for now in 0..2 * HOPELESS as u64 {
            if watcher.look(now) == 0 {
                break;
            }
        }
        assert_eq!(watcher.seen.corrupt.len(), HOPELESS);
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
