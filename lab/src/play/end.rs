// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The end of a scene: everything that was seen becomes evidence, and evidence a verdict.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hitless_proto::layout::repost_lag;
use hitless_proto::tally::Tally;

use crate::evidence::account::Evidence;
use crate::evidence::generator::{Generator, Sent};
use crate::evidence::judge::judge;
use crate::evidence::registers::{Looks, Registers};
use crate::evidence::trace::{Findings, Question};
use crate::evidence::verdict::Verdict;
use crate::evidence::witness::{Seen, Witness};
use crate::machine::clock::Ns;
use crate::machine::directory::Directory;
use crate::machine::pace::TooSlow;
use crate::play::scene::{Scene, DRAIN};
use crate::trouble::Trouble;

/// How long the guest may take to count what has landed.
const COUNT: Duration = Duration::from_secs(2);

/// A run that has ended.
#[derive(Debug)]
pub struct Outcome {
    /// Figures and faults.
    pub verdict: Verdict,
    /// What they were made of.
    pub evidence: Evidence,
    /// When the first frame was sent.
    pub started: Ns,
    /// The logs, while this lives and longer if they are kept.
    pub directory: Directory,
}

/// What the first card's traffic came to.
struct Traffic {
    sent: Sent,
    /// When the generator had stopped.
    stopped: Ns,
    seen: Seen,
    guest: Option<Tally>,
}

impl Scene {
    /// Stops the frames, waits for the last of them, and judges. `ended` tells how the run went.
    pub fn end(mut self, ended: Result<()>) -> Result<Outcome> {
        self.troubles.extend(self.machine.crash());
        let mut slow = Vec::new();
        match ended.map_err(anyhow::Error::downcast::<TooSlow>) {
            Ok(()) => {}
            Err(Ok(TooSlow(trouble))) => slow.push(trouble.cause),
            Err(Err(error)) => self.troubles.push(format!("{error:#}")),
        }
        let traffic = self.stop_traffic();
        let strays = self.strays()?;
        self.generators.second = None;
        let looks = self.stop_looking(traffic.stopped);
        let trace = self.read_trace(traffic.stopped)?;
        let mut evidence = self.evidence(traffic, strays, &looks, trace);
        evidence.slow = slow;
        self.conclude(evidence)
    }

    /// Stops the first card's frames, and waits for the last of them.
    fn stop_traffic(&mut self) -> Traffic {
        let sent = self
            .generators
            .first
            .take()
            .map(Generator::stop)
            .unwrap_or_default();
        let stopped = self.machine.clock.now();
        let last = sent.count().checked_sub(1);
        if let (Some(witness), Some(last)) = (&self.witness, last) {
            // It is seen in the figures if it does not come.
            let _ = witness.wait_for(last, self.machine.pace.patience(DRAIN));
        }
        let seen = self.witness.as_ref().map(Witness::seen).unwrap_or_default();
        let guest = self.guest_count(seen.landings.len() as u64);
        Traffic {
            sent,
            stopped,
            seen,
            guest,
        }
    }

    /// Stops looking at the registers. Of a machine that is gone nobody wonders that it could not be looked at.
    fn stop_looking(&mut self, stopped: Ns) -> Looks {
        let looks = self
            .registers
            .take()
            .map(Registers::stop)
            .unwrap_or_default();
        if self.machine.runs() {
            self.troubles.extend(looks.missing(&self.jumps, stopped));
        }
        if let Some(hang) = self.machine.console.hang() {
            self.troubles.push(format!("the kernel says: {hang}"));
        }
        looks
    }

    /// Ends QEMU and reads its trace.
    fn read_trace(&mut self, stopped: Ns) -> Result<Findings> {
        let lines = self.machine.console.lines();
        let jumped = self
            .jumps
            .first()
            .map_or(stopped, |jump| jump.leave(&lines));
        let question = Question {
            card: self.first.clone(),
            other: self.second.source_id,
            from: self.started,
            jumped,
            to: stopped,
        };
        let trace = self.machine.end()?;
        let trace = Findings::read(trace, self.machine.clock, &question)
            .context("QEMU's trace can not be read")?;
        let missing = trace.missing();
        self.troubles.extend(missing.iter().map(Trouble::to_string));
        if let Some(moved) = self.machine.clock.was_set() {
            let set = Trouble::new(
                format!(
                    "the host's clock was set by {} ms during the run, so the times in QEMU's trace mean nothing",
                    moved.as_millis()
                ),
                "run again while nothing sets the clock",
            );
            self.troubles.push(set.to_string());
        }
        Ok(trace)
    }

    fn evidence(
        &mut self,
        traffic: Traffic,
        strays: u64,
        looks: &Looks,
        trace: Findings,
    ) -> Evidence {
        let lines = self.machine.console.lines();
        let (from, to) = (self.started, traffic.stopped);
        let ordered = self.jumps.first().map_or(Ns::MAX, |jump| jump.ordered);
        let jumps = self.jumps.iter();
        Evidence {
            profile: self.plan.profile.name.clone(),
            updates: u32::try_from(self.jumps.len()).unwrap_or(u32::MAX),
            rate: self.rate,
            lag: 2 * self.depth(),
            held: repost_lag(self.ring),
            jumps: jumps.map(|jump| (jump.leave(&lines), jump.hello)).collect(),
            kernels: std::mem::take(&mut self.kernels),
            sent: traffic.sent,
            stopped: traffic.stopped,
            seen: traffic.seen,
            guest: traffic.guest,
            recorded_faults: looks.faults(self.first.source_id, from, to),
            untranslated: looks.untranslated(ordered, to),
            traced_faults: trace.faults,
            second_card_faults: trace.other_faults,
            harms: trace.harms,
            strays,
            phases: std::mem::take(&mut self.phases),
            warnings: self.machine.console.warnings(),
            troubles: std::mem::take(&mut self.troubles),
            slow: Vec::new(),
        }
    }

    /// Judges, and puts the verdict beside the logs.
    fn conclude(self, evidence: Evidence) -> Result<Outcome> {
        let directory = self.machine.into_directory();
        let verdict = judge(&evidence);
        let json = serde_json::to_string_pretty(&verdict.report).context("the report as JSON")?;
        directory.write("report.json", &json);
        directory.write("faults", &(verdict.words() + "\n"));
        Ok(Outcome {
            verdict,
            evidence,
            started: self.started,
            directory,
        })
    }

    /// The guest's count, once it has seen as much as the witness or has had time to. None when it does not answer.
    fn guest_count(&mut self, landed: u64) -> Option<Tally> {
        if !self.troubles.is_empty() {
            return None;
        }
        let mut last = None;
        let end = Instant::now() + self.machine.pace.patience(COUNT);
        while Instant::now() < end || last.is_none() {
            match self.machine.guest.count(self.first.number) {
                Ok(count) if count.received < landed => last = Some(count),
                Ok(count) => return Some(count),
                Err(error) => {
                    self.troubles
                        .push(format!("the guest does not say what it counted: {error}"));
                    return None;
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        last
    }
}
