// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A device that arrives running and that the new kernel does not take over is stopped before it is an ordinary device:
//! nothing of it lands any more, what it used is free, and a driver can set it up anew.

use anyhow::{ensure, Result};
use hitless_proto::Command;
use rustix::io::Errno;

use crate::outcome::{bad, done, plan};
use crate::steps::{
    nothing_lands, open, preserve_some, quiet, receives, retrieve, says, until_preserved,
};
use crate::test::{Bench, End, Test};
use crate::twins::{entry, harm_at, hello};
use hitless_lab::evidence::event::Harm;
use hitless_lab::machine::pace::Rate;
use hitless_lab::machine::profile::TABLE_FORMATS;
use hitless_lab::play::end::Outcome;
use hitless_lab::play::scene::{Plan, Scene, SETTLE};
use hitless_lab::play::update::{FILES, HWPT_TOKEN};

/// Few frames: each of them burns a whole ring of descriptors in faults.
const RATE: u32 = 100;
/// What is left out in the twin of the test without a device.
const TRANSLATION: &str = "hitless.break=translation";
/// A card that there is not.
const NOBODY: u8 = 9;

/// Why the new kernel does not take the device over.
#[derive(Clone, Copy)]
struct Cause {
    name: &'static str,
    about: &'static str,
    /// Words on the new kernel's command line.
    words: &'static str,
    /// What it says.
    says: [&'static str; 2],
    /// When the session is finished: there is nothing to wait for.
    finish: Finish,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Finish {
    /// This kernel knows nothing of sessions with such files.
    Never,
    /// Before the device is used again.
    Before,
    /// While it is in use, which does not disturb it.
    After,
}

const CAUSES: [Cause; 3] = [
    Cause {
        name: "records_that_disagree",
        about: "IOMMU records without the record of devices are refused: the device is stopped, finish accepted",
        words: "hitless.break=pci_record",
        says: ["is blocked", "no such entry: stopped"],
        finish: Finish::Before,
    },
    Cause {
        name: "a_unit_that_is_refused",
        about: "records that agree, of a unit that does not fit: the device is stopped and free, its file refused",
        words: "hitless.break=unit",
        says: [
            "unit's capabilities are not the recorded ones",
            "are not the recorded ones: stopped",
        ],
        finish: Finish::After,
    },
    Cause {
        name: "hitless_off_and_pass_through",
        about: "a new kernel with hitless=off and iommu=pt does not let the device loose on all memory",
        words: "hitless=off iommu=pt hitless.jump=anyway",
        says: ["for unknown devices: it is blocked", "it was left running: stopped"],
        finish: Finish::Never,
    },
];

pub(crate) fn tests() -> Vec<Test> {
    CAUSES
        .into_iter()
        .flat_map(|cause| {
            TABLE_FORMATS.into_iter().map(move |profile| {
                let name = format!("stopped::{}::{profile}", cause.name);
                Test::new(name, profile, cause.about, move |bench| {
                    run(bench, cause, profile)
                })
            })
        })
        .chain([Test::new(
            "lifecycle::a_session_without_its_device",
            "legacy",
            "memory and iommufd alone are handed over, retrieved and finished; the device is not preserved and stops",
            |bench| run_without_device(bench, ""),
        )])
        .chain([Test::new(
            "twin::without_device",
            "legacy",
            "left out: with no device preserved the unit stops translating",
            |bench| run_without_device(bench, TRANSLATION),
        )])
        .collect()
}

fn run(bench: &Bench, cause: Cause, profile: &str) -> Result<End> {
    let plan = Plan {
        rate: Rate::AtMost(RATE),
        ..plan(cause.name, profile, "")?
    };
    let mut scene = bench.boot(plan)?;
    let played = play(&mut scene, cause);
    let mut outcome = scene.end(Ok(()))?;
    if let Err(why) = played.and_then(|()| stopped_in_time(&outcome)) {
        return bad(&outcome, &format!("{why:#}"));
    }
    done(&mut outcome, bench);
    Ok(End::Passed)
}

fn play(scene: &mut Scene, cause: Cause) -> Result<()> {
    cause.words.clone_into(&mut scene.plan.words);
    until_preserved(scene)?;
    scene.jump()?;
    for words in cause.says {
        says(scene, words)?;
    }
    nothing_lands(scene)?;
    if cause.finish != Finish::Never {
        open(scene)?;
    }
    if cause.finish == Finish::Before {
        scene.finish()?;
    }
    scene.fill_memory()?;
    nothing_lands(scene)?;
    quiet(scene)?;
    if cause.finish == Finish::After {
        let [.., device] = FILES;
        scene.order(Command::BindDriver {
            bdf: scene.first.bdf.clone(),
        })?;
        // Under another number: the guest is to set the card up by itself.
        scene.refused(retrieve(NOBODY, device), Errno::NODEV)?;
    }
    scene.receive_again(&scene.first.clone())?;
    receives(scene)?;
    if cause.finish == Finish::After {
        scene.finish()?;
        receives(scene)?;
    }
    Ok(())
}

/// A session without its device is whole: memory and page tables come back, nothing is blocked, and it can be finished.
///
/// No unit stops translating for that, though nobody goes on behind it: left out, it does.
fn run_without_device(bench: &Bench, left_out: &str) -> Result<End> {
    let plan = Plan {
        rate: Rate::AtMost(RATE),
        ..plan("without-device", "legacy", left_out)?
    };
    let mut scene = bench.boot(plan)?;
    let played = play_without_device(&mut scene);
    let mut outcome = scene.end(Ok(()))?;
    if let Err(why) = played {
        return bad(&outcome, &format!("{why:#}"));
    }
    let stops = harm_at(&outcome, Harm::TranslationOff).is_some();
    if stops == left_out.is_empty() {
        return bad(&outcome, &format!("the unit stops translating: {stops}"));
    }
    done(&mut outcome, bench);
    Ok(End::Passed)
}

fn play_without_device(scene: &mut Scene) -> Result<()> {
    scene.receive_both()?;
    scene.flow(SETTLE);
    scene.prepare()?;
    scene.mark()?;
    let [memory, iommufd, _] = FILES;
    preserve_some(scene, 2)?;
    scene.jump()?;
    nothing_lands(scene)?;
    open(scene)?;
    for file in [memory, iommufd] {
        scene.order(retrieve(scene.first.number, file))?;
    }
    scene.order(Command::RestoreHwpt {
        card: scene.first.number,
        token: HWPT_TOKEN,
    })?;
    scene.finish()?;
    ensure!(
        !scene.machine.console.says("is blocked"),
        "a unit is blocked though no device was preserved"
    );
    quiet(scene)
}

/// Bus mastering was switched off after the new kernel had begun, and before its user space had.
fn stopped_in_time(outcome: &Outcome) -> Result<()> {
    let off = harm_at(outcome, Harm::BusMasterOff);
    ensure!(
        off.is_some() && off > entry(outcome) && off < hello(outcome),
        "bus mastering was not switched off by the new kernel before its user space began"
    );
    Ok(())
}
