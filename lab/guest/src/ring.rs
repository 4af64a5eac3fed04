// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The receive ring: what the card wrote is taken, checked and counted, and its descriptors are posted again.
//!
//! Descriptors from `next` up to, but not including, `tail` belong to the card. Those from `tail` to `next` have been
//! harvested and are held back for a while, so that a watcher outside can read them too.

use std::sync::Arc;

use anyhow::{ensure, Context, Result};
use hitless_proto::layout::{self, Landed};
use hitless_proto::state::{self, State};
use hitless_proto::{frame, Bdf};
use hitless_uapi::Mapping;

use crate::igb::Igb;

/// How far aside a copy of a frame is put.
const ASIDE: usize = 64;

/// Descriptors are posted in batches of at least so many: each batch is a register write, which costs an exit.
const BATCH: u32 = 32;
/// Frames that were wrong are printed up to this number.
const PRINTED: u64 = 5;

/// A card's ring in the memory it shares with the card.
#[derive(Debug)]
pub(crate) struct Ring {
    memory: Arc<Mapping>,
    state: State,
    buffer: Vec<u8>,
    /// Where frames go, if not to their buffers. The next kernel's program knows nothing of it.
    aim: Option<u64>,
}

impl Ring {
    /// An empty ring in fresh memory, all descriptors but one ready to be posted.
    pub(crate) fn create(
        memory: Arc<Mapping>,
        card: u8,
        bdf: Bdf,
        descriptors: u32,
        iova: u64,
    ) -> Self {
        let state = State {
            card,
            bdf: bdf.number(),
            ring: descriptors,
            iova,
            tail: descriptors - 1,
            ..State::default()
        };
        let mut ring = Self::new(memory, state);
        for index in 0..descriptors {
            ring.write_descriptor(index);
        }
        // So that both slots are whole from now on.
        ring.store();
        ring.store();
        ring
    }

    /// The ring that the previous kernel's guest program left in the memory.
    pub(crate) fn find(memory: Arc<Mapping>) -> Result<Self> {
        let mut page = [0; 2 * state::SLOT];
        let length = memory.length();
        ensure!(
            length >= layout::PAGE,
            "the memory has {length} bytes: not a card's"
        );
        memory.copy_out(0, &mut page);
        let state = State::decode(&page)
            .context("looking for the harvest state in the retrieved memory")?;
        let expected = layout::memory_size(state.ring);
        ensure!(
            length == expected,
            "the memory has {length} bytes, where a ring of {} descriptors has {expected}",
            state.ring
        );
        Ok(Self::new(memory, state))
    }

    fn new(memory: Arc<Mapping>, state: State) -> Self {
        Self {
            memory,
            state,
            buffer: vec![0; layout::BUFFER as usize + ASIDE],
            aim: None,
        }
    }

    /// How it stands.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Where the card sees the ring.
    pub(crate) fn iova(&self) -> u64 {
        self.state.iova + layout::RING
    }

    /// Takes what has landed, at most `limit` descriptors; returns how many.
    pub(crate) fn harvest(&mut self, limit: u32) -> u32 {
        let mut count = 0;
        while count < limit && self.state.next != self.state.tail {
            let Some(landed) = self.landed(self.state.next) else {
                break;
            };
            self.take(landed);
            count += 1;
        }
        if count > 0 {
            self.store();
        }
        count
    }

    fn landed(&self, index: u32) -> Option<Landed> {
        let mut descriptor = [0; layout::DESCRIPTOR as usize];
        self.memory
            .copy_out(layout::descriptor(index), &mut descriptor);
        Landed::decode(&descriptor)
    }

