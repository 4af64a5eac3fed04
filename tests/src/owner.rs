// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The process that owns a session and its card is killed, and another one takes over.

use anyhow::{ensure, Result};
use hitless_proto::{Command, Step as Whole, What};
use rustix::io::Errno;

use crate::outcome::{bad, done, good, plan};
use crate::repetition::{counts, grown};
use crate::steps::{nothing_lands, open, preserve_some, quiet, receives, retrieve};
use crate::test::{Bench, End, Test};
use hitless_lab::evidence::phases::RETRIEVE;
use hitless_lab::machine::pace::Rate;
use hitless_lab::play::scene::{Plan, Scene, SETTLE};
use hitless_lab::play::update::{FILES, HWPT_TOKEN, SESSION};

/// Few frames: the ring has to last while nobody serves it.
const RATE: u32 = 200;

pub(crate) fn tests() -> Vec<Test> {
    type Play = fn(&mut Scene) -> Result<()>;
    let live: [(&str, &str, Play); 4] = [
        (
            "owner::another_process_holds_the_session",
            "the owner dies before the jump, another process has the session: all is preserved, and the update is done",
            held,
        ),
        (
            "owner::dies_after_each_step_behind_the_jump",
            "each time another process retrieves the session again and goes one step further; the last one finishes",
            relay,
        ),
        (
            "owner::the_library_goes_on_after_each_death",
            "each time another process finds the session with the library, also what was done without it, and goes on",
            relay_as_a_whole,
        ),
        (
            "owner::another_process_holds_what_is_swapped",
            "the owner dies between swap and finish, another process has the session, takes the card up and finishes",
            held_behind,
        ),
    ];
    let lost: [(&str, &str, Play); 4] = [
        (
            "owner::dies_after_each_step_before_the_jump",
            "the session goes with its owner, nothing stays preserved or leaks, and another process preserves the device",
            before,
        ),
        (
            "owner::dies_between_swap_and_finish",
            "nobody else has the session: it is finished, the device is stopped and everything of it is free",
            swapped,
        ),
        (
            "owner::the_next_one_gives_up",
            "it detaches the device, which stops it; finish is accepted, and everything of it is free",
            given_up,
        ),
        (
            "owner::the_library_gives_up",
            "a device is given up before it was bound; finish is accepted, and everything of it is free",
            given_up_as_a_whole,
        ),
    ];
    let live = live.map(|(name, about, play)| {
        Test::new(name, "legacy", about, move |bench| {
            let mut scene = boot(bench, name)?;
            let played = play(&mut scene);
            good(scene.end(played)?, bench)
        })
    });
    let lost = lost.map(|(name, about, play)| {
        Test::new(name, "legacy", about, move |bench| {
            let mut scene = boot(bench, name)?;
            let played = play(&mut scene).and_then(|()| quiet(&scene));
            let mut outcome = scene.end(Ok(()))?;
            if let Err(why) = played {
                return bad(&outcome, &format!("{why:#}"));
            }
            done(&mut outcome, bench);
            Ok(End::Passed)
        })
    });
    live.into_iter().chain(lost).collect()
}

fn boot(bench: &Bench, name: &str) -> Result<Scene> {
    bench.boot(Plan {
        rate: Rate::AtMost(RATE),
        ..plan(&name.replace("::", "-"), "legacy", "")?
    })
}

/// A card that another process than the first one owns.
fn receive(scene: &mut Scene) -> Result<()> {
    scene.order(Command::OwnerStart)?;
    scene.receive_alone()?;
    scene.flow(SETTLE);
    Ok(())
}

fn session(of: impl FnOnce(String) -> Command) -> Command {
    of(SESSION.to_owned())
}

fn finish(session: String) -> Command {
    Command::Finish { session }
}

fn share(session: String) -> Command {
    Command::OwnerShare { session }
}

