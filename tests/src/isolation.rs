// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A device that is not preserved reaches no memory after the jump, until a driver of the new kernel sets it up.
//!
//! The second card's bus mastering is left on for these tests, so that it goes on trying: what stops it is the scrub, and in
//! the new kernel that it is found running.

use std::time::Duration;

use anyhow::{ensure, Result};

use crate::outcome::{bad, done, good, plan};
use crate::steps::until_preserved;
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
/// And some memory is nobody's.
const RESERVED: &str = "hitless.break=clear_master memmap=4M$0x20000000";
/// What the new kernel is told: a device of which nothing is known gets all of memory.
const LATE: &str = "iommu=pt memmap=4M$0x20000000";
/// And what is found running is not stopped.
const LATE_NOT_STOPPED: &str = "hitless.break=found iommu=pt memmap=4M$0x20000000";
/// The address of the second card's memory, which is one of the machine's memory, too: of a part that nobody uses.
const PHYSICAL: u64 = 0x2000_0000;
/// What the new kernel says of a card that it finds running.
const STOPPED: &str = "it was left running: stopped";
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
    let late = TABLE_FORMATS.into_iter().map(|profile| {
        Test::new(
            format!("isolation::late::{profile}"),
            profile,
            "a card that is still bus master is stopped when it is found, before iommu=pt could let it loose on all memory",
            move |bench| run_late(bench, profile, LATE, Late::Nothing),
        )
    });
    let late_twin = Test::new(
        "twin::found",
        "legacy",
        "left out: with iommu=pt, frames that come late land at physical addresses",
        |bench| run_late(bench, "legacy", LATE_NOT_STOPPED, Late::Strays),
    );
    scrubbed
        .chain(twins)
        .chain(late)
        .chain([late_twin])
        .collect()
}

/// What becomes of frames that come late.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Late {
    Nothing,
    Strays,
}

/// The second card gets its frames when the new kernel's user space is up. One that gets them all the time has spent its
/// ring in faults a few milliseconds after the jump, and would show nothing.
fn run_late(bench: &Bench, profile: &str, words: &str, late: Late) -> Result<End> {
    let mut scene = bench.boot(Plan {
        second_goes_on: true,
        second_iova: PHYSICAL,
        ..plan("late", profile, RESERVED)?
    })?;
    let played = play_late(&mut scene, words, late);
    let mut outcome = scene.end(Ok(()))?;
    if let Err(why) = played {
        return bad(&outcome, &format!("{why:#}"));
    }
    if late == Late::Strays {
        done(&mut outcome, bench);
        return Ok(End::Passed);
    }
    outcome.verdict.forgive(|kind| kind == Kind::Strays);
    good(outcome, bench)
}

fn play_late(scene: &mut Scene, words: &str, late: Late) -> Result<()> {
    scene.receive_both()?;
    scene.flow(SETTLE);
    words.clone_into(&mut scene.plan.words);
    scene.prepare()?;
    scene.preserve()?;
    scene.pause_second(true);
    scene.jump()?;
    scene.ring_without_iommu()?;
    scene.pause_second(false);
    scene.flow(scene.machine.pace.patience(SETTLE));
    let strays = scene.strays()?;
    let stopped = scene.machine.console.says(STOPPED);
    if late == Late::Strays {
        ensure!(!stopped, "the card was stopped");
        ensure!(strays > 0, "no frame landed at a physical address");
        return Ok(());
    }
    ensure!(stopped, "the new kernel does not say `{STOPPED}`");
    ensure!(
        strays == 0,
        "{strays} frames landed after the jump where none may be"
    );
    scene.take_back()?;
    nothing_strays(scene)?;
    // The search can find something, and the card is as good as any.
    scene.receive_again(&scene.second.clone())?;
    scene.flow(scene.machine.pace.patience(SETTLE));
    ensure!(
        scene.strays()? > 0,
        "the search does not find the frames of a card that receives"
    );
    Ok(())
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
    until_preserved(scene)?;
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
