// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine does not jump into a kernel that would not take over what runs on, and says why.
//!
//! What a next kernel without hitless does to the devices is shown by `control::` and `twin::image`.

use anyhow::{ensure, Result};
use rustix::io::Errno;

use crate::outcome::{bad, done, good, plan};
use crate::steps::{jump_refused, nothing_lands, says, until_preserved};
use crate::test::{Bench, End, Test};
use crate::twins::harm_at;
use hitless_lab::evidence::event::Harm;
use hitless_lab::play::scene::Scene;
use hitless_lab::play::update::OFF;

/// With this on its command line an image is jumped into whatever it says.
const ANYWAY: &str = "hitless.jump=anyway";

/// What is left out in the twins.
const NO_CHECK: &str = "hitless.break=image";

/// The log of the previous kernel, and what it says then.
const PREVIOUS: &str = "/sys/kernel/debug/hitless/previous_log";
const OVERRULED: &str = "image not accepted and overruled: ImageWithoutHitless";

/// What is changed of the image, and where (docs/abi.md, `ImageSer`).
const GONE: (usize, &[u8]) = (0, b"HTLX");
const OLDER: (usize, &[u8]) = (12, &[0, 0, 0, 0]);
const NEWER: (usize, &[u8]) = (12, &[2, 0, 3, 0]);
const TAKES_NOTHING: (usize, &[u8]) = (16, &[0; 8]);
const NEEDS_SOMETHING: (usize, &[u8]) = (31, &[0x10]);
/// A feature that nobody knows, and nobody needs.
const TAKES_MORE: (usize, &[u8]) = (23, &[0x10]);

/// Images, and what is said of them.
const EDITS: [((usize, &[u8]), &str); 5] = [
    (GONE, "next kernel has no hitless"),
    (OLDER, "next kernel takes over another format"),
    (NEWER, "next kernel takes over another format"),
    (TAKES_NOTHING, "does not take over all that is in use"),
    (NEEDS_SOMETHING, "needs what is not handed over"),
];

/// Command lines, and what is said of them.
const WORDS: [(&str, &str); 9] = [
    ("hitless=off", "switches hitless off"),
    ("\"hitless=off\"", "switches hitless off"),
    ("kho=off", "does not switch kho and liveupdate on"),
    ("liveupdate=off", "does not switch kho and liveupdate on"),
    ("intel_iommu=off", "does not switch the IOMMU on"),
    ("iommu=off", "does not switch the IOMMU on"),
    ("intremap=off", "changes the remapping of interrupts"),
    ("pci=assign-busses", "changes the numbers or the isolation"),
    (
        "pci=disable_acs_redir=00:02.0",
        "changes the numbers or the isolation",
    ),
];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "image::what_does_not_fit_is_refused".to_owned(),
            "legacy",
            "images without hitless, older, newer, and command lines that switch something off: no jump, and the next try works",
            |bench| run(bench, refused),
        ),
        Test::new(
            "image::anyway".to_owned(),
            "legacy",
            "with hitless.jump=anyway the machine jumps into an image that says nothing, and says so",
            |bench| run(bench, anyway),
        ),
        Test::new(
            "twin::image".to_owned(),
            "legacy",
            "left out: the machine jumps into a kernel with hitless=off, which stops the device",
            |bench| run_twin(bench, unfit),
        ),
        Test::new(
            "twin::second_jump".to_owned(),
            "legacy",
            "left out: a kernel that has not swapped a device jumps, and the device stops",
            |bench| run_twin(bench, twice),
        ),
    ]
}

/// The check of the image is left out.
fn run_twin(bench: &Bench, play: fn(&mut Scene) -> Result<()>) -> Result<End> {
    let mut scene = bench.boot(plan("twin-image", "legacy", NO_CHECK)?)?;
    let played = play(&mut scene);
    let mut outcome = scene.end(Ok(()))?;
    if let Err(why) = played {
        return bad(&outcome, &format!("{why:#}"));
    }
    if harm_at(&outcome, Harm::BusMasterOff).is_none() {
        return bad(&outcome, "the device was not stopped");
    }
    done(&mut outcome, bench);
    Ok(End::Passed)
}

fn unfit(scene: &mut Scene) -> Result<()> {
    scene.plan.words = format!("{NO_CHECK} {OFF}");
    until_preserved(scene)?;
    scene.jump()?;
    nothing_lands(scene)
}

fn twice(scene: &mut Scene) -> Result<()> {
    until_preserved(scene)?;
    scene.jump()?;
    scene.load()?;
    scene.jump()?;
    nothing_lands(scene)
}

fn run(bench: &Bench, play: fn(&mut Scene) -> Result<()>) -> Result<End> {
    let mut scene = bench.boot(plan("image", "legacy", "")?)?;
    let played = play(&mut scene);
    let outcome = scene.end(played)?;
    good(outcome, bench)
}

fn refused(scene: &mut Scene) -> Result<()> {
    until_preserved(scene)?;
    for ((at, bytes), words) in EDITS {
        scene.load_edited(at, bytes)?;
        jump_refused(scene, Errno::INVAL, words)?;
    }
    for (line, words) in WORDS {
        line.clone_into(&mut scene.plan.words);
        scene.load()?;
        jump_refused(scene, Errno::INVAL, words)?;
    }
    scene.plan.words.clear();
    let (at, bytes) = TAKES_MORE;
    scene.load_edited(at, bytes)?;
    scene.jump()?;
    scene.take_back()
}

fn anyway(scene: &mut Scene) -> Result<()> {
    until_preserved(scene)?;
    ANYWAY.clone_into(&mut scene.plan.words);
    let (at, bytes) = GONE;
    scene.load_edited(at, bytes)?;
    scene.jump()?;
    says(
        scene,
        "jumping all the same, though: next kernel has no hitless",
    )?;
    let log = scene.read(PREVIOUS)?;
    ensure!(
        log.contains(OVERRULED),
        "the next kernel does not know why: {log}"
    );
    scene.take_back()
}
