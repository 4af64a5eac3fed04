// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The virtual machine goes from one QEMU to the next by way of `hitlessd`, on one kernel and through updates of it.

use std::cell::Cell;

use anyhow::{bail, ensure, Result};
use hitless_lab::build::kernel::config::Config;
use hitless_lab::demo::Request;
use hitless_lab::machine::parts::Parts;
use hitless_lab::machine::vmm::{Channels, Choice, Firmware};
use hitless_lab::play::update::OFF;
use hitless_lab::play::vm::{Outcome, Scene};
use hitless_proto::{Answer, Command};

use super::stage::{bad, begins_anew, good, replace, run, wait, FLOW, STEP, USUAL, VMS};
use crate::test::{Bench, End, Test};

/// The agent in the machine, its folder, and its name for the virtual machine.
const AGENT: &str = "/bin/hitlessd";
const FOLDER: &str = "/tmp/hitlessd";
const NAME: &str = "vm";

pub(super) fn tests() -> [Test; 7] {
    let [legacy, scalable] = VMS;
    let through = |profile| {
        Test::new(
            format!("vm::update::{profile}"),
            profile,
            "the host's kernel is replaced twice by way of hitlessd, and the same boot answers every frame",
            move |bench| updates(bench, "update", profile, USUAL, 2),
        )
    };
    [
        through(legacy),
        through(scalable).long(),
        Test::new(
            "vm::back",
            legacy,
            "hitlessd takes the virtual machine from QEMU, holds it, and gives it to another QEMU on the same kernel",
            move |bench| {
                let outcome = run(bench, "back", legacy, USUAL, |scene| {
                    serve(scene)?;
                    give(scene)?;
                    hold(scene)?;
                    move_to(scene, "give-back", "given")?;
                    hand_on(scene)
                })?;
                good(bench, outcome)
            },
        ),
        Test::new(
            "vm::bios",
            legacy,
            "the host's kernel is replaced once by way of hitlessd, with QEMU's firmware in memory that is mapped for the card and cannot be sealed",
            move |bench| {
                let firmware = Firmware::Memory;
                updates(bench, "bios", legacy, Choice { firmware, ..USUAL }, 1)
            },
        ),
        Test::new(
            "vm::refused",
            legacy,
            "the jump is refused, for the next kernel would switch hitless off: another QEMU on this kernel has the virtual machine",
            move |bench| good(bench, run(bench, "refused", legacy, USUAL, refused)?),
        ),
        Test::new(
            "vm::not_held",
            legacy,
            "the twin of vm::update: hitlessd has the virtual machine and is not told to hold it, and it is gone with the kernel",
            move |bench| begins_anew(bench, "not-held", legacy, not_held),
        )
        .long(),
        Test::new(
            "vm::abandoned",
            legacy,
            "what came through an update is given up: its card is free, and another virtual machine boots with it",
            move |bench| begins_anew(bench, "abandoned", legacy, abandoned),
        ),
    ]
}

fn refused(scene: &mut Scene) -> Result<()> {
    serve(scene)?;
    give(scene)?;
    hold(scene)?;
    OFF.clone_into(&mut scene.plan.words);
    scene.load()?;
    let Err(why) = scene.order(Command::Kexec) else {
        bail!("the machine jumps");
    };
    let why = format!("{why:#}");
    ensure!(why.contains("Invalid argument"), "{why}");
    move_to(scene, "give-back", "given")?;
    hand_on(scene)
}

fn not_held(scene: &mut Scene) -> Result<()> {
    serve(scene)?;
    give(scene)?;
    replace(scene)
}

fn abandoned(scene: &mut Scene) -> Result<()> {
    serve(scene)?;
    give(scene)?;
    hold(scene)?;
    scene.load()?;
    scene.jump()?;
    serve(scene)?;
    move_to(scene, "abandon", "failed")?;
    scene.vmm = scene.next_vmm();
    scene.start_vmm()
}

/// What `cargo lab demo --vm` does.
pub(crate) fn demo(request: &Request<'_>) -> Result<Outcome> {
    let bench = Bench {
        parts: Parts::ready(Config::Hitless)?,
        keep: true,
        most: Cell::new(u32::MAX),
    };
    run(&bench, "demo", request.profile, USUAL, |scene| {
        if request.control {
            return (0..request.updates).try_for_each(|_| replace(scene));
        }
        update(scene, request.updates)
    })
}

