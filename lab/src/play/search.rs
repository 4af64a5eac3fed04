// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The search for frames where none may be: the same for the demo and for the tests.

use std::collections::HashSet;

use anyhow::Result;

use crate::evidence::generator::Generator;
use crate::evidence::stray::{Allowed, Search};
use crate::evidence::witness::Witness;
use crate::machine::clock::{as_ms, Ns};
use crate::play::scene::Scene;

impl Scene {
    /// From when on nothing that is sent to the second card may land anywhere.
    fn second_card_until(&self) -> Option<Ns> {
        let lines = self.machine.console.lines();
        let jump = self.jumps.first()?;
        Some(if self.plan.second_goes_on {
            jump.entry(&lines)
        } else {
            jump.leave(&lines)
        })
    }

    /// Where frames may be at this moment of the run.
    fn allowed(&self) -> Allowed {
        let second = self.generators.second.as_ref().map(Generator::sent);
        let second_card_before = match (second, self.second_card_until()) {
            (Some(sent), Some(until)) => sent.first_after(until),
            _ => u64::MAX,
        };
        let pages = self.witness.as_ref().map(Witness::pages);
        Allowed {
            cards: [self.first.number, self.second.number],
            pages: pages.unwrap_or_default().into_iter().collect(),
            second_card_before,
        }
    }

    /// Begins to search the machine's memory, beside what else is done. What is still searched is waited for.
    pub fn begin_search(&mut self) -> Result<()> {
        self.end_search()?;
        let ram = self.machine.ram.clone();
        let search = Search::start(ram, self.allowed(), self.machine.clock)?;
        self.search = Some(search);
        Ok(())
    }

    /// Waits for the search that goes on, if one does: before anything overwrites what it looks for.
    pub fn end_search(&mut self) -> Result<()> {
        let Some(search) = self.search.take() else {
            return Ok(());
        };
        let from = self.machine.clock.now();
        let found = search.join()?;
        self.tell(&format!(
            "memory searched for stray frames in {:.0} ms, {:.0} of them waited for: {} found",
            as_ms(found.took),
            as_ms(self.machine.clock.now() - from),
            found.strays.len()
        ));
        for stray in found.strays.iter().take(3) {
            self.tell(&format!("stray: {stray:x?}"));
        }
        // One that stays where it is, is found again after the next jump and is still one.
        self.strays.extend(found.strays);
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
        let (Some(witness), Some(until)) = (&self.second_witness, self.second_card_until()) else {
            return 0;
        };
        let landings = witness.seen().landings;
        let late = landings.iter().filter(|landing| landing.sent >= until);
        // With the guest's state overwritten the ring is gone round again and again.
        let distinct: HashSet<u64> = late.map(|landing| landing.sequence).collect();
        distinct.len() as u64
    }
}
