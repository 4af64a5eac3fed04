// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Stock QEMU in the machine, with a Linux virtual machine and a passed-through card. `docs/vm.md` says what is in it.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Result};
use hitless_lab::machine::clock::as_ms;
use hitless_lab::machine::profile::Profile;
use hitless_lab::machine::vmm::{command, Choice, Firmware, MOST_DESCRIPTORS};
use hitless_lab::play::vm::{Outcome, Plan, Scene};
use hitless_proto::Command;
use serde_json::json;

use crate::test::{Bench, End, Test};

mod agent;

/// The profiles with a virtual machine inside.
pub(crate) const VMS: [&str; 2] = ["vm", "scalable-vm"];
/// Frames per second.
const RATE: u32 = 100;
/// What most have.
const USUAL: Choice = Choice {
    ring: MOST_DESCRIPTORS,
    firmware: Firmware::Flash,
};
/// How long a virtual machine stands still, and descriptors that do not last so long: those of a driver that is told nothing.
const PAUSE: Duration = Duration::from_secs(6);
const FEW: u32 = 256;
/// How long frames flow before and after something is done.
const FLOW: Duration = Duration::from_secs(3);
/// How long QEMU may take for anything but its virtual machine's boot, on the reference host.
const STEP: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

pub(crate) fn tests() -> Vec<Test> {
    let [legacy, _] = VMS;
    let mut tests = vec![
        Test::new(
            "vm::starts",
            legacy,
            "a virtual machine under QEMU 11 drives a passed-through card, stands still for six seconds, and answers every frame",
            move |bench| {
                let outcome = run(bench, "starts", legacy, USUAL, pause)?;
                let silence = outcome.verdict.report.longest_silence_ms;
                match Duration::from_secs_f64(silence / 1e3) < PAUSE {
                    true => bad(&outcome, "nobody has seen that it stood still"),
                    false => good(bench, outcome),
                }
            },
        ),
        Test::new(
            "vm::shallow",
            legacy,
            "the same with a ring that does not last so long: the card does not take all frames",
            move |bench| {
                let outcome = run(bench, "shallow", legacy, Choice { ring: FEW, ..USUAL }, pause)?;
                match outcome.verdict.report.not_taken {
                    0 => bad(&outcome, "it has taken all"),
                    _ => Ok(done(bench, outcome)),
                }
            },
        ),
        Test::new(
            "vm::control",
            legacy,
            "the host's kernel is replaced and nothing preserved: the virtual machine boots again, the card is reset",
            move |bench| control(bench, legacy),
        ),
    ];
    tests.extend(agent::tests(legacy));
    for profile in VMS {
        tests.push(Test::new(
            format!("vm::cpr::{profile}"),
            profile,
            "QEMU hands the virtual machine to another QEMU on the same kernel, and every frame is answered",
            move |bench| good(bench, run(bench, "cpr", profile, USUAL, hand_over)?),
        ));
    }
    tests
}

/// A virtual machine under traffic, something that is done to it, and traffic again.
fn run(
    bench: &Bench,
    name: &str,
    profile: &str,
    choice: Choice,
    act: impl Fn(&mut Scene) -> Result<()>,
) -> Result<Outcome> {
    let plan = Plan {
        name: format!("vm-{name}-{profile}"),
        profile: Profile::load(profile)?,
        rate: RATE.min(bench.most.get()),
        choice,
        words: String::new(),
        talk: bench.keep,
    };
    let mut scene = Scene::boot(plan, &bench.parts.clone().with_vm()?)?;
    let steps = |scene: &mut Scene| {
        scene.start_vmm()?;
        scene.receive()?;
        scene.flow(FLOW);
        act(scene)?;
        let before = scene.answered();
        scene.flow(FLOW);
        ensure!(scene.answered() > before, "no more frames are answered");
        Ok(())
    };
    let ended = steps(&mut scene);
    scene.end(ended)
}

/// Lets the virtual machine stand still for a while, with its card on.
fn pause(scene: &mut Scene) -> Result<()> {
    let vmm = scene.vmm.clone();
    scene.ask(&vmm, command("stop", json!({})))?;
    scene.flow(PAUSE);
    scene.ask(&vmm, command("cont", json!({})))?;
    Ok(())
}

/// Starts another VMM beside the one that runs, and lets QEMU hand the virtual machine over by itself. The first one is killed
/// then.
fn hand_over(scene: &mut Scene) -> Result<()> {
    let old = scene.vmm.clone();
    let new = scene.next_vmm();
    let channels = new.channels();
    scene.spawn(&new, Some(&channels))?;
    // It opens the socket for descriptors as soon as it runs, and waits there.
    let listens = |scene: &mut Scene| {
        let sockets = scene.read("/proc/net/unix")?;
        Ok(sockets.lines().any(|line| line.ends_with(&channels.cpr)))
    };
    wait(scene, "no VMM waits", listens)?;
    let [set, migrate] = channels.hand_over();
    scene.ask(&old, set)?;
    let began = scene.machine.clock.now();
    scene.ask(&old, migrate)?;
    for (vmm, question, wanted) in [
        (&old, "query-migrate", "completed"),
        (&new, "query-status", "running"),
    ] {
        wait(scene, "the virtual machine is not handed over", |scene| {
            let answer = scene.ask(vmm, command(question, json!({})))?;
            let status = answer["status"].as_str().unwrap_or_default();
            ensure!(status != "failed", "QEMU hands nothing over: {answer}");
            Ok(status == wanted)
        })?;
    }
    let took = scene.machine.clock.now() - began;
    scene.tell(&format!("handed over in {:.0} ms", as_ms(took)));
    scene.order(Command::Kill { name: old.name })?;
    scene.vmm = new;
    Ok(())
}

/// The host's kernel is replaced, with nothing preserved, and a virtual machine boots on the new one.
fn replace(scene: &mut Scene) -> Result<()> {
    scene.load()?;
    scene.jump()?;
    scene.vmm = scene.next_vmm();
    scene.start_vmm()
}

/// Waits until something is so.
fn wait(
    scene: &mut Scene,
    otherwise: &str,
    mut is_so: impl FnMut(&mut Scene) -> Result<bool>,
) -> Result<()> {
    let end = scene.until(STEP);
    while !is_so(scene)? {
        ensure!(Instant::now() < end, "{otherwise}");
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// The run has to be good.
fn good(bench: &Bench, outcome: Outcome) -> Result<End> {
    match outcome.verdict.faults[..] {
        [] => Ok(done(bench, outcome)),
        [..] => bad(&outcome, &outcome.verdict.faults.join("\n")),
    }
}

/// The twin of the others: what they watch for is seen where it happens.
fn control(bench: &Bench, profile: &str) -> Result<End> {
    let outcome = run(bench, "control", profile, USUAL, replace)?;
    let said = outcome.verdict.faults.join("\n");
    let report = &outcome.verdict.report;
    if [report.boots.len(), report.kernels.len()] != [2, 2] {
        return bad(&outcome, &said);
    }
    for words in ["frames were answered", "own count", "function level reset"] {
        if !said.contains(words) {
            return bad(
                &outcome,
                &format!("`{words}` was to be found wrong, and was not: {said}"),
            );
        }
    }
    Ok(done(bench, outcome))
}

fn bad(outcome: &Outcome, why: &str) -> Result<End> {
    bail!(
        "{why}; the logs are in {}",
        outcome.directory.path().display()
    )
}

fn done(bench: &Bench, mut outcome: Outcome) -> End {
    if bench.keep {
        println!("{:#?}", outcome.verdict.report);
    } else {
        outcome.directory.discard();
    }
    End::Passed
}
