// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From freeze on until the next kernel's user space has the device, nobody resets it or changes it, whoever tries.
//!
//! Processes go on running for a while after freeze: `reboot()` stops nobody before it stops the processors.

use anyhow::Result;
use hitless_proto::{Bdf, Command, Write};
use rustix::io::Errno;

use crate::outcome::{bad, done, good, plan};
use crate::steps::until_preserved;
use crate::test::{Bench, End, Test};
use hitless_lab::play::scene::Scene;

/// What the old kernel says as soon as a device is frozen.
const FROZE: &str = "hitless: froze device";
/// The command register, and a value without bus mastering.
const COMMAND: u64 = 4;
const NO_BUS_MASTER: [u8; 2] = [2, 0];

pub(crate) fn tests() -> Vec<Test> {
    let storms = [
        (
            "frozen::nothing_changes_until_the_jump",
            "resets and writes of the command register from freeze on, of the device and of the bus, are refused",
            "",
        ),
        (
            "twin::frozen",
            "left out: what user space does after freeze stops the device",
            "hitless.break=freeze",
        ),
    ];
    let storms = storms.into_iter().map(|(name, about, words)| {
        Test::new(name.to_owned(), "legacy", about, move |bench| {
            storm(bench, words)
        })
    });
    let arrived = Test::new(
        "frozen::no_reset_until_it_is_swapped".to_owned(),
        "legacy",
        "after the jump every reset is refused with EBUSY, by its owner and through sysfs, until the device is swapped",
        arrived,
    );
    storms.chain([arrived]).collect()
}

fn sysfs(bdf: impl std::fmt::Display, file: &str) -> String {
    format!("/sys/bus/pci/devices/{bdf}/{file}")
}

/// The files by which the first card, or the bus that it is on, is reset.
fn resets(scene: &Scene) -> Vec<String> {
    let card = &scene.first;
    let above = card.above.iter().take(1);
    let port = above.map(|port| sysfs(Bdf::from_number((*port).into()), "reset_subordinate"));
    std::iter::once(sysfs(&card.bdf, "reset"))
        .chain(port)
        .collect()
}

fn storm(bench: &Bench, words: &str) -> Result<End> {
    let mut scene = bench.boot(plan("frozen", "legacy", words)?)?;
    let played = play_storm(&mut scene, words.is_empty());
    let mut outcome = scene.end(played)?;
    if words.is_empty() {
        return good(outcome, bench);
    }
    let harmed = !outcome.evidence.trace.harms.is_empty();
    if outcome.verdict.is_good() || !harmed {
        return bad(&outcome, "nothing was done to the device");
    }
    done(&mut outcome, bench);
    Ok(End::Passed)
}

fn play_storm(scene: &mut Scene, survives: bool) -> Result<()> {
    until_preserved(scene)?;
    let reset = |path| Write {
        path,
        at: 0,
        bytes: b"1".to_vec(),
    };
    let mut writes: Vec<_> = resets(scene).into_iter().map(reset).collect();
    writes.push(Write {
        path: sysfs(&scene.first.bdf, "config"),
        at: COMMAND,
        bytes: NO_BUS_MASTER.to_vec(),
    });
    scene.order(Command::WriteAfter {
        words: FROZE.to_owned(),
        writes,
    })?;
    scene.jump()?;
    if survives {
        scene.take_back()?;
    }
    Ok(())
}

fn arrived(bench: &Bench) -> Result<End> {
    let mut scene = bench.boot(plan("no-reset", "legacy", "")?)?;
    let played = play_arrived(&mut scene);
    let outcome = scene.end(played)?;
    good(outcome, bench)
}

fn play_arrived(scene: &mut Scene) -> Result<()> {
    until_preserved(scene)?;
    scene.jump()?;
    let card = scene.first.number;
    refused(scene)?;
    scene.retrieve()?;
    refused(scene)?;
    scene.refused(Command::ResetDevice { card }, Errno::BUSY)?;
    scene.rebuild()?;
    refused(scene)?;
    scene.refused(Command::ResetDevice { card }, Errno::BUSY)?;
    scene.check("resets that were refused")?;
    scene.swap()?;
    scene.finish()
}

fn refused(scene: &mut Scene) -> Result<()> {
    for path in resets(scene) {
        let text = "1".to_owned();
        scene.refused(Command::WriteFile { path, text }, Errno::BUSY)?;
    }
    Ok(())
}
