// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A device that is not preserved reaches no memory after the jump, until a driver of the new kernel sets it up.

use std::time::Duration;

use anyhow::{ensure, Result};

use crate::run::profile::TABLE_FORMATS;
use crate::run::qemu::SLOTS;
use crate::run::scene::{Scene, SETTLE};
use crate::run::trace::Harm;
use crate::suite::updates::{bad, done, plan};
use crate::suite::{Bench, End, Test};

pub(crate) fn tests() -> Vec<Test> {
    TABLE_FORMATS
        .into_iter()
        .map(|profile| {
            Test::new(
                format!("isolation::{profile}"),
                profile,
                "the second card lands nothing after the jump, and receives again once it is set up anew",
                move |bench| run(bench, profile),
            )
        })
        .collect()
}

fn run(bench: &Bench, profile: &str) -> Result<End> {
    let mut scene = Scene::boot(plan("isolation", profile, "")?, &bench.parts)?;
    let ended = play(&mut scene);
    let mut outcome = scene.end(ended)?;
    // The second card's frames after its new set-up are what the search must find: it can fail.
    let strays = outcome.verdict.report.stray_writes;
    if strays == 0 {
        return bad(
            &outcome,
            "the search does not find the frames of a card that receives",
        );
    }
    outcome.verdict.faults.retain(|fault| {
        // The second card's own reset can not be told from the first's in the trace.
        !fault.ends_with("stray writes") && !fault.starts_with(Harm::CardReset.words())
    });
    if !outcome.verdict.is_good() {
        return bad(&outcome, &outcome.verdict.faults.join("; "));
    }
    done(&mut outcome, bench);
    Ok(End::Passed)
}

fn play(scene: &mut Scene) -> Result<()> {
    scene.receive_both()?;
    scene.flow(SETTLE);
    scene.prepare()?;
    scene.preserve()?;
    scene.jump()?;
    // Before anything is overwritten: the second card's ring is short.
    nothing_strays(scene)?;
    scene.take_back()?;
    scene.flow(SETTLE);
    nothing_strays(scene)?;
    scene.receive_again(SLOTS[1])?;
    scene.flow(Duration::from_millis(500));
    Ok(())
}

fn nothing_strays(scene: &Scene) -> Result<()> {
    let strays = scene.strays()?;
    ensure!(
        strays.is_empty(),
        "{} frames landed after the jump where none may be, the first: {:x?}",
        strays.len(),
        strays.first()
    );
    Ok(())
}
