// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the library for VMMs does beside the calls in their order: interrupts, and a comparison of mappings.

use anyhow::{bail, ensure, Result};
use hitless_proto::{Answer, Command, Step};
use rustix::io::Errno;

use crate::outcome::{good, plan};
use crate::test::{Bench, End, Test};
use crate::uapi::map_pieces;
use hitless_lab::evidence::event::Harm;
use hitless_lab::evidence::phases::{PRESERVE, RETRIEVE};
use hitless_lab::evidence::verdict::Kind;
use hitless_lab::machine::pace::Rate;
use hitless_lab::play::scene::{Plan, Scene, SETTLE};
use hitless_lab::play::update::SESSION;

/// Frames per second: the ring is not served while many orders are given.
const RATE: u32 = 400;
/// Vectors of MSI-X that are set up.
const VECTORS: u32 = 3;
/// How the kernel calls such a vector.
const NAME: &str = "vfio-msix";

pub(crate) fn tests() -> Vec<Test> {
    type Play = fn(&mut Scene) -> Result<()>;
    let all: [(&str, &str, Play); 2] = [
        (
            "library::interrupts_are_down_for_the_update_and_up_again",
            "preserve takes them down, undo and the swap set them up and signal each once; others are refused",
            interrupts,
        ),
        (
            "library::rebuilds_what_the_kernel_lists",
            "130 mappings, some for reading only, that the VMM named and the kernel lists, are found to be the same",
            mappings,
        ),
    ];
    let tests = all.into_iter().map(|(name, about, play)| {
        Test::new(name, "legacy", about, move |bench| run(bench, name, play))
    });
    let two = Test::new(
        "library::one_of_two_cards_is_given_up",
        "legacy",
        "a process gives one card up and dies; the next one leaves it alone, and goes on with the other",
        two_cards,
    );
    tests.chain([two]).collect()
}

/// Two cards with an iommufd each, in one session.
fn two_cards(bench: &Bench) -> Result<End> {
    let mut scene = bench.boot(Plan {
        second_goes_on: true,
        ..plan("two-cards", "legacy", "")?
    })?;
    let played = play_two(&mut scene);
    let mut outcome = scene.end(played)?;
    // The second card is preserved here: its frames land, and are meant to. Its first reset is not the first card's.
    let expected = [Kind::Strays, Kind::Harm(Harm::CardReset)];
    outcome.verdict.forgive(|kind| expected.contains(&kind));
    good(outcome, bench)
}

fn play_two(scene: &mut Scene) -> Result<()> {
    let (card, other) = (scene.first.number, scene.second.number);
    let session = || SESSION.to_owned();
    scene.receive_both()?;
    scene.flow(SETTLE);
    scene.prepare()?;
    let from = scene.machine.clock.now();
    scene.order(Command::PreserveAll {
        session: session(),
        cards: vec![card, other],
    })?;
    scene.step(PRESERVE, from);
    scene.jump()?;
    // What was sent to a card that is given up would be faults.
    scene.pause_second(true);
    let from = scene.machine.clock.now();
    for bdf in [scene.first.bdf.clone(), scene.second.bdf.clone()] {
        scene.order(Command::BindDriver { bdf })?;
    }
    scene.order(Command::OwnerStart)?;
    scene.take(Step::Retrieve)?;
    let (session, of) = (session(), other);
    scene.order(Command::GiveUp {
        session,
        device: format!("card-{of}"),
    })?;
    scene.order(Command::OwnerKill)?;
    scene.take(Step::Retrieve)?;
    scene.take(Step::Bind)?;
    scene.order(Command::Resume { card })?;
    scene.step(RETRIEVE, from);
    let known = scene.machine.guest.order(Command::Frames { card: other });
    ensure!(known.is_err(), "the card that was given up is there again");
    scene.compact()?;
    scene.rebuild()?;
    scene.swap()?;
    scene.finish()?;
    scene.check("finish")
}

fn run(bench: &Bench, name: &str, play: impl FnOnce(&mut Scene) -> Result<()>) -> Result<End> {
    let mut scene = bench.boot(Plan {
        rate: Rate::AtMost(RATE),
        ..plan(&name.replace("::", "-"), "legacy", "")?
    })?;
    let played = play(&mut scene);
    good(scene.end(played)?, bench)
}

fn mappings(scene: &mut Scene) -> Result<()> {
    scene.receive_both()?;
    map_pieces(scene)?;
    scene.flow(SETTLE);
    scene.update()?;
    scene.check("the update")
}

fn interrupts(scene: &mut Scene) -> Result<()> {
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
