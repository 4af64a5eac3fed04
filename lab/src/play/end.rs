// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A whole run, and the end of a scene: everything that was seen becomes evidence, and evidence a verdict.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::evidence::account::Evidence;
use crate::evidence::judge::judge;
use crate::evidence::trace::Findings;
use crate::evidence::verdict::Verdict;
use crate::machine::clock::Ns;
use crate::machine::directory::Directory;
use crate::machine::pace::TooSlow;
use crate::play::scene::{Scene, Traffic, DRAIN, SETTLE};
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
    /// The logs, while this lives and longer if they are kept.
    pub directory: Directory,
}

impl Scene {
    /// Plays a whole run: updates in a row, each done by `update`, with traffic before the first and after each. Whatever
    /// goes wrong once the frames flow is in the verdict.
    pub fn play(
        mut self,
        updates: u32,
        pause: Duration,
        update: impl Fn(&mut Self) -> Result<()>,
    ) -> Result<Outcome> {
        let mut steps = || {
            self.receive_both()?;
            self.flow(pause.max(SETTLE));
            for _ in 0..updates {
                update(&mut self)?;
                self.flow(pause.max(SETTLE));
            }
            self.flow_round_the_ring()
        };
        let ended = steps();
        self.end(ended)
    }

    /// Stops the frames, waits for the last of them, and judges. `ended` tells how the run went.
    pub fn end(mut self, ended: Result<()>) -> Result<Outcome> {
        self.evidence.troubles.extend(self.machine.crash());
        match ended.map_err(anyhow::Error::downcast::<TooSlow>) {
            Ok(()) => {}
            Err(Ok(TooSlow(trouble))) => self.evidence.slow.push(trouble.cause),
            Err(Err(error)) => self.evidence.troubles.push(format!("{error:#}")),
        }
        self.stop_traffic();
        self.evidence.strays = self.strays()?;
        self.traffic = [None, None];
        self.stop_looking();
        self.read_trace()?;
        self.evidence.warnings = self.machine.console.warnings();

        let directory = self.machine.into_directory();
        let verdict = judge(&self.evidence);
        let json = serde_json::to_string_pretty(&verdict.report).context("the report as JSON")?;
        directory.write("report.json", &json);
        directory.write("faults", &(verdict.words() + "\n"));
        Ok(Outcome {
            verdict,
            evidence: self.evidence,
            directory,
        })
    }

    /// Stops the first card's frames, waits for the last of them, and asks the guest what it has counted.
    fn stop_traffic(&mut self) {
        let patience = self.machine.pace.patience(DRAIN);
        if let Some(Traffic { generator, .. }) = &mut self.traffic[0] {
            generator.halt();
            self.evidence.sent = generator.lock().clone();
        }
        self.evidence.stopped = self.machine.clock.now();
        if let Some(Traffic { witness, .. }) = &self.traffic[0] {
            if let Some(last) = self.evidence.sent.count().checked_sub(1) {
                // It is seen in the figures if it does not come.
                let _ = witness.wait_for(last, patience);
            }
            self.evidence.seen = witness.seen();
        }
        if self.evidence.troubles.is_empty() {
            if let Err(error) = self.ask_guest() {
                let words = format!("the guest does not say what it counted: {error}");
                self.evidence.troubles.push(words);
            }
        }
    }

    /// The guest's count, once it has seen as much as the witness or has had time to.
    fn ask_guest(&mut self) -> Result<()> {
        let landed = self.evidence.seen.landings.len() as u64;
        let end = Instant::now() + self.machine.pace.patience(COUNT);
        loop {
            let count = self.machine.guest.count(self.first.number)?;
            if count.received >= landed || Instant::now() > end {
                self.evidence.guest = Some(count);
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Stops looking at the registers. Of a machine that is gone nobody wonders that it could not be looked at.
    fn stop_looking(&mut self) {
        self.registers.halt();
        let looks = self.registers.lock();
        let evidence = &mut self.evidence;
        if self.machine.runs() {
            let missing = looks.missing(&evidence.jumps, evidence.stopped);
            evidence.troubles.extend(missing);
        }
        if let Some(hang) = self.machine.console.hang() {
            evidence.troubles.push(format!("the kernel says: {hang}"));
        }
        let (id, from, to) = (self.first.source_id, evidence.started, evidence.stopped);
        evidence.recorded_faults = looks.faults(id, from, to);
        let ordered = evidence.jumps.first().map(|jump| jump.ordered);
        evidence.untranslated = looks.untranslated(ordered.unwrap_or(Ns::MAX), to);
    }

    /// Ends QEMU and reads its trace.
    fn read_trace(&mut self) -> Result<()> {
        let stopped = self.evidence.stopped;
        let jump = self.evidence.jumps.first();
        let jumped = jump.map_or(stopped, |jump| jump.leave);
        let times = [self.evidence.started, jumped, stopped];
        let trace = self.machine.end()?;
        let trace = Findings::read(
            trace,
            self.machine.clock,
            [&self.first, &self.second],
            times,
        )
        .context("QEMU's trace can not be read")?;
        let mut troubles = trace.missing();
        troubles.extend(self.machine.clock.trouble());
        let troubles = troubles.iter().map(Trouble::to_string);
        self.evidence.troubles.extend(troubles);
        self.evidence.trace = trace;
        Ok(())
    }
}
