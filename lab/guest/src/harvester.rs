// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The thread that keeps a card's ring going while orders are obeyed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::igb::Igb;
use crate::ring::Ring;

/// How many descriptors are taken before somebody else may look at the ring.
const BATCH: u32 = 256;
/// The pause when nothing has landed.
const PAUSE: Duration = Duration::from_millis(1);
/// After so long without a frame, descriptors that the card skipped are looked for.
const QUIET: Duration = Duration::from_millis(100);

/// A ring that several threads look at.
pub(crate) type SharedRing = Arc<Mutex<Ring>>;

/// Looks at a ring, also after a thread panicked with it: the panic has been reported and the power is going.
pub(crate) fn with<T>(ring: &SharedRing, look: impl FnOnce(&mut Ring) -> T) -> T {
    look(&mut ring.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The thread; it stops at drop.
#[derive(Debug)]
pub(crate) struct Harvester {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Harvester {
    /// Starts it.
    pub(crate) fn start(ring: SharedRing, card: Igb) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("harvester".to_owned())
            .spawn(move || run(&stopped, &ring, &card))
            .context("starting the thread that harvests")?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Harvester {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported by the hook.
            let _ = thread.join();
        }
    }
}

fn run(stop: &AtomicBool, ring: &SharedRing, card: &Igb) {
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let count = with(ring, |ring| {
            let count = ring.harvest(BATCH);
            ring.repost(card);
            count
        });
        if count > 0 {
            last = Instant::now();
        } else if last.elapsed() > QUIET {
            with(ring, |ring| ring.skip_holes(card.head()));
            last = Instant::now();
        }
        if count < BATCH {
            std::thread::sleep(PAUSE);
        }
    }
}
