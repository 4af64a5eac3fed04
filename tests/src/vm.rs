// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Stock QEMU in the machine, with a Linux virtual machine and a passed-through card.

use std::time::Duration;

use anyhow::{bail, ensure, Result};
use hitless_lab::machine::profile::Profile;
use hitless_lab::play::vm::{Outcome, Plan, Scene};

use crate::test::{Bench, End, Test};

/// The profile with a virtual machine inside.
pub(crate) const VM: &str = "vm";
/// Frames per second: the virtual machine's ring has to hold what comes while it stands still.
const RATE: u32 = 50;
/// How long frames flow before and after something is done.
const FLOW: Duration = Duration::from_secs(3);

pub(crate) fn tests() -> Vec<Test> {
    let about =
        "a virtual machine under QEMU 11 drives a passed-through card, and answers every frame";
    let cpr = "QEMU hands the virtual machine to another QEMU on the same kernel, and every frame is answered";
    vec![
        Test::new("vm::starts", VM, about, |bench| {
            good(bench, run(bench, "vm-starts", |_| Ok(()))?)
        }),
        Test::new("vm::cpr", VM, cpr, |bench| {
            good(bench, run(bench, "vm-cpr", Scene::hand_over)?)
        }),
    ]
}

/// A virtual machine under traffic, something that is done to it, and traffic again.
fn run(bench: &Bench, name: &str, act: impl Fn(&mut Scene) -> Result<()>) -> Result<Outcome> {
    let plan = Plan {
        name: name.to_owned(),
        profile: Profile::load(VM)?,
        rate: RATE.min(bench.most.get()),
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

fn good(bench: &Bench, mut outcome: Outcome) -> Result<End> {
    if !outcome.verdict.faults.is_empty() {
        let words = outcome.verdict.faults.join("\n");
        bail!(
            "{words}; the logs are in {}",
            outcome.directory.path().display()
        );
    }
    if bench.keep {
        println!("{:#?}", outcome.verdict.report);
    } else {
        outcome.directory.discard();
    }
    Ok(End::Passed)
}
