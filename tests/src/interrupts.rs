// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Interrupts of a card are taken down for an update, and set up again after it or when it is called off.

use anyhow::{bail, ensure, Result};
use hitless_proto::{Answer, Command};
use rustix::io::Errno;

use crate::outcome::{good, plan};
use crate::test::{Bench, End, Test};
use hitless_lab::play::scene::{Scene, SETTLE};
use hitless_lab::play::update::SESSION;

/// Vectors of MSI-X that are set up.
const VECTORS: u32 = 3;
/// How the kernel calls such a vector.
const NAME: &str = "vfio-msix";

pub(crate) fn tests() -> Vec<Test> {
    vec![Test::new(
        "interrupts::are_down_for_the_update_and_up_again",
        "legacy",
        "preserve takes them down, undo and the swap set them up and signal each once; nobody else's are forgotten",
        run,
    )]
}

fn run(bench: &Bench) -> Result<End> {
    let mut scene = bench.boot(plan("interrupts", "legacy", "")?)?;
    let played = play(&mut scene);
    good(scene.end(played)?, bench)
}

fn play(scene: &mut Scene) -> Result<()> {
    let card = scene.first.number;
    scene.receive_both()?;
    scene.flow(SETTLE);
    scene.prepare()?;
    // The twin: without being told the library does not take them down, and the kernel refuses.
    scene.order(Command::Interrupts { card, on: true })?;
    let (session, cards) = (SESSION.to_owned(), vec![card]);
    scene.refused(Command::PreserveAll { session, cards }, Errno::BUSY)?;
    scene.order(Command::Interrupts { card, on: false })?;

    scene.order(Command::Arm {
        card,
        vectors: VECTORS,
    })?;
    are_up(scene, VECTORS as usize)?;
    signalled(scene, 0)?;
    scene.preserve()?;
    are_up(scene, 0)?;
    let session = SESSION.to_owned();
    scene.order(Command::SessionClose { session })?;
    are_up(scene, VECTORS as usize)?;
    signalled(scene, 1)?;
    scene.check("what was called off")?;

    scene.preserve()?;
    scene.jump()?;
    scene.retrieve()?;
    scene.fill_memory()?;
    scene.compact()?;
    are_up(scene, 0)?;
    scene.rebuild()?;
    scene.swap()?;
    are_up(scene, VECTORS as usize)?;
    signalled(scene, 1)?;
    scene.finish()?;
    are_up(scene, VECTORS as usize)?;
    scene.check("finish")
}

/// So many vectors of the first card are set up.
fn are_up(scene: &mut Scene, wanted: usize) -> Result<()> {
    let text = scene.read("/proc/interrupts")?;
    let of_card = |line: &&str| line.contains(NAME) && line.contains(&scene.first.bdf);
    let found = text.lines().filter(of_card).count();
    ensure!(
        found == wanted,
        "{found} vectors are set up instead of {wanted}:\n{text}"
    );
    Ok(())
}

/// Each eventfd was signalled so often since the last time.
fn signalled(scene: &mut Scene, wanted: u64) -> Result<()> {
    let card = scene.first.number;
    match scene.order(Command::Signals { card })? {
        Answer::Signals { counts } => ensure!(
            counts == [wanted; VECTORS as usize],
            "the eventfds were signalled {counts:?} times, and not {wanted} each"
        ),
        other => bail!("the guest answers {other:?} to Signals"),
    }
    Ok(())
}