/// Updates in a row, and QEMU anew after each.
fn update(scene: &mut Scene, count: usize) -> Result<()> {
    serve(scene)?;
    for number in 1..=count {
        give(scene)?;
        hold(scene)?;
        scene.load()?;
        scene.jump()?;
        serve(scene)?;
        move_to(scene, "retrieve", "given")?;
        hand_on(scene)?;
        // The one after the last update is the caller's.
        if number < count {
            scene.flow(FLOW);
        }
    }
    Ok(())
}

fn updates(bench: &Bench, name: &str, profile: &str, choice: Choice, count: usize) -> Result<End> {
    let outcome = run(bench, name, profile, choice, |scene| update(scene, count))?;
    let kernels = &outcome.verdict.report.kernels;
    let differ = kernels.windows(2).all(|pair| pair[0] != pair[1]);
    if kernels.len() != count + 1 || !differ {
        let faults = outcome.verdict.faults.join("\n");
        return bad(
            &outcome,
            &format!("{count} updates were to be: {kernels:?}; {faults}"),
        );
    }
    good(bench, outcome)
}

/// Starts the agent, which every kernel has to have, and waits until it answers.
fn serve(scene: &mut Scene) -> Result<()> {
    scene.order(Command::Spawn {
        name: "hitlessd".to_owned(),
        program: AGENT.to_owned(),
        arguments: ["--dir", FOLDER, "serve"].map(str::to_owned).to_vec(),
    })?;
    wait(scene, "no hitlessd answers", |scene| {
        Ok(call(scene, &["list"])?.is_empty())
    })
}

/// The QEMU that runs gives its virtual machine to the agent, and is killed.
fn give(scene: &mut Scene) -> Result<()> {
    move_to(scene, "expect", "waiting")?;
    let old = scene.vmm.clone();
    for command in channels().hand_over() {
        scene.ask(&old, command)?;
    }
    arrives(scene, "given")?;
    scene.order(Command::Kill { name: old.name })?;
    Ok(())
}

/// The agent puts the virtual machine into a session.
fn hold(scene: &mut Scene) -> Result<()> {
    move_to(scene, "hold", "held")
}

/// The agent hands the virtual machine to another QEMU, which is the one that runs from here on.
fn hand_on(scene: &mut Scene) -> Result<()> {
    let new = scene.next_vmm();
    scene.spawn(&new, Some(&channels()))?;
    done(scene, &["hand-on", NAME])?;
    let arrived = arrives(scene, "handed on");
    scene.vmm = new;
    arrived
}

/// The sockets in the agent's folder of the virtual machine.
fn channels() -> Channels {
    let [main, cpr] = ["main", "cpr"].map(|kind| format!("{FOLDER}/{NAME}/{kind}.sock"));
    Channels { main, cpr }
}

/// A call after which the virtual machine is at another place.
fn move_to(scene: &mut Scene, call: &str, place: &str) -> Result<()> {
    done(scene, &[call, NAME])?;
    arrives(scene, place)
}

/// Waits until the agent has the virtual machine at this place.
fn arrives(scene: &mut Scene, place: &str) -> Result<()> {
    let patience = scene.machine.pace.patience(STEP).as_secs().to_string();
    let said = call(scene, &["await", NAME, place, "--seconds", &patience])?;
    ensure!(
        said.starts_with(&format!("{NAME}\t{place}\t")),
        "the virtual machine is not {place}: {said}"
    );
    scene.tell(&format!("the virtual machine is {place}"));
    Ok(())
}

/// A call that says nothing where it succeeds.
fn done(scene: &mut Scene, words: &[&str]) -> Result<()> {
    let said = call(scene, words)?;
    ensure!(said.is_empty(), "hitlessd {}: {said}", words.join(" "));
    Ok(())
}

/// What a call of the agent says.
fn call(scene: &mut Scene, words: &[&str]) -> Result<String> {
    let words = ["--dir", FOLDER].iter().chain(words);
    let answer = scene.order(Command::Run {
        program: AGENT.to_owned(),
        arguments: words.map(|&word| word.to_owned()).collect(),
        // The agent's own patience ends before.
        seconds: 2 * scene.machine.pace.patience(STEP).as_secs(),
    })?;
    match answer {
        Answer::Text { text } => Ok(text),
        other => bail!("the guest answers {other:?} to Run"),
    }
}