    fn take(&mut self, landed: Landed) {
        // Where the search for stray frames looks, at multiples of a buffer's size, no copy may lie.
        let at_multiple = self.buffer.as_ptr().addr() % layout::BUFFER as usize == 0;
        let bytes = &mut self.buffer[if at_multiple { ASIDE } else { 0 }..];
        let length = usize::from(landed.length).min(bytes.len());
        let bytes = &mut bytes[..length];
        self.memory.copy_out(layout::buffer(self.state.next), bytes);
        let checked = if landed.end_of_packet && landed.errors == 0 {
            frame::check(bytes)
        } else {
            Err(frame::Error::NotOurs)
        };
        let tally = &mut self.state.tally;
        let is_next = checked.is_ok_and(|header| header.sequence == tally.next);
        tally.count(self.state.card, &checked);
        let wrong = tally.lost + tally.duplicated + tally.reordered + tally.corrupt;
        if !is_next && (1..=PRINTED).contains(&wrong) {
            eprintln!(
                "guest: card {}, descriptor {}: {landed:?}, {checked:?}, next expected {}",
                self.state.card, self.state.next, tally.next
            );
        }
        self.state.next = self.after(self.state.next, 1);
    }

    /// Counts descriptors that the card has passed without marking them done: what a translation fault leaves
    /// behind. To be called when nothing has landed for a while. Returns how many.
    pub(crate) fn skip_holes(&mut self, head: u32) -> u32 {
        let mut count = 0;
        let posted = self.distance(self.state.next, self.state.tail);
        let used = self.distance(self.state.next, head);
        // A head outside of what was posted is not to be believed: the card was reset.
        while used <= posted && count < used && self.landed(self.state.next).is_none() {
            self.state.tally.corrupt += 1;
            self.state.next = self.after(self.state.next, 1);
            count += 1;
        }
        if count > 0 {
            eprintln!(
                "guest: card {}: the card skipped {count} descriptors",
                self.state.card
            );
            self.store();
        }
        count
    }

    /// Posts again what has been held back long enough.
    pub(crate) fn repost(&mut self, card: &Igb) {
        // The descriptor at `tail` always stays with us: a full ring would look like an empty one.
        let held = self.distance(self.after(self.state.tail, 1), self.state.next);
        let due = held.saturating_sub(layout::repost_lag(self.state.ring));
        if due < BATCH.min(self.state.ring / 8) {
            return;
        }
        for step in 0..due {
            self.write_descriptor(self.after(self.state.tail, step));
        }
        self.state.tail = self.after(self.state.tail, due);
        card.post(self.state.tail);
        self.store();
    }

    /// Takes up again after a jump. The card knows best which descriptors it has.
    pub(crate) fn resume(&mut self, card: &Igb) -> Result<()> {
        card.check(self.iova(), self.state.ring)?;
        let tail = card.tail();
        ensure!(
            tail < self.state.ring,
            "the card's tail register says {tail}, in a ring of {}",
            self.state.ring
        );
        if tail != self.state.tail {
            eprintln!(
                "guest: card {}: tail {} in memory, {tail} in the card",
                self.state.card, self.state.tail
            );
            self.state.tail = tail;
        }
        self.store();
        Ok(())
    }

    /// Frames go to an address from now on, those for which descriptors have been posted, too.
    pub(crate) fn aim(&mut self, address: u64) {
        self.aim = Some(address);
        let mut index = self.state.next;
        while index != self.state.tail {
            // Only the address: the card may be writing the rest.
            self.memory.write_u64(layout::descriptor(index), address);
            index = self.after(index, 1);
        }
    }

    fn write_descriptor(&self, index: u32) {
        let own = self.state.iova + layout::buffer(index);
        let buffer = self.aim.unwrap_or(own);
        self.memory
            .copy_in(layout::descriptor(index), &layout::posted(buffer));
    }

    fn store(&mut self) {
        self.state.generation += 1;
        let (offset, slot) = self.state.encode();
        self.memory.copy_in(offset as u64, &slot);
    }

    fn after(&self, index: u32, steps: u32) -> u32 {
        (index + steps) % self.state.ring
    }

