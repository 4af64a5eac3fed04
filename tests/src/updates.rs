// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The main job in each table format, its control, and many swaps under fast traffic.

use std::time::Duration;

use anyhow::{ensure, Result};

use crate::crowd::CROWD;
use crate::outcome::{bad, done, good, plan};
use crate::tenants::PROFILE as TENANTS;
use crate::test::{Bench, End, Test};
use crate::vm::VMS;
use hitless_lab::evidence::phases::FURTHER_SWAPS;
use hitless_lab::machine::pace::Rate;
use hitless_lab::machine::profile::{Profile, TABLE_FORMATS};
use hitless_lab::play::scene::{Plan, Scene, SETTLE};
use hitless_lab::play::update::OFF;

/// Frames per second at which a swap that is not atomic is sure to be hit.
const FAST: u32 = 4000;
/// Swaps of the machine test of the swap.
const SWAPS: u32 = 200;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    // Machines with more on them have tests of their own that do more.
    let others = [CROWD, TENANTS];
    let plain = |name: &&str| !others.contains(name) && !VMS.contains(name);
    for profile in Profile::names().filter(plain) {
        tests.push(Test::new(
            format!("update::{profile}"),
            profile,
            "two updates in a row under traffic lose nothing",
            move |bench| two_updates(bench, profile),
        ));
    }
    for profile in TABLE_FORMATS {
        tests.push(Test::new(
            format!("control::{profile}"),
            profile,
            "the same with hitless=off loses frames",
            move |bench| control(bench, profile),
        ));
        tests.push(Test::new(
            format!("swaps::{profile}"),
            profile,
            "200 swaps at 4000 frames/s, or more at fewer, meet no fault and lose nothing",
            move |bench| swaps(bench, profile),
        ));
    }
    tests
}

fn two_updates(bench: &Bench, profile: &str) -> Result<End> {
    let scene = bench.boot(plan("update", profile, "")?)?;
    good(scene.play(2, SETTLE, Scene::update)?, bench)
}

fn control(bench: &Bench, profile: &str) -> Result<End> {
    let scene = bench.boot(plan("control", profile, OFF)?)?;
    let mut outcome = scene.play(1, Duration::from_millis(500), Scene::update_without)?;
    let report = &outcome.verdict.report;
    if report.updates != 1 || outcome.verdict.is_good() {
        return bad(
            &outcome,
            "the kernel was not replaced, or nothing was found wrong",
        );
    }
    // From the jump on nothing lands, and the card takes nothing: what was on its way is lost.
    let missing = report.lost + report.not_taken;
    if report.lost == 0 || missing * 4 < report.frames_sent {
        return bad(
            &outcome,
            &format!(
                "only {} of {} frames were lost, and {} not taken",
                report.lost, report.frames_sent, report.not_taken
            ),
        );
    }
    if report.frames_during_jump > 0 {
        return bad(&outcome, "frames landed during the jump");
    }
    done(&mut outcome, bench);
    Ok(End::Passed)
}

fn swaps(bench: &Bench, profile: &str) -> Result<End> {
    let mut scene = bench.boot(Plan {
        rate: Rate::AtMost(FAST),
        ..plan("swaps", profile, "")?
    })?;
    let ended = many_swaps(&mut scene);
    good(scene.end(ended)?, bench)
}

/// An update up to its swap, so that the first one replaces a restored domain, and then the others.
fn many_swaps(scene: &mut Scene) -> Result<()> {
    scene.receive_both()?;
    scene.flow(SETTLE);
    scene.prepare()?;
    scene.preserve()?;
    scene.jump()?;
    scene.retrieve()?;
    scene.rebuild()?;
    scene.swap()?;
    let from = scene.machine.clock.now();
    // At a lower rate it takes more of them to meet as many frames.
    let longest = scene.swaps(SWAPS * FAST.div_ceil(scene.rate), 2_000)?;
    scene.step(FURTHER_SWAPS, from);
    let limit = scene.machine.pace.patience(Duration::from_secs(1));
    ensure!(
        Duration::from_nanos(longest) < limit,
        "a swap took {} ms",
        longest / 1_000_000
    );
    scene.finish()?;
    scene.check("finish")
}
