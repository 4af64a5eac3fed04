// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A machine with two cards that receive, everything that watches it, and the verdict at the end.
//!
//! The first card is the one that is preserved; the second receives too, and is not.

use std::collections::BTreeSet;
use std::iter::zip;
use std::time::Duration;

use anyhow::{anyhow, bail, ensure, Result};
use hitless_proto::layout::{self, memory_size, repost_lag};
use hitless_proto::{Answer, Command, Piece};
use rustix::io::Errno;

use crate::evidence::account::Evidence;
use crate::evidence::generator::{generate, Generator, DEPTH};
use crate::evidence::phases::{Phase, PRESERVE};
use crate::evidence::registers::{self, Registers};
use crate::evidence::stray::{Search, Stray};
use crate::evidence::witness::{self, Watcher, Witness};
use crate::machine::clock::{as_ms, nanoseconds, Ns, MS};
use crate::machine::guest::OrderError;
use crate::machine::pace::{Rate, TooSlow};
use crate::machine::parts::Parts;
use crate::machine::profile::Profile;
use crate::machine::running::{command_line, Machine};
use crate::machine::topology::Card;

/// Where the first card's memory is in its address space: far above any physical address of the machine, and within 39
/// bits.
const FIRST_IOVA: u64 = 0x10_0000_0000;
/// Where the second card's is, if a plan does not say otherwise.
pub const SECOND_IOVA: u64 = 0x20_0000_0000;
/// Frames per second for the second card, and its ring.
const SECOND_CARD_RATE: u32 = 200;
const SECOND_CARD_RING: u32 = 256;
/// How long the last frames may be on their way.
pub(super) const DRAIN: Duration = Duration::from_secs(3);
/// Without a frame for so long on the reference host, a card that should receive does not.
const STALL: Duration = Duration::from_secs(1);

/// What is run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Names the run's directory.
    pub name: String,
    /// The machine.
    pub profile: Profile,
    /// Frames per second for the first card.
    pub rate: Rate,
    /// Words on every kernel's command line.
    pub words: String,
    /// Nothing switches the second card's bus mastering off at the jump: it may receive until the new kernel's first
    /// line.
    pub second_goes_on: bool,
    /// Where the second card's memory is in its address space.
    pub second_iova: u64,
    /// The names of the card that is preserved and of the one that is not.
    pub cards: [&'static str; 2],
    /// Whether steps are told on standard error.
    pub talk: bool,
}

/// What most profiles call their cards.
pub const CARDS: [&str; 2] = ["first", "second"];

/// A machine under traffic.
#[derive(Debug)]
pub struct Scene {
    /// The machine.
    pub machine: Machine,
    /// What is run.
    pub plan: Plan,
    /// Frames per second for the first card, as this host can take them, and its ring.
    pub rate: u32,
    pub(super) ring: u32,
    /// Memory is filled before the ring is served again.
    pub(super) fills_first: bool,
    /// The files came out of the session one by one, and what follows is done by single orders.
    pub(super) file_by_file: bool,
    /// The card that is preserved.
    pub first: Card,
    /// The card that is not.
    pub second: Card,
    /// What was seen so far.
    pub(super) evidence: Evidence,
    /// The traffic of either card, once it is set up.
    pub(super) traffic: [Option<Traffic>; 2],
    /// Frames found so far where none may be.
    pub(super) strays: BTreeSet<Stray>,
    /// The search that goes on.
    pub(super) search: Option<Search>,
    pub(super) registers: Registers,
}

/// What sends to a card, and what sees it land.
#[derive(Debug)]
pub(super) struct Traffic {
    pub(super) generator: Generator,
    pub(super) witness: Witness,
}

impl Scene {
    /// Boots the first kernel.
    pub fn boot(plan: Plan, parts: &Parts) -> Result<Self> {
        let line = command_line(&plan.profile, &plan.words);
        let [first, second] = plan.cards;
        let first = plan.profile.card(first)?.clone();
        let second = plan.profile.card(second)?.clone();
        let mut machine = Machine::start(&plan.name, &plan.profile, parts, &line)?;
        let hello = machine.wait_hello()?;
        let registers = registers::look(machine.monitor(), machine.clock)?;
        let choice = machine.pace.choose(plan.rate);
        if let Some(remark) = choice.remark {
            eprintln!("{remark}");
        }
        let mut scene = Self {
            evidence: Evidence {
                profile: plan.profile.name.clone(),
                rate: choice.rate,
                held: repost_lag(choice.ring),
                ..Evidence::default()
            },
            machine,
            plan,
            rate: choice.rate,
            ring: choice.ring,
            fills_first: choice.fills_first,
            file_by_file: false,
            first,
            second,
            traffic: [None, None],
            strays: BTreeSet::new(),
            search: None,
            registers,
        };
        scene.evidence.lag = 2 * scene.depth();
        scene.is_up(hello.kernel);
        Ok(scene)
    }