fn before(scene: &mut Scene) -> Result<()> {
    let bdf = scene.first.bdf.clone();
    scene.order(Command::BindDriver { bdf })?;
    let first = counts(scene)?;
    for files in 0..=FILES.len() {
        if files == 0 {
            receive(scene)?;
        } else {
            scene.order(Command::OwnerStart)?;
            scene.receive_again(&scene.first.clone())?;
        }
        let (card, token) = (scene.first.number, HWPT_TOKEN);
        scene.order(Command::Mark { card, token })?;
        preserve_some(scene, files)?;
        scene.order(Command::OwnerKill)?;
        free(scene)?;
        let grown = grown(&first, &counts(scene)?);
        ensure!(
            grown.is_empty(),
            "with {files} files in the session its owner has left behind: {grown:?}"
        );
    }
    Ok(())
}

/// The session's name and everything of the device are free: another process has it receive, and preserves it.
fn free(scene: &mut Scene) -> Result<()> {
    scene.order(Command::OwnerStart)?;
    scene.receive_again(&scene.first.clone())?;
    let (card, token) = (scene.first.number, HWPT_TOKEN);
    scene.order(Command::Mark { card, token })?;
    preserve_some(scene, FILES.len())?;
    receives(scene)?;
    scene.order(Command::OwnerKill)?;
    Ok(())
}

fn held(scene: &mut Scene) -> Result<()> {
    receive(scene)?;
    scene.prepare()?;
    scene.preserve()?;
    scene.order(session(share))?;
    scene.order(Command::OwnerKill)?;
    scene.check("the owner's end")?;
    scene.jump()?;
    scene.take_back()?;
    scene.check("finish")
}

/// What an owner does after the jump, one after the other.
#[derive(Clone, Copy, Debug)]
enum Step {
    Session,
    File(What, u64),
    Restore,
    Bind,
    Rebuild,
}

fn steps() -> Vec<Step> {
    let files = FILES.map(|(what, token)| Step::File(what, token));
    let rest = [Step::Restore, Step::Bind, Step::Rebuild];
    std::iter::once(Step::Session)
        .chain(files)
        .chain(rest)
        .collect()
}

impl Step {
    /// `again`: another process has done it before.
    fn play(self, scene: &mut Scene, again: bool) -> Result<()> {
        let (card, token) = (scene.first.number, HWPT_TOKEN);
        match self {
            Self::Session => open(scene),
            Self::File(what, token) => scene.order(retrieve(card, (what, token))).map(drop),
            Self::Restore if again => {
                scene.refused(Command::RestoreHwpt { card, token }, Errno::EXIST)
            }
            Self::Restore => scene
                .order(Command::RestoreHwpt { card, token })
                .map(|_| ()),
            Self::Bind if again => {
                scene.refused(Command::BindDevice { card }, Errno::INVAL)?;
                scene.order(Command::Adopt { card })?;
                scene.order(Command::Resume { card })?;
                Ok(())
            }
            Self::Bind => {
                scene.order(Command::Adopt { card })?;
                scene.bind()
            }
            Self::Rebuild => scene.rebuild(),
        }
    }
}

/// An update up to the jump; then the driver is bound.
fn jump(scene: &mut Scene) -> Result<()> {
    receive(scene)?;
    scene.prepare()?;
    scene.mark()?;
    scene.preserve()?;
    scene.jump()?;
    let bdf = scene.first.bdf.clone();
    scene.order(Command::BindDriver { bdf })?;
    Ok(())
}

/// The steps of the library.
const WHOLE: [Whole; 4] = [Whole::Retrieve, Whole::Bind, Whole::Rebuild, Whole::Swap];

