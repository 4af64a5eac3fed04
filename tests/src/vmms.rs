// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What stock VMMs do with files of a session that the lab's own program does not need.

use anyhow::Result;
use hitless_proto::{Call, Command};

use crate::outcome::{good, plan};
use crate::steps::preserve_some;
use crate::test::{unless_first, Bench, End, Test};
use hitless_lab::machine::profile::TABLE_FORMATS;
use hitless_lab::play::scene::{Scene, SETTLE};
use hitless_lab::play::update::{FILES, HWPT_TOKEN};

pub(crate) fn tests() -> Vec<Test> {
    TABLE_FORMATS
        .into_iter()
        .map(|profile| {
            let test = Test::new(
                format!("vmms::interrupts_and_another_process::{profile}"),
                profile,
                "at every step the mappings are charged to another process, and interrupts are set up and taken down",
                move |bench| run(bench, profile),
            );
            unless_first(profile, test)
        })
        .collect()
}

fn run(bench: &Bench, profile: &str) -> Result<End> {
    let mut scene = bench.boot(plan("vmms", profile, "")?)?;
    let played = play(&mut scene);
    let outcome = scene.end(played)?;
    good(outcome, bench)
}

fn play(scene: &mut Scene) -> Result<()> {
    scene.receive_both()?;
    scene.flow(SETTLE);
    scene.prepare()?;
    scene.mark()?;
    preserve_some(scene, FILES.len())?;
    change_process(scene)?;
    scene.jump()?;
    scene.retrieve_files()?;
    change_process(scene)?;
    scene.bind()?;
    interrupts(scene, true)?;
    interrupts(scene, false)?;
    let card = scene.first.number;
    let token = HWPT_TOKEN;
    scene.order(Command::RestoreHwpt { card, token })?;
    change_process(scene)?;
    scene.check("the bind")?;
    interrupts(scene, true)?;
    scene.rebuild()?;
    change_process(scene)?;
    interrupts(scene, false)?;
    interrupts(scene, true)?;
    scene.swap()?;
    scene.check("the swap")?;
    change_process(scene)?;
    scene.finish()?;
    change_process(scene)?;
    interrupts(scene, false)?;
    scene.check("finish")
}

/// As QEMU does when it has got an iommufd from another one.
fn change_process(scene: &mut Scene) -> Result<()> {
    scene.order(Command::Raw {
        card: scene.first.number,
        call: Call::ChangeProcess,
        fields: vec![0],
    })?;
    Ok(())
}

fn interrupts(scene: &mut Scene, on: bool) -> Result<()> {
    let card = scene.first.number;
    scene.order(Command::Interrupts { card, on })?;
    Ok(())
}
