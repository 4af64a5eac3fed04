// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A machine with two cards that receive, everything that watches it, and the verdict at the end.
//!
//! The first card is the one that is preserved; the second receives too, and is not.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{anyhow, bail, ensure, Result};
use hitless_proto::layout::memory_size;
use hitless_proto::{Answer, Command, Piece};
use rustix::io::Errno;

use crate::evidence::generator::{parse_mac, Generator, Stream, DEPTH};
use crate::evidence::phases::{Jump, Name, Phase};
use crate::evidence::registers::Registers;
use crate::evidence::stray::{Search, Stray};
use crate::evidence::witness::{Seen, Watcher, Witness};
use crate::machine::clock::{as_ms, nanoseconds, Ns, MS};
use crate::machine::guest::OrderError;
use crate::machine::pace::{Choice, Rate, TooSlow};
use crate::machine::parts::Parts;
use crate::machine::profile::Profile;
use crate::machine::running::{command_line, Machine};
use crate::machine::topology::Card;

/// Where the cards' memories are in their address spaces: far above any physical address of the machine, and within
/// 39 bits.
const IOVAS: [u64; 2] = [0x10_0000_0000, 0x20_0000_0000];
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
    /// The timeline so far.
    pub phases: Vec<Phase>,
    /// The jumps so far.
    pub jumps: Vec<Jump>,
    /// Each kernel's name.
    pub kernels: Vec<String>,
    /// What went wrong and did not end the run.
    pub troubles: Vec<String>,
    /// Frames per second for the first card, as this host can take them, and its ring.
    pub rate: u32,
    pub(super) ring: u32,
    /// Memory is filled before the ring is served again.
    pub(super) fills_first: bool,
    /// The card that is preserved.
    pub first: Card,
    /// The card that is not.
    pub second: Card,
    pub(super) generators: Generators,
    pub(super) witness: Option<Witness>,
    pub(super) second_witness: Option<Witness>,
    /// Frames found so far where none may be.
    pub(super) strays: BTreeSet<Stray>,
    /// The search that goes on.
    pub(super) search: Option<Search>,
    pub(super) registers: Option<Registers>,
    pub(super) started: Ns,
}

/// What sends to either card.
#[derive(Debug, Default)]
pub(super) struct Generators {
    pub(super) first: Option<Generator>,
    pub(super) second: Option<Generator>,
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
        let registers = Registers::start(machine.monitor(), machine.clock)?;
        let Choice {
            rate,
            ring,
            fills_first,
            remark,
        } = machine.pace.choose(plan.rate);
        if let Some(remark) = remark {
            eprintln!("{remark}");
        }
        let scene = Self {
            machine,
            plan,
            rate,
            ring,
            fills_first,
            first,
            second,
            phases: Vec::new(),
            jumps: Vec::new(),
            kernels: vec![hello.kernel],
            troubles: Vec::new(),
            generators: Generators::default(),
            witness: None,
            second_witness: None,
            strays: BTreeSet::new(),
            search: None,
            registers: Some(registers),
            started: 0,
        };
        scene.tell(&format!("kernel {} is up", scene.kernels[0]));
        Ok(scene)
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

    /// Gives an order that has to be refused with the error number that is promised for it (`docs/refusals.md`).
    pub fn refused(&mut self, command: Command, promised: Errno) -> Result<()> {
        let name = format!("{command:?}");
        match self.machine.guest.order(command) {
            Ok(_) => bail!("{name} succeeded and should have been refused"),
            Err(OrderError::Machine(error)) => Err(error),
            Err(error) => {
                ensure!(
                    error.errno() == Some(promised.raw_os_error()),
                    "{name} should have been refused with {promised:?}, and failed otherwise: {error}"
                );
                Ok(())
            }
        }
    }