fn relay_as_a_whole(scene: &mut Scene) -> Result<()> {
    jump(scene)?;
    let (card, token) = (scene.first.number, HWPT_TOKEN);
    // This one dies with the ids of device and HWPT, which the kernel tells nobody again.
    scene.order(Command::OwnerStart)?;
    open(scene)?;
    for file in FILES {
        scene.order(retrieve(card, file))?;
    }
    scene.order(Command::BindDevice { card })?;
    scene.order(Command::RestoreHwpt { card, token })?;
    scene.order(Command::OwnerKill)?;
    scene.check("the end of an owner that noted nothing")?;
    for last in 1..WHOLE.len() {
        scene.order(Command::OwnerStart)?;
        for step in &WHOLE[..last] {
            scene.take(*step)?;
        }
        scene.order(Command::OwnerKill)?;
        scene.check(&format!("the end of an owner after {:?}", WHOLE[last - 1]))?;
    }
    scene.order(Command::OwnerStart)?;
    let from = scene.machine.clock.now();
    scene.take(Whole::Retrieve)?;
    scene.take(Whole::Bind)?;
    scene.order(Command::Resume { card })?;
    scene.step(RETRIEVE, from);
    scene.compact()?;
    scene.rebuild()?;
    scene.swap()?;
    scene.finish()?;
    scene.check("finish")
}

fn relay(scene: &mut Scene) -> Result<()> {
    jump(scene)?;
    scene.file_by_file();
    let steps = steps();
    for last in 0..steps.len() {
        scene.order(Command::OwnerStart)?;
        for (number, step) in steps.iter().enumerate().take(last + 1) {
            step.play(scene, number < last)?;
        }
        scene.order(Command::OwnerKill)?;
        scene.check(&format!("the end of an owner after {:?}", steps[last]))?;
    }
    scene.order(Command::OwnerStart)?;
    for step in &steps {
        step.play(scene, true)?;
    }
    scene.compact()?;
    scene.swap()?;
    scene.finish()?;
    scene.check("finish")
}

/// An update up to the swap, by another process than the first.
fn swap(scene: &mut Scene) -> Result<()> {
    jump(scene)?;
    scene.order(Command::OwnerStart)?;
    scene.retrieve()?;
    scene.rebuild()?;
    scene.swap()
}

fn held_behind(scene: &mut Scene) -> Result<()> {
    swap(scene)?;
    scene.order(session(share))?;
    scene.order(Command::OwnerKill)?;
    scene.check("the owner's end")?;
    let card = scene.first.number;
    for step in WHOLE {
        scene.take(step)?;
    }
    scene.order(Command::Resume { card })?;
    scene.finish()?;
    scene.check("finish")
}

fn swapped(scene: &mut Scene) -> Result<()> {
    swap(scene)?;
    scene.order(Command::OwnerKill)?;
    let session = SESSION.to_owned();
    scene.refused(Command::SessionRetrieve { session }, Errno::NOENT)?;
    stopped(scene)
}

/// Nothing lands, the memory is free, and another process has the device receive.
fn stopped(scene: &mut Scene) -> Result<()> {
    nothing_lands(scene)?;
    scene.fill_memory()?;
    nothing_lands(scene)?;
    free(scene)
}

fn given_up(scene: &mut Scene) -> Result<()> {
    jump(scene)?;
    scene.order(Command::OwnerStart)?;
    scene.retrieve()?;
    scene.order(Command::OwnerKill)?;
    scene.check("the owner's end")?;
    scene.order(Command::OwnerStart)?;
    open(scene)?;
    let card = scene.first.number;
    for file in FILES {
        scene.order(retrieve(card, file))?;
    }
    scene.refused(session(finish), Errno::BUSY)?;
    scene.order(Command::DetachDevice { card })?;
    scene.order(session(finish))?;
    scene.order(Command::OwnerKill)?;
    stopped(scene)
}

fn given_up_as_a_whole(scene: &mut Scene) -> Result<()> {
    jump(scene)?;
    scene.order(Command::OwnerStart)?;
    let card = scene.first.number;
    let device = format!("card-{card}");
    let give_up = |session| Command::GiveUp { session, device };
    scene.take(Whole::Retrieve)?;
    scene.refused(session(finish), Errno::BUSY)?;
    scene.order(session(give_up))?;
    // The rest of the way does not start the device again.
    for step in &WHOLE[1..] {
        scene.take(*step)?;
    }
    scene.order(session(finish))?;
    scene.order(Command::OwnerKill)?;
    stopped(scene)
}
