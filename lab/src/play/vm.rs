// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A machine with a virtual machine inside, whose card receives frames and answers them, and what is done with its VMM.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use hitless_proto::{Answer, Command};
use serde_json::{json, Value};

use crate::evidence::echoes::{listen, Echoes};
use crate::evidence::generator::{generate, Generator, DEPTH};
use crate::evidence::inside::{Inside, Verdict};
use crate::evidence::phases::Jump;
use crate::evidence::trace::Findings;
use crate::evidence::worker::Worker;
use crate::machine::clock::{as_ms, nanoseconds, Ns};
use crate::machine::directory::Directory;
use crate::machine::parts::{Parts, IMAGES};
use crate::machine::profile::{Profile, Vm};
use crate::machine::running::{command_line, Machine};
use crate::machine::topology::Card;
use crate::machine::vmm::{command, Channels, Choice, Vmm, DISK};
use crate::trouble::Trouble;

/// From QEMU's start until its virtual machine's card is on, on the reference host.
const BOOT: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(100);
/// How long the last echoes may be on their way, and how long a virtual machine may be silent while nothing is done to it.
const DRAIN: Duration = Duration::from_secs(3);
/// How the counter's lines begin, and how the one ends that it says when frames can come.
const COUNTER: &str = "counter: ";
const ON: &str = " is on";

/// What is run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Names the run's directory.
    pub name: String,
    /// The machine, which has a virtual machine inside.
    pub profile: Profile,
    /// Frames per second.
    pub rate: u32,
    /// The virtual machine.
    pub choice: Choice,
    /// Words on every host kernel's command line.
    pub words: String,
    /// Whether steps are told on standard error.
    pub talk: bool,
}

/// A machine with a virtual machine inside.
#[derive(Debug)]
pub struct Scene {
    /// The machine.
    pub machine: Machine,
    /// What is run.
    pub plan: Plan,
    /// The card that is passed through.
    pub card: Card,
    /// The VMM that runs.
    pub vmm: Vmm,
    vm: Vm,
    other: Card,
    /// How many VMMs were named.
    named: u32,
    evidence: Inside,
    traffic: Option<(Generator, Worker<Echoes>)>,
}

/// A run that has ended.
#[derive(Debug)]
pub struct Outcome {
    /// Figures and faults.
    pub verdict: Verdict,
    /// The logs, while this lives and longer if they are kept.
    pub directory: Directory,
}

impl Scene {
    /// Boots the host's kernel; the VMM's disk is mounted, and the card bound to vfio-pci. The parts are those with a VM.
    pub fn boot(plan: Plan, parts: &Parts) -> Result<Self> {
        let profile = &plan.profile;
        let vm = profile.vm;
        let vm = vm.with_context(|| format!("{} has no virtual machine", profile.name))?;
        let [card, other] = ["first", "second"].map(|name| profile.card(name).cloned());
        let (card, other) = (card?, other?);
        let line = command_line(profile, &plan.words);
        let mut machine = Machine::start(&plan.name, profile, parts, &line)?;
        let hello = machine.wait_hello()?;
        let mut scene = Self {
            evidence: Inside {
                profile: profile.name.clone(),
                ..Inside::default()
            },
            machine,
            plan,
            card,
            other,
            vm,
            vmm: Vmm::named("vmm1"),
            named: 1,
            traffic: None,
        };
        scene.is_up(hello.kernel)?;
        Ok(scene)
    }

    /// Loads the host's next kernel.
    pub fn load(&mut self) -> Result<()> {
        let next = self.evidence.kernels.len() % IMAGES.len();
        self.order(Command::LoadKernel {
            image: IMAGES[next].to_owned(),
            cmdline: command_line(&self.plan.profile, &self.plan.words),
        })?;
        Ok(())
    }

    /// The jump into the kernel that was loaded, and what is done there before a VMM is needed.
    pub fn jump(&mut self) -> Result<()> {
        self.tell("the jump");
        let (ordered, hello) = self.machine.guest.kexec()?;
        let update = self.evidence.kernels.len();
        let lines = self.machine.console.lines();
        let (_, phases) = Jump::read(update, ordered, hello.at, &lines);
        self.evidence.phases.extend(phases);
        self.is_up(hello.kernel)
    }

