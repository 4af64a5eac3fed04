// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every allocation of the kernel's on the way of an update fails once, one after the other: the step fails and has changed
//! nothing, or it does without; the next try works, the frames go on, nothing leaks.

use anyhow::{bail, ensure, Context, Result};
use hitless_proto::{Answer, Command, What};

use crate::debug::{clean, WORDS};
use crate::outcome::{good, plan};
use crate::test::{Bench, End, Test};
use hitless_lab::build::kernel::config::Config;
use hitless_lab::evidence::phases::FURTHER_SWAPS;
use hitless_lab::machine::pace::Rate;
use hitless_lab::play::scene::{Plan, Scene, SETTLE};
use hitless_lab::play::update::{FILES, HWPT_TOKEN, SESSION};

/// Few frames: the slow kernel serves no ring while it scans itself for leaks.
const RATE: u32 = 100;
/// More allocations than any step has.
const MOST: u32 = 2_000;
/// Swaps without faults, with so many microseconds after each: long enough for frames to land meanwhile.
const SWAPS: u32 = 60;
const PAUSE_US: u64 = 10_000;
/// How allocations fail: each that can, small ones and those that may wait too, without a word on the console.
const SETTINGS: [(&str, &str); 5] = [
    ("failslab/ignore-gfp-wait", "N"),
    ("failslab/verbose", "0"),
    ("fail_page_alloc/ignore-gfp-wait", "N"),
    ("fail_page_alloc/min-order", "0"),
    ("fail_page_alloc/verbose", "0"),
];

pub(crate) fn tests() -> Vec<Test> {
    [("legacy", 1), ("scalable-first-stage", 2)]
        .into_iter()
        .map(|(profile, step)| {
            Test::with_kernel(
                Config::Debug,
                format!("faults::every_allocation_fails_once::{profile}"),
                profile,
                "preserve, retrieve of all but memory, bind, restore, swap and finish with each allocation of the kernel's failing once",
                move |bench| run(bench, profile, step),
            )
        })
        .collect()
}

fn run(bench: &Bench, profile: &str, step: u32) -> Result<End> {
    let plan = Plan {
        rate: Rate::AtMost(RATE),
        ..plan("faults", profile, WORDS)?
    };
    let mut scene = bench.boot(plan)?;
    let played = play(&mut scene, step);
    let outcome = scene.end(played)?;
    good(outcome, bench)
}

fn prepare(scene: &mut Scene) -> Result<()> {
    for (name, text) in SETTINGS {
        scene.order(Command::WriteFile {
            path: format!("/sys/kernel/debug/{name}"),
            text: text.to_owned(),
        })?;
    }
    Ok(())
}

fn play(scene: &mut Scene, step: u32) -> Result<()> {
    scene.receive_both()?;
    scene.flow(SETTLE);
    scene.prepare()?;
    scene.mark()?;
    prepare(scene)?;
    for count in 1..=FILES.len() {
        preserve_with_faults(scene, count, step)?;
        scene.check("a preserve that failed")?;
    }
    clean(scene, "preserves that failed")?;
    scene.preserve()?;
    scene.jump()?;
    prepare(scene)?;
    take_back(scene)?;
    scene.check("the update")?;
    clean(scene, "the update")
}

/// Preserves so many files, the last of them with each allocation failing in turn, every `step`th of them. What was preserved
/// is given up after each try.
fn preserve_with_faults(scene: &mut Scene, count: usize, step: u32) -> Result<()> {
    let session = SESSION.to_owned();
    let card = scene.first.number;
    let preserve = |(what, token): (What, u64)| Command::Preserve {
        session: SESSION.to_owned(),
        card,
        what,
        token,
    };
    let (last, before) = FILES[..count].split_last().context("at least one file")?;
    let mut failed = 0;
    for nth in (1..MOST).step_by(step as usize) {
        let create = Command::SessionCreate {
            session: session.clone(),
        };
        scene.order(create)?;
        for file in before {
            scene.order(preserve(*file))?;
        }
        let (injected, error) = faulty(scene, nth, preserve(*last))?;
        let session = session.clone();
        scene.order(Command::SessionClose { session })?;
        failed += u32::from(error.is_some());
        if !injected {
            ensure!(error.is_none(), "{last:?} failed for nothing: {error:?}");
            ensure!(failed > 0, "no allocation of {last:?} failed");
            return Ok(());
        }
    }
    bail!("preserving {last:?} does not come to an end")
}

/// Every step after the jump, each until it has succeeded.
fn take_back(scene: &mut Scene) -> Result<()> {
    let card = scene.first.number;
    let session = || SESSION.to_owned();
    scene.file_by_file();
    scene.order(Command::BindDriver {
        bdf: scene.first.bdf.clone(),
    })?;
    insist(scene, Command::SessionRetrieve { session: session() })?;
    for (what, token) in FILES {
        let retrieve = Command::Retrieve {
            session: session(),
            card,
            what,
            token,
        };
        // Linux gives a memfd's memory up when an allocation fails while it is put into the new file.
        if what == What::Memory {
            scene.order(retrieve)?;
        } else {
            insist(scene, retrieve)?;
        }
    }
    insist(scene, Command::BindDevice { card })?;
    let token = HWPT_TOKEN;
    insist(scene, Command::RestoreHwpt { card, token })?;
    scene.order(Command::Resume { card })?;
    insist(scene, Command::Mappings { card })?;
    scene.rebuild()?;
    insist(scene, Command::Swap { card })?;
    insist(scene, Command::DestroyOld { card })?;
    let from = scene.machine.clock.now();
    scene.swaps(SWAPS, PAUSE_US)?;
    scene.step(FURTHER_SWAPS, from);
    insist(scene, Command::Finish { session: session() })
}

/// Gives an order with each allocation failing in turn, until it has succeeded.
fn insist(scene: &mut Scene, command: Command) -> Result<()> {
    for nth in 1..MOST {
        let (injected, error) = faulty(scene, nth, command.clone())?;
        match error {
            None => return scene.check(&format!("{command:?} with {} faults", nth - 1)),
            Some(error) => ensure!(injected, "{command:?} failed for nothing: {error}"),
        }
    }
    bail!("{command:?} does not come to an end")
}

/// Whether an allocation failed, and why the order did.
fn faulty(scene: &mut Scene, nth: u32, command: Command) -> Result<(bool, Option<String>)> {
    let command = Box::new(command);
    match scene.order(Command::Faulty { nth, command })? {
        Answer::Faulty { injected, error } => Ok((injected, error)),
        other => bail!("the guest answers {other:?} to Faulty"),
    }
}
