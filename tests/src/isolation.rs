// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A device that is not preserved reaches no memory after the jump, until a driver of the new kernel sets it up.
//!
//! The second card's bus mastering is left on for these tests, so that it goes on trying: what stops it is the scrub.

use std::time::Duration;

use anyhow::{ensure, Result};

use crate::outcome::{bad, done, good, plan};
use crate::test::{Bench, End, Test};
use hitless_lab::evidence::event::Harm;
use hitless_lab::evidence::verdict::Kind;
use hitless_lab::machine::profile::TABLE_FORMATS;
use hitless_lab::play::end::Outcome;
use hitless_lab::play::scene::{Plan, Scene, SETTLE};

/// Bus mastering stays on for every device.
const GOES_ON: &str = "hitless.break=clear_master";
/// And nothing is scrubbed.
const NOT_SCRUBBED: &str = "hitless.break=clear_master,scrub";
/// What the new kernel says of a unit with an entry that nobody recorded.
const CLEARED: &str = "entries that nobody recorded were cleared";
/// How long a line of the kernel may take to the console.
const CONSOLE: Duration = Duration::from_secs(5);

pub(crate) fn tests() -> Vec<Test> {
    let scrubbed = TABLE_FORMATS.into_iter().map(|profile| {
        Test::new(
            format!("isolation::{profile}"),
            profile,
            "the second card tries and lands nothing after the jump, and receives again once it is set up anew",
            move |bench| run(bench, profile),
        )
    });
    let twins = TABLE_FORMATS.into_iter().map(|profile| {
        Test::new(
            format!("twin::scrub::{profile}"),
            profile,
            "left out: the second card writes into memory after the jump, until the new kernel clears its entry",
            move |bench| run_twin(bench, profile),
        )
    });
    scrubbed.chain(twins).collect()
}

fn run(bench: &Bench, profile: &str) -> Result<End> {
    let mut scene = bench.boot(Plan {
        second_goes_on: true,
        ..plan("isolation", profile, GOES_ON)?
    })?;
    let ended = play(&mut scene);
    let mut outcome = scene.end(ended)?;
    // The second card's frames after its new set-up are what the search must find: it can fail.
    if outcome.verdict.report.stray_writes == 0 {
        return bad(
            &outcome,
            "the search does not find the frames of a card that receives",
        );
    }
    if outcome.evidence.trace.other_faults == 0 {
        return bad(
            &outcome,
            "the second card did not try to write: nothing is shown",
        );
    }
    // The second card's own reset can not be told from the first's in the trace.
    let expected = [Kind::Strays, Kind::Harm(Harm::CardReset)];
    outcome.verdict.forgive(|kind| expected.contains(&kind));
    good(outcome, bench)
}

fn run_twin(bench: &Bench, profile: &str) -> Result<End> {
    let mut scene = bench.boot(Plan {
        second_goes_on: true,
        ..plan("twin-scrub", profile, NOT_SCRUBBED)?
    })?;
    let ended = jump(&mut scene);
    let cleared = scene.machine.says(CLEARED, CONSOLE);
    let mut outcome = scene.end(ended)?;
    if let Err(why) = writes_until_cleared(&outcome, cleared) {
        return bad(&outcome, &why.to_string());
    }
    done(&mut outcome, bench);
    Ok(End::Passed)
}

fn writes_until_cleared(outcome: &Outcome, cleared: bool) -> Result<()> {
    ensure!(
        !outcome.evidence.jumps.is_empty(),
        "the jump was not reached: {}",
        outcome.verdict.words()
    );
    ensure!(
        outcome.verdict.report.stray_writes > 0,
        "expected: frames of the second card after the jump; seen: none"
    );
    ensure!(
        cleared,
        "the new kernel does not clear an entry that nobody recorded"
    );
    Ok(())
}

fn jump(scene: &mut Scene) -> Result<()> {
    scene.receive_both()?;
    scene.flow(SETTLE);
    scene.prepare()?;
    scene.preserve()?;
    scene.jump()
}

fn play(scene: &mut Scene) -> Result<()> {
    jump(scene)?;
    // Before anything is overwritten: the second card's ring is short.
    nothing_strays(scene)?;
    scene.take_back()?;
    scene.flow(SETTLE);
    nothing_strays(scene)?;
    scene.receive_again(&scene.second.clone())?;
    scene.flow(Duration::from_millis(500));
    Ok(())
}

fn nothing_strays(scene: &mut Scene) -> Result<()> {
    let strays = scene.strays()?;
    ensure!(
        strays == 0,
        "{strays} frames landed after the jump where none may be"
    );
    Ok(())
}