    /// Sets a card up and starts its frames. To be called for the second card first: its own reset can not be told
    /// from the first card's in the trace.
    fn receive(&mut self, card: &Card) -> Result<()> {
        let first = card.number == self.first.number;
        let (ring, rate) = if first {
            (self.ring, self.rate)
        } else {
            (SECOND_CARD_RING, SECOND_CARD_RATE)
        };
        self.order(Command::BindDriver {
            bdf: card.bdf.clone(),
        })?;
        let answer = self.order(Command::Start {
            card: card.number,
            bdf: card.bdf.clone(),
            ring,
            iova: IOVAS[usize::from(!first)],
        })?;
        let Answer::Started { mac, index_pages } = answer else {
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
        let witness = Some(Witness::start(watcher, clock)?);
        if first {
            self.witness = witness;
            self.started = clock.now();
        } else {
            self.second_witness = witness;
        }
        let stream = Stream {
            card: card.number,
            mac: parse_mac(&mac)?,
            rate,
            depth: self.depth(),
        };
        let wire = self.machine.wire(card.number)?;
        let generator = Some(Generator::start(wire, stream, clock)?);
        if first {
            self.generators.first = generator;
        } else {
            self.generators.second = generator;
        }
        if first {
            ensure!(
                self.witness()?
                    .wait_for(0, self.machine.pace.patience(DRAIN)),
                "no frame lands before anything was done: the card is not set up"
            );
        }
        self.tell(&format!(
            "the {} card receives {rate} frames/s into a ring of {ring}",
            card.name
        ));
        Ok(())
    }

    /// Sets a card up in a kernel that knows nothing of it. Its frames never stopped coming.
    pub fn receive_again(&mut self, card: &Card) -> Result<()> {
        self.order(Command::BindDriver {
            bdf: card.bdf.clone(),
        })?;
        self.order(Command::Start {
            card: card.number,
            bdf: card.bdf.clone(),
            ring: SECOND_CARD_RING,
            iova: IOVAS[1],
        })?;
        Ok(())
    }

    /// Both cards.
    ///
    /// # Errors
    ///
    /// As [`Scene::receive`].
    pub fn receive_both(&mut self) -> Result<()> {
        self.receive(&self.second.clone())?;
        self.receive(&self.first.clone())
    }

    /// How the first card's memory is mapped when it is set up.
    pub fn memory(&self) -> Piece {
        Piece {
            iova: IOVAS[0],
            length: memory_size(self.ring),
            offset: 0,
            token: 0,
            readable: true,
            writeable: true,
        }
    }

    /// The witness of the first card.
    pub fn witness(&self) -> Result<&Witness> {
        self.witness
            .as_ref()
            .ok_or_else(|| anyhow!("the first card was not set up"))
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
        let last = self
            .witness()?
            .last()
            .map_or(self.started, |landing| landing.at);
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
        let Seen {
            landings,
            corrupt,
            skipped,
            dry,
            ..
        } = seen;
        if let Some((_, what)) = corrupt.first() {
            bail!("after {action} a frame is corrupt: {what}");
        }
        ensure!(
            skipped == 0,
            "after {action} the card has skipped {skipped} descriptors"
        );
        let wrong = landings
            .iter()
            .zip(0..)
            .find(|(landing, expected)| landing.sequence != *expected);
        if let Some((landing, expected)) = wrong {
            let words = format!(
                "after {action} frame {} stands where frame {expected} should",
                landing.sequence
            );
            ensure!(!dry.is_empty(), words);
            return Err(TooSlow::new(format!("{words}, and the ring was dry")).into());
        }
        if let Some(warning) = self.machine.console.warnings().first() {
            bail!("after {action} the kernel warns: {warning}");
        }
        Ok(())
    }

    /// The number of the update that a step before its jump belongs to.
    fn coming(&self) -> u32 {
        u32::try_from(self.jumps.len()).unwrap_or(u32::MAX - 1) + 1
    }

    /// Adds a phase of a test's own that began at `from` and ends now.
    pub fn phase(&mut self, words: &'static str, from: Ns) {
        self.step(Name::Other(words), from);
    }

    /// Adds a phase that began at `from` and ends now; returns when that is.
    pub fn step(&mut self, name: Name, from: Ns) -> Ns {
        let before_jump = name == Name::Preserve;
        let update = self.coming() - u32::from(!before_jump);
        let to = self.machine.clock.now();
        self.tell(&format!("{name}: {:.1} ms", as_ms(to - from)));
        self.phases.push(Phase {
            update,
            name,
            from,
            to,
        });
        to
    }
}

/// A pause in which frames flow before something is done to them.
pub const SETTLE: Duration = Duration::from_nanos(200 * MS);