    /// Steps from one descriptor forward to another, 0 when they are the same.
    fn distance(&self, from: u32, to: u32) -> u32 {
        (to + self.state.ring - from) % self.state.ring
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::igb::pretend;

    const RING: u32 = 64;
    const IOVA: u64 = 0x10_0000_0000;

    /// A card that lands frames where its descriptors say, as far as they are posted.
    struct Pretend {
        memory: Arc<Mapping>,
        card: Igb,
        head: u32,
    }

    impl Pretend {
        fn new() -> (Self, Ring) {
            let memory = Arc::new(Mapping::anonymous(layout::memory_size(RING)).expect("memory"));
            let bdf = Bdf::from_number(0x100);
            let ring = Ring::create(Arc::clone(&memory), 1, bdf, RING, IOVA);
            let (card, head) = (pretend::card(), 0);
            card.post(RING - 1);
            (Self { memory, card, head }, ring)
        }

        /// Lands a frame; the sequence number is the caller's.
        fn land(&mut self, sequence: u64) {
            let address = self.memory.read_u64(layout::descriptor(self.head));
            let mut bytes = [0; 256];
            frame::build(&mut bytes, [1; 6], [2; 6], 1, sequence, 0).expect("a length");
            self.memory.copy_in(address - IOVA, &bytes);
            self.say_done();
        }

        /// Marks a descriptor done, whatever is in its buffer.
        fn say_done(&mut self) {
            let status = layout::descriptor(self.head) + 8;
            self.memory.write_u64(status, 256 << 32 | 3);
            self.pass();
        }

        fn pass(&mut self) {
            assert_ne!(self.head, self.card.tail(), "no descriptor is posted");
            self.head = (self.head + 1) % RING;
            pretend::set_head(&self.card, self.head);
        }
    }

    fn counts(ring: &Ring) -> [u64; 3] {
        let tally = ring.state().tally;
        [tally.received, tally.corrupt, tally.lost]
    }

    #[test]
    fn frames_go_round_the_ring_many_times_and_until_it_is_dry() {
        let (mut card, mut ring) = Pretend::new();
        let round = 10 * u64::from(RING);
        for sequence in 0..round {
            card.land(sequence);
            if sequence % 7 == 0 {
                ring.harvest(u32::MAX);
                ring.repost(&card.card);
            }
        }
        // What was harvested is not taken twice when nothing is posted again.
        let mut all = round;
        while card.head != card.card.tail() {
            card.land(all);
            all += 1;
        }
        for _ in 0..3 {
            ring.harvest(u32::MAX);
        }
        assert_eq!(counts(&ring), [all, 0, 0]);
        assert!(ring.state().tally.is_clean(), "{:?}", ring.state());
    }

    #[test]
    fn the_next_kernels_program_goes_on_where_this_one_stopped() {
        let (mut card, mut ring) = Pretend::new();
        (0..20).for_each(|sequence| card.land(sequence));
        ring.harvest(u32::MAX);
        drop(ring);
        (20..40).for_each(|sequence| card.land(sequence));
        let mut found = Ring::find(Arc::clone(&card.memory)).expect("the state");
        assert_eq!(found.harvest(u32::MAX), 20);
        assert_eq!(counts(&found), [40, 0, 0]);
    }

    #[test]
    fn what_the_card_skipped_or_did_not_fill_is_corrupt() {
        let (mut card, mut ring) = Pretend::new();
        card.land(0);
        card.pass();
        card.land(1);
        card.say_done();
        assert_eq!(ring.harvest(u32::MAX), 1);
        assert_eq!(ring.skip_holes(card.card.head()), 1);
        assert_eq!(ring.harvest(u32::MAX), 2);
        assert_eq!(counts(&ring), [2, 2, 0]);
    }

    #[test]
    fn memory_of_another_size_is_refused() {
        let (_, ring) = Pretend::new();
        let (offset, slot) = ring.state().encode();
        for size in [4096, layout::memory_size(2 * RING)] {
            let other = Arc::new(Mapping::anonymous(size).expect("memory"));
            other.copy_in(offset as u64, &slot);
            assert!(Ring::find(other).is_err());
        }
    }
}