    /// A kernel has come up.
    pub(super) fn is_up(&mut self, kernel: String) {
        self.tell(&format!("kernel {kernel} is up"));
        self.evidence.kernels.push(kernel);
    }

    /// Says what is done, if somebody wants to know.
    pub fn tell(&self, what: &str) {
        if self.plan.talk {
            eprintln!("{:9.3} s  {what}", as_ms(self.machine.clock.now()) / 1e3);
        }
    }

    /// Gives an order that has to succeed.
    pub fn order(&mut self, command: Command) -> Result<Answer> {
        Ok(self.machine.guest.order(command)?)
    }

    /// What is in a file of the machine.
    pub fn read(&mut self, path: &str) -> Result<String> {
        let path = path.to_owned();
        match self.order(Command::ReadFile { path })? {
            Answer::Text { text } => Ok(text),
            other => bail!("the guest answers {other:?} to ReadFile"),
        }
    }

    /// Gives an order that has to be refused with the error number that is promised for it (`docs/refusals.md`).
    pub fn refused(&mut self, command: Command, promised: Errno) -> Result<()> {
        let name = format!("{command:?}");
        let error = match self.machine.guest.order(command) {
            Ok(_) => bail!("{name} succeeded and should have been refused"),
            Err(OrderError::Machine(error)) => return Err(error),
            Err(error) => error,
        };
        ensure!(
            error.errno() == Some(promised.raw_os_error()),
            "{name} should have been refused with {promised:?}, and failed otherwise: {error}"
        );
        Ok(())
    }

    /// Sets a card up and starts its frames.
    fn receive(&mut self, which: usize) -> Result<()> {
        let (card, ring, rate, iova) = match which {
            0 => (self.first.clone(), self.ring, self.rate, FIRST_IOVA),
            _ => (
                self.second.clone(),
                SECOND_CARD_RING,
                SECOND_CARD_RATE,
                self.plan.second_iova,
            ),
        };
        let Answer::Started { mac, index_pages } = self.set_up(&card, ring, iova)? else {
            bail!("the guest does not say where the card's memory is");
        };
        ensure!(
            mac == card.mac(),
            "at {} is a card with the address {mac}, and not the {} one with {}: the profile's bridges are not what the \
             guest sees",
            card.bdf,
            card.name,
            card.mac()
        );
        let clock = self.machine.clock;
        let watcher = Watcher::new(self.machine.ram.clone(), card.number, ring, &index_pages)?;
        let witness = witness::watch(watcher, clock)?;
        let wire = self.machine.wire(card.number)?;
        self.evidence.started = clock.now();
        let generator = generate(wire, &card, rate, self.depth(), clock)?;
        self.traffic[which] = Some(Traffic { generator, witness });
        self.tell(&format!(
            "the {} card receives {rate} frames/s into a ring of {ring}",
            card.name
        ));
        Ok(())
    }

    fn set_up(&mut self, card: &Card, ring: u32, iova: u64) -> Result<Answer> {
        let bdf = card.bdf.clone();
        self.order(Command::BindDriver { bdf: bdf.clone() })?;
        let start = Command::Start {
            card: card.number,
            bdf,
            ring,
            iova,
        };
        self.order(start)
    }

    /// Sets a card up in a kernel that knows nothing of it. Its frames never stopped coming.
    pub fn receive_again(&mut self, card: &Card) -> Result<()> {
        self.set_up(card, SECOND_CARD_RING, self.plan.second_iova)?;
        Ok(())
    }

    /// Both cards, the second one first: its own reset can not be told from the first card's in the trace.
    pub fn receive_both(&mut self) -> Result<()> {
        self.receive(1)?;
        self.receive_alone()
    }

    /// The first card, while the second stays as it is.
    pub fn receive_alone(&mut self) -> Result<()> {
        self.receive(0)?;
        let patience = self.machine.pace.patience(DRAIN);
        ensure!(
            self.witness()?.wait_for(0, patience),
            "no frame lands before anything was done: the card is not set up"
        );
        Ok(())
    }

    /// No frames come for the second card for a while, or they come again.
    pub fn pause_second(&self, pause: bool) {
        if let Some(second) = &self.traffic[1] {
            second.generator.lock().paused = pause;
        }
    }

