// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The search for frames where none may be: the same for the demo and for the tests.

use std::collections::HashSet;

use anyhow::{anyhow, Result};

use crate::evidence::stray::{begin, Allowed};
use crate::machine::clock::{as_ms, Ns};
use crate::play::scene::Scene;

impl Scene {
    /// From when on nothing that is sent to the second card may land anywhere.
    fn second_card_until(&self) -> Option<Ns> {
        let jump = self.evidence.jumps.first()?;
        Some(if self.plan.second_goes_on {
            jump.entry.unwrap_or(jump.hello)
        } else {
            jump.leave
        })
    }

    /// Where frames may be at this moment of the run.
    fn allowed(&self) -> Allowed {
        let [first, second] = &self.traffic;
        let second_card_before = match (second, self.second_card_until()) {
            (Some(second), Some(until)) => second.generator.lock().first_after(until),
            _ => u64::MAX,
        };
        let witness = first.as_ref().map(|first| first.witness.lock());
        let pages = witness.iter().flat_map(|witness| witness.pages());
        Allowed {
            cards: [self.first.number, self.second.number],
            pages: pages.copied().collect(),
            second_card_before,
        }
    }

    /// Begins to search the machine's memory, beside what else is done. What is still searched is waited for.
    pub fn begin_search(&mut self) -> Result<()> {
        self.end_search()?;
        let ram = self.machine.ram.clone();
        self.search = Some(begin(ram, self.allowed(), self.machine.clock));
        Ok(())
    }

    /// Waits for the search that goes on, if one does: before anything overwrites what it looks for.
    pub fn end_search(&mut self) -> Result<()> {
        let Some(search) = self.search.take() else {
            return Ok(());
        };
        let from = self.machine.clock.now();
        let panicked = |_| Err(anyhow!("the search of the machine's memory panicked"));
        let (found, took) = search.join().unwrap_or_else(panicked)?;
        self.tell(&format!(
            "memory searched for stray frames in {:.0} ms, {:.0} of them waited for: {} found",
            as_ms(took),
            as_ms(self.machine.clock.now() - from),
            found.len()
        ));
        for stray in found.iter().take(3) {
            self.tell(&format!("stray: {stray:x?}"));
        }
        // One that stays where it is, is found again after the next jump and is still one.
        self.strays.extend(found);
        Ok(())
    }

    /// How many frames are, or were, where none may be: by all searches, the last of them made now, or by the second
    /// card's ring, which shows what has been overwritten since.
    pub fn strays(&mut self) -> Result<u64> {
        self.begin_search()?;
        self.end_search()?;
        Ok((self.strays.len() as u64).max(self.second_card_landings()))
    }

    /// Frames of the second card that were seen landing in its own memory and may not have. That memory is nobody's after
    /// the jump, and the new kernel uses it for its own boot: what lands there before that only this sees.
    fn second_card_landings(&self) -> u64 {
        let (Some(second), Some(until)) = (&self.traffic[1], self.second_card_until()) else {
            return 0;
        };
        let landings = second.witness.seen().landings;
        let late = landings.iter().filter(|landing| landing.sent >= until);
        // With the guest's state overwritten the ring is gone round again and again.
        let distinct: HashSet<u64> = late.map(|landing| landing.sequence).collect();
        distinct.len() as u64
    }
}
