// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A machine's memory with a card's memory in it, its pages not in order.

use std::fs::File;
use std::os::unix::fs::FileExt;

use hitless_proto::frame;
use hitless_proto::layout::{self, PAGE};
use hitless_proto::state::State;

use crate::machine::ram::Ram;

/// Descriptors.
pub(crate) const RING: u32 = 64;
/// Bytes of memory.
const SIZE: u64 = 8 << 20;

/// The memory, writable.
pub(crate) struct Pretend {
    /// The file behind it.
    pub(crate) file: File,
    pages: Vec<u64>,
    head: u32,
}

impl Pretend {
    /// Empty memory with an index and a state.
    pub(crate) fn new() -> Self {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(SIZE).expect("a size");
        let count = layout::memory_size(RING) / PAGE;
        // Every second page from the top down.
        let pages: Vec<u64> = (0..count).map(|n| SIZE - (2 * n + 1) * PAGE).collect();
        let head = 0;
        let pretend = Self { file, pages, head };
        for (number, page) in pretend.pages.iter().enumerate() {
            pretend.write(layout::INDEX + 8 * number as u64, &page.to_le_bytes());
        }
        pretend.tail(1, RING - 1);
        pretend
    }

    /// Writes into the card's memory; returns at what physical address that is.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> u64 {
        let page = self.pages[usize::try_from(offset / PAGE).expect("small")];
        let at = page + offset % PAGE;
        self.file.write_all_at(bytes, at).expect("written");
        at
    }

    /// The guest stores its state.
    pub(crate) fn tail(&self, generation: u64, tail: u32) {
        let state = State {
            generation,
            card: 1,
            ring: RING,
            tail,
            ..State::default()
        };
        let (offset, slot) = state.encode();
        self.write(offset as u64, &slot);
    }

    /// The memory as the lab sees it, and where in it the index is.
    pub(crate) fn seen(&self) -> (Ram, &[u64]) {
        let ram = Ram::new(self.file.try_clone().expect("a duplicate"), SIZE);
        let pages = usize::try_from(layout::index_pages(RING)).expect("small");
        (ram, &self.pages[..pages])
    }

    /// A frame's bytes.
    pub(crate) fn frame(card: u8, sequence: u64) -> [u8; 256] {
        let mut bytes = [0; 256];
        frame::build(&mut bytes, [1; 6], [2; 6], card, sequence, sequence).expect("a length");
        bytes
    }

    /// The card lands these bytes; returns at what physical address that is.
    pub(crate) fn land(&mut self, bytes: &[u8]) -> u64 {
        let at = self.write(layout::buffer(self.head), bytes);
        self.done();
        at
    }

    /// The card marks a descriptor done, with 256 bytes.
    pub(crate) fn done(&mut self) {
        let words = [0, 0, 0x0000_0003, 0x0000_0100].map(u32::to_le_bytes);
        self.write(layout::descriptor(self.head), words.as_flattened());
        self.pass();
    }

    /// The card goes to the next descriptor.
    pub(crate) fn pass(&mut self) {
        self.head = (self.head + 1) % RING;
    }
}