    /// A host's kernel has come up: the VMM's disk is mounted, and the card bound to vfio-pci.
    fn is_up(&mut self, kernel: String) -> Result<()> {
        self.tell(&format!("kernel {kernel} is up"));
        self.evidence.kernels.push(kernel);
        let [device, kind, path] = DISK.map(str::to_owned);
        self.order(Command::Mount { device, kind, path })?;
        let bdf = self.card.bdf.clone();
        self.order(Command::BindDriver { bdf })?;
        Ok(())
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

    /// Gives a command to a VMM's monitor.
    pub fn ask(&mut self, vmm: &Vmm, command: Value) -> Result<Value> {
        let socket = vmm.monitor();
        match self.order(Command::Monitor { socket, command })? {
            Answer::Json { value } => Ok(value),
            other => bail!("the guest answers {other:?} to Monitor"),
        }
    }

    /// Starts the VMM, and waits until its virtual machine's card is on.
    pub fn start_vmm(&mut self) -> Result<()> {
        let vmm = self.vmm.clone();
        self.spawn(&vmm, None)?;
        // One that has ended at once says why.
        self.ask(&vmm, command("query-status", json!({})))?;
        let (console, end) = (vmm.console(), self.until(BOOT));
        loop {
            std::thread::sleep(LOOK);
            // It is there as soon as QEMU is.
            let said = self.read(&console).unwrap_or_default();
            let mut lines = said.lines().filter(|line| line.contains(COUNTER));
            if lines.any(|line| line.trim_end().ends_with(ON)) {
                break;
            }
            if Instant::now() > end || said.contains("Kernel panic") {
                let qemu = self.read(&vmm.said()).unwrap_or_default();
                bail!("the virtual machine's card does not come up. Its console:\n{said}\nQEMU says: {qemu}");
            }
        }
        self.tell("the virtual machine's card is on");
        Ok(())
    }

    /// Starts a VMM with its virtual machine, or one that waits for it.
    pub fn spawn(&mut self, vmm: &Vmm, from: Option<&Channels>) -> Result<()> {
        let start = vmm.start(self.vm, &self.card.bdf, self.plan.choice, from);
        let name = vmm.name.clone();
        let (program, arguments) = (start.program, start.arguments);
        self.order(Command::Spawn {
            name,
            program,
            arguments,
        })?;
        self.tell(&format!("{} is started", vmm.name));
        Ok(())
    }

    /// Lets frames come, and waits until the first is answered.
    pub fn receive(&mut self) -> Result<()> {
        let clock = self.machine.clock;
        let wire = self.machine.wire(self.card.number)?;
        let ears = wire.try_clone().context("the wire's other direction")?;
        let listener = listen(ears, clock)?;
        self.evidence.started = clock.now();
        let depth = nanoseconds(self.machine.pace.patience(Duration::from_nanos(DEPTH)));
        let generator = generate(wire, &self.card, self.plan.rate, depth, clock)?;
        self.traffic = Some((generator, listener));
        let end = self.until(DRAIN);
        while self.answered() == 0 {
            ensure!(
                Instant::now() < end,
                "no frame is answered before anything was done"
            );
            std::thread::sleep(LOOK);
        }
        self.tell(&format!(
            "frames come, {} in a second, and are answered",
            self.plan.rate
        ));
        Ok(())
    }

    /// How many frames were answered so far.
    pub fn answered(&self) -> u64 {
        let traffic = self.traffic.as_ref();
        traffic.map_or(0, |(_, listener)| listener.lock().heard.len() as u64)
    }

    /// Lets frames flow for so long, as long as the machine runs.
    pub fn flow(&self, time: Duration) {
        let end = Instant::now() + time;
        let goes_on = || self.machine.console.hang().is_none() && self.machine.runs();
        while Instant::now() < end && goes_on() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The name of another VMM.
    pub fn next_vmm(&mut self) -> Vmm {
        self.named += 1;
        Vmm::named(&format!("vmm{}", self.named))
    }

    /// The end of a time that is the reference host's.
    pub fn until(&self, limit: Duration) -> Instant {
        Instant::now() + self.machine.pace.patience(limit)
    }

    /// Stops the frames, waits for the last echo, and judges. `ended` tells how the run went.
    pub fn end(mut self, ended: Result<()>) -> Result<Outcome> {
        self.evidence.troubles.extend(self.machine.crash());
        if let Err(error) = ended {
            self.evidence.troubles.push(format!("{error:#}"));
        }
        self.stop();
        self.keep_logs();
        self.evidence.troubles.extend(self.machine.console.hang());
        let warnings = self.machine.console.warnings();
        self.evidence.troubles.extend(warnings);
        self.read_trace()?;
        let directory = self.machine.into_directory();
        let verdict = self.evidence.judge();
        let json = serde_json::to_string_pretty(&verdict.report).context("the report as JSON")?;
        directory.write("report.json", &json);
        directory.write("faults", &(verdict.faults.join("\n") + "\n"));
        Ok(Outcome { verdict, directory })
    }

    fn stop(&mut self) {
        let end = self.until(DRAIN);
        let Some((mut generator, mut listener)) = self.traffic.take() else {
            return;
        };
        generator.halt();
        self.evidence.sent = generator.lock().clone();
        let is_last = |echoes: &Echoes| {
            let last = echoes.heard.last();
            last.is_some_and(|(_, echo)| echo.sequence + 1 >= self.evidence.sent.count())
        };
        while Instant::now() < end && !is_last(&listener.lock()) {
            std::thread::sleep(LOOK);
        }
        listener.halt();
        self.evidence.echoes = listener.lock().clone();
        self.evidence.stopped = self.machine.clock.now();
    }

    /// What the virtual machine and its VMMs have said, among the logs. What cannot be read is worth less than the verdict.
    fn keep_logs(&mut self) {
        for number in 1..=self.named {
            let vmm = Vmm::named(&format!("vmm{number}"));
            for path in [vmm.console(), vmm.said()] {
                if let Ok(text) = self.read(&path) {
                    let name = path.trim_start_matches("/tmp/");
                    self.machine.directory.write(&format!("{name}.log"), &text);
                }
            }
        }
    }

    fn read_trace(&mut self) -> Result<()> {
        let (from, to): (Ns, Ns) = (self.evidence.started, self.evidence.stopped);
        let trace = self.machine.end()?;
        let cards = [&self.card, &self.other];
        let trace = Findings::read(trace, self.machine.clock, cards, [from, to, to]);
        let trace = trace.context("QEMU's trace can not be read")?;
        let mut missing = trace.missing();
        missing.extend(self.machine.clock.trouble());
        let missing = missing.iter().map(Trouble::to_string);
        self.evidence.troubles.extend(missing);
        self.evidence.trace = trace;
        Ok(())
    }
}
