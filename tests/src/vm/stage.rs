// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What all tests with a virtual machine share: how one is run, waited for, and judged.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Result};
use hitless_lab::machine::profile::Profile;
use hitless_lab::machine::vmm::{Choice, Firmware, MOST_DESCRIPTORS};
use hitless_lab::play::vm::{Outcome, Plan, Scene};

use crate::test::{Bench, End};

/// The profiles with a virtual machine inside.
pub(crate) const VMS: [&str; 2] = ["vm", "scalable-vm"];
/// Frames per second.
const RATE: u32 = 100;
/// What most have.
pub(super) const USUAL: Choice = Choice {
    ring: MOST_DESCRIPTORS,
    firmware: Firmware::Flash,
};
/// How long frames flow before and after something is done.
pub(super) const FLOW: Duration = Duration::from_secs(3);
/// How long QEMU may take for anything but its virtual machine's boot, on the reference host.
pub(super) const STEP: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// A virtual machine under traffic, something that is done to it, and traffic again.
pub(super) fn run(
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

/// Waits until something is so.
pub(super) fn wait(
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
pub(super) fn good(bench: &Bench, outcome: Outcome) -> Result<End> {
    match outcome.verdict.faults[..] {
        [] => Ok(done(bench, outcome)),
        [..] => bad(&outcome, &outcome.verdict.faults.join("\n")),
    }
}

/// The run has failed, for this reason.
pub(super) fn bad(outcome: &Outcome, why: &str) -> Result<End> {
    bail!(
        "{why}; the logs are in {}",
        outcome.directory.path().display()
    )
}

/// The run was what it should be.
pub(super) fn done(bench: &Bench, mut outcome: Outcome) -> End {
    if bench.keep {
        println!("{:#?}", outcome.verdict.report);
    } else {
        outcome.directory.discard();
    }
    End::Passed
}

/// The host's kernel is replaced, with nothing preserved, and a virtual machine boots on the new one.
pub(super) fn replace(scene: &mut Scene) -> Result<()> {
    scene.load()?;
    scene.jump()?;
    scene.vmm = scene.next_vmm();
    scene.start_vmm()
}

/// What the others watch for is seen where it happens: another boot, frames without an answer, a reset of the card.
pub(super) fn begins_anew(
    bench: &Bench,
    name: &str,
    profile: &str,
    act: fn(&mut Scene) -> Result<()>,
) -> Result<End> {
    let outcome = run(bench, name, profile, USUAL, act)?;
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
