// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Stock QEMU in the machine, with a Linux virtual machine and a passed-through card. `docs/vm.md` says what is in it.

use std::time::Duration;

use anyhow::{ensure, Result};
use hitless_lab::machine::clock::as_ms;
use hitless_lab::machine::vmm::{command, Choice};
use hitless_lab::play::vm::Scene;
use hitless_proto::Command;
use serde_json::json;

use self::stage::{bad, begins_anew, done, good, replace, run, wait, USUAL};
use crate::test::Test;

mod agent;
mod stage;

pub(crate) use self::agent::demo;
pub(crate) use self::stage::VMS;

/// How long a virtual machine stands still, and descriptors that do not last so long: those of a driver that is told nothing.
const PAUSE: Duration = Duration::from_secs(6);
const FEW: u32 = 256;

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
        )
        .long(),
        Test::new(
            "vm::control",
            legacy,
            "the host's kernel is replaced and nothing preserved: the virtual machine boots again, the card is reset",
            move |bench| begins_anew(bench, "control", legacy, replace),
        ),
    ];
    tests.extend(agent::tests());
    for profile in VMS {
        let test = Test::new(
            format!("vm::cpr::{profile}"),
            profile,
            "QEMU hands the virtual machine to another QEMU on the same kernel, and every frame is answered",
            move |bench| good(bench, run(bench, "cpr", profile, USUAL, hand_over)?),
        );
        tests.push(if profile == legacy { test } else { test.long() });
    }
    tests
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
