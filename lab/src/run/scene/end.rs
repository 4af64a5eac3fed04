// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The end of a scene: everything that was seen becomes evidence, and evidence a verdict.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::run::clock::Ns;
use crate::run::directory::Directory;
use crate::run::generator::{Generator, Sent};
use crate::run::guest::GuestCount;
use crate::run::judge::{judge, Evidence, Verdict};
use crate::run::qemu::SLOTS;
use crate::run::registers::{self, Registers};
use crate::run::scene::{Scene, DRAIN};
use crate::run::stray::{self, Allowed};
use crate::run::trace;
use crate::run::witness::Witness;

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Figures and faults.
    pub(crate) verdict: Verdict,
    /// What they were made of.
    pub(crate) evidence: Evidence,
    /// When the first frame was sent.
    pub(crate) started: Ns,
    /// The logs, while this lives and longer if they are kept.
    pub(crate) directory: Directory,
}

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

    /// Searches the machine's memory for frames where none may be.
    ///
    /// # Errors
    ///
    /// The memory can not be read.
    pub(crate) fn strays(&self) -> Result<Vec<stray::Stray>> {
        let second = self.generators.first().map(Generator::sent);
        let until = self.second_card_until();
        let second_card_before = match (second, until) {
            (Some(sent), Some(until)) => sent.first_after(until),
            _ => u64::MAX,
        };
        let pages: HashSet<u64> = match &self.witness {
            Some(witness) => witness.pages().into_iter().collect(),
            None => HashSet::new(),
        };
        stray::search(
            &self.machine.ram,
            &Allowed {
                pages,
                second_card_before,
            },
        )
    }

    /// Frames of the second card that were seen landing and may not have, even if they have been overwritten since.
    pub(crate) fn second_card_landings(&self) -> u64 {
        let (Some(witness), Some(until)) = (&self.second_witness, self.second_card_until()) else {
            return 0;
        };
        let landings = witness.seen().landings;
        landings
            .iter()
            .filter(|landing| landing.sent >= until)
            .count() as u64
    }

    /// Stops the frames, waits for the last of them, and judges. `ended` tells how the run went.
    ///
    /// # Errors
    ///
    /// The machine's memory or trace can not be read.
    pub(crate) fn end(mut self, ended: Result<()>) -> Result<Outcome> {
        self.troubles.extend(self.machine.crash());
        if let Err(error) = ended {
            self.troubles.push(format!("{error:#}"));
        }
        let clock = self.machine.clock;
        // The first card's generator is the one that was started last.
        let sent = match self.generators.pop() {
            Some(generator) => generator.stop(),
            None => Sent::default(),
        };
        let stopped = clock.now();
        let last = sent.count().checked_sub(1);
        if let (Some(witness), Some(last)) = (&self.witness, last) {
            // It is seen in the figures if it does not come.
            let _ = witness.wait_for(last, DRAIN);
        }
        let seen = self.witness.as_ref().map(Witness::seen).unwrap_or_default();
        let guest = self.guest_count(seen.landings.len() as u64);
        let strays = self.strays()?;
        let second_card_landings = self.second_card_landings();
        for stray in strays.iter().take(3) {
            self.tell(&format!("stray: {stray:x?}"));
        }
        self.generators.clear();
        let looks = self
            .registers
            .take()
            .map(Registers::stop)
            .unwrap_or_default();
        if let Some(hang) = self.machine.console.hang() {
            self.troubles.push(format!("the kernel says: {hang}"));
        }
        let trace = trace::parse(&self.machine.end()?, clock);
        // Every kernel writes the command register at boot: a trace without that is no witness.
        if !trace
            .iter()
            .any(|seen| matches!(seen.event, trace::Event::GlobalCommand { .. }))
        {
            self.troubles
                .push("QEMU's trace says nothing of the IOMMU".to_owned());
        }
        let lines = self.machine.console.lines();
        let first = SLOTS[0];
        let (from, to) = (self.started, stopped);
        let jumps: Vec<_> = self
            .jumps
            .iter()
            .map(|jump| (jump.leave(&lines), jump.hello))
            .collect();
        let jumped = jumps.first().map_or(to, |(leave, _)| *leave);
        let evidence = Evidence {
            profile: self.plan.profile.name.clone(),
            updates: u32::try_from(self.jumps.len()).unwrap_or(u32::MAX),
            kernels: std::mem::take(&mut self.kernels),
            sent,
            stopped,
            traced_faults: trace::faults(&trace, first.source_id, from, to),
            second_card_faults: trace::faults(&trace, SLOTS[1].source_id, jumped, to).count,
            recorded_faults: registers::faults(&looks, first.source_id, from, to),
            harms: trace::harms(&trace, first, from, to),
            strays: (strays.len() as u64).max(second_card_landings),
            phases: std::mem::take(&mut self.phases),
            jumps,
            guest,
            warnings: self.machine.console.warnings(),
            troubles: std::mem::take(&mut self.troubles),
            seen,
        };
        let directory = self.machine.into_directory();
        let verdict = judge(&evidence);
        let json = serde_json::to_string_pretty(&verdict.report).context("the report as JSON")?;
        directory.write("report.json", &json);
        directory.write("faults", &(verdict.faults.join("\n") + "\n"));
        Ok(Outcome {
            verdict,
            evidence,
            started: self.started,
            directory,
        })
    }

    /// The guest's count, once it has seen as much as the witness or has had time to. None when it does not answer.
    fn guest_count(&mut self, landed: u64) -> Option<GuestCount> {
        if !self.troubles.is_empty() {
            return None;
        }
        let mut count = None;
        for _ in 0..20 {
            count = self.machine.guest.count(SLOTS[0].card).ok();
            match count {
                Some(count) if count.received < landed => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                _ => break,
            }
        }
        if count.is_none() {
            self.troubles
                .push("the guest does not say what it counted".to_owned());
        }
        count
    }
}
