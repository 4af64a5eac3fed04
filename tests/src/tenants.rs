// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Three VMs on one machine. The owner of one of them is killed again and again, and nobody else notices.

use anyhow::{Context, Result};
use hitless_proto::{Act, Command, Crowd, Step};
use rustix::io::Errno;

use crate::outcome::{good, plan};
use crate::steps::close;
use crate::test::{Bench, End, Test};
use hitless_lab::machine::pace::Rate;
use hitless_lab::play::scene::{Plan, Scene, SETTLE};

pub(crate) const PROFILE: &str = "tenants";
/// Frames of the first VM per second.
const RATE: u32 = 500;

pub(crate) fn tests() -> Vec<Test> {
    vec![Test::new(
        "owner::one_of_three_dies",
        PROFILE,
        "one VM's owner dies before the jump and at two steps after it, and it is given up; the two others lose nothing",
        run,
    )]
}

/// The two VMs beside the one with the first card.
struct Tenants {
    dies: Crowd,
    lives: Crowd,
}

fn run(bench: &Bench) -> Result<End> {
    let plan = Plan {
        rate: Rate::AtMost(RATE),
        ..plan("tenants", PROFILE, "")?
    };
    let mut functions = plan.profile.plain.chunks(2);
    let mut tenant = |name: &str, token| -> Result<Crowd> {
        let functions = functions
            .next()
            .context("the profile has no functions left")?;
        Ok(Crowd {
            name: name.to_owned(),
            session: name.to_owned(),
            token,
            functions: functions.to_vec(),
            memories: 3,
            mappings: 6,
            hole: false,
        })
    };
    let tenants = Tenants {
        dies: tenant("dies", 100)?,
        lives: tenant("lives", 200)?,
    };
    let mut scene = bench.boot(plan)?;
    let played = play(&mut scene, &tenants);
    good(scene.end(played)?, bench)
}

fn play(scene: &mut Scene, Tenants { dies, lives }: &Tenants) -> Result<()> {
    scene.receive_both()?;
    scene.flow(SETTLE);

    // It takes everything with it.
    scene.order(Command::OwnerStart)?;
    start(scene, dies)?;
    scene.order(Command::OwnerKill)?;
    scene.check("the end of an owner")?;
    // Somebody else has its session.
    scene.order(Command::OwnerStart)?;
    start(scene, dies)?;
    let session = dies.session.clone();
    scene.order(Command::OwnerShare { session })?;
    scene.order(Command::OwnerKill)?;
    scene.check("the end of an owner whose session goes on")?;

    start(scene, lives)?;
    scene.prepare()?;
    scene.preserve()?;
    scene.jump()?;
    scene.retrieve()?;
    for function in dies.functions.iter().chain(&lives.functions) {
        let bdf = function.clone();
        scene.order(Command::BindDriver { bdf })?;
    }

    scene.order(Command::OwnerStart)?;
    take(scene, dies, Step::Retrieve)?;
    scene.order(Command::OwnerKill)?;
    scene.check("the end of an owner with its files")?;
    scene.order(Command::OwnerStart)?;
    take(scene, dies, Step::Retrieve)?;
    take(scene, dies, Step::Bind)?;
    scene.order(Command::OwnerKill)?;
    scene.check("the end of an owner with its devices")?;

    take(scene, lives, Step::Retrieve)?;
    take(scene, lives, Step::Bind)?;
    take(scene, lives, Step::Rebuild)?;
    scene.rebuild()?;
    take(scene, lives, Step::Swap)?;
    finish(scene, lives)?;
    scene.compact()?;
    scene.swap()?;
    scene.finish()?;
    scene.check("the others' finish")?;

    take(scene, dies, Step::Retrieve)?;
    let session = dies.session.clone();
    scene.refused(Command::Finish { session }, Errno::BUSY)?;
    for number in 0..dies.functions.len() {
        scene.order(Command::GiveUp {
            session: dies.session.clone(),
            device: format!("{}-{number}", dies.name),
        })?;
    }
    finish(scene, dies)?;
    scene.fill_memory()?;
    scene.check("the end of what was given up")?;
    // All of it is free, and can be preserved again.
    start(scene, dies)?;
    close(scene, &dies.session)?;
    scene.check("another start")
}

/// Sets a VM up, and everything of it is in its session.
fn start(scene: &mut Scene, tenant: &Crowd) -> Result<()> {
    scene.order(Command::Crowd {
        crowd: tenant.clone(),
        act: Act::Start,
    })?;
    scene.order(Command::PreserveAll {
        session: tenant.session.clone(),
        cards: Vec::new(),
    })?;
    Ok(())
}

/// A step of everything in its session; the first one finds it.
fn take(scene: &mut Scene, tenant: &Crowd, step: Step) -> Result<()> {
    let session = tenant.session.clone();
    scene.order(Command::Take { session, step }).map(drop)
}

fn finish(scene: &mut Scene, tenant: &Crowd) -> Result<()> {
    let session = tenant.session.clone();
    scene.order(Command::Finish { session }).map(drop)
}