    /// From now on the trace has every request for an interrupt that a device makes by DMA.
    pub fn watch_requests(&self) -> Result<()> {
        let event = self.plan.profile.iommu.kind.names().request;
        let monitor = self.machine.monitor();
        monitor.human(&format!("trace-event {event} on"))?;
        Ok(())
    }

    /// Makes a ring for the second card out of memory that nobody uses, at the physical addresses that it knows as its
    /// own: where it reads and writes without an IOMMU.
    pub fn ring_without_iommu(&self) -> Result<()> {
        for index in 0..SECOND_CARD_RING {
            let buffer = self.plan.second_iova + layout::buffer(index);
            let mut descriptor = [0; layout::DESCRIPTOR as usize];
            descriptor[..8].copy_from_slice(&buffer.to_le_bytes());
            let at = self.plan.second_iova + layout::descriptor(index);
            self.machine.ram.write(at, &descriptor)?;
        }
        Ok(())
    }

    /// How the first card's memory is mapped when it is set up.
    pub fn memory(&self) -> Piece {
        Piece {
            iova: FIRST_IOVA,
            length: memory_size(self.ring),
            offset: 0,
            token: 0,
            readable: true,
            writeable: true,
        }
    }

    /// The witness of the first card.
    pub fn witness(&self) -> Result<&Witness> {
        let traffic = self.traffic[0].as_ref();
        let traffic = traffic.ok_or_else(|| anyhow!("the first card was not set up"))?;
        Ok(&traffic.witness)
    }

    /// Lets frames flow for so long; returns earlier when the kernel panics or the machine ends.
    pub fn flow(&self, time: Duration) {
        let end = std::time::Instant::now() + time;
        let goes_on = || self.machine.console.hang().is_none() && self.machine.runs();
        while std::time::Instant::now() < end && goes_on() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How much of a stream the wires hold.
    pub(super) fn depth(&self) -> Ns {
        nanoseconds(self.machine.pace.patience(Duration::from_nanos(DEPTH)))
    }

    /// Lets frames flow until descriptors that were posted again have been used.
    pub fn flow_round_the_ring(&self) -> Result<()> {
        let wanted = u64::from(self.ring) + u64::from(self.rate) / 2;
        let limit = self.machine.pace.patience(STALL);
        while self.witness()?.count() < wanted && self.stall()? < limit {
            self.flow(Duration::from_millis(50));
        }
        Ok(())
    }

    /// How long nothing has landed.
    fn stall(&self) -> Result<Duration> {
        let last = self.witness()?.last();
        let last = last.map_or(self.evidence.started, |landing| landing.at);
        let now = self.machine.clock.now();
        Ok(Duration::from_nanos(now.saturating_sub(last)))
    }

    /// The check after every action: frames land, all of them and in order, and the guest agrees.
    pub fn check(&self, action: &str) -> Result<()> {
        self.flow(Duration::from_millis(50));
        let (stall, seen) = (self.stall()?, self.witness()?.seen());
        if stall > self.machine.pace.patience(STALL / 2) {
            let words = format!(
                "after {action} nothing has landed for {} ms",
                stall.as_millis()
            );
            let now = self.machine.clock.now();
            let since = now.saturating_sub(nanoseconds(stall / 2));
            ensure!(seen.was_dry(since, now), words);
            return Err(TooSlow::new(format!("{words}: the ring is dry")).into());
        }
        if seen.corrupt > 0 {
            bail!("after {action} a frame is corrupt: {}", seen.first_corrupt);
        }
        let skipped = seen.skipped;
        ensure!(
            skipped == 0,
            "after {action} the card has skipped {skipped} descriptors"
        );
        let mut order = zip(&seen.landings, 0..);
        if let Some((landing, expected)) = order.find(|(it, number)| it.sequence != *number) {
            let words = format!(
                "after {action} frame {} stands where frame {expected} should",
                landing.sequence
            );
            ensure!(!seen.dry.is_empty(), words);
            return Err(TooSlow::new(format!("{words}, and the ring was dry")).into());
        }
        if let Some(warning) = self.machine.console.warnings().first() {
            bail!("after {action} the kernel warns: {warning}");
        }
        Ok(())
    }

    /// Adds a phase that began at `from` and ends now; returns when that is.
    pub fn step(&mut self, name: &'static str, from: Ns) -> Ns {
        let before_jump = name == PRESERVE;
        let to = self.machine.clock.now();
        self.tell(&format!("{name}: {:.1} ms", as_ms(to - from)));
        self.evidence.phases.push(Phase {
            update: self.evidence.jumps.len() + usize::from(before_jump),
            name,
            from,
            to,
        });
        to
    }
}

/// A pause in which frames flow before something is done to them.
pub const SETTLE: Duration = Duration::from_nanos(200 * MS);
