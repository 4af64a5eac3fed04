// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A machine does not sleep while anything is preserved or not finished: not by suspend, not by hibernation, and not for a
//! kernel that comes back.
//!
//! By `pm_test` the kernel turns back on the way to sleep: at `freezer` no device has noticed yet, at `platform` all are
//! suspended.

use std::time::Duration;

use anyhow::{ensure, Result};
use hitless_proto::Command;
use rustix::io::Errno;

use crate::outcome::{bad, done, good, plan};
use crate::test::{Bench, End, Test};
use crate::twins::lost;
use hitless_lab::evidence::event::Harm;
use hitless_lab::play::scene::{Scene, SETTLE};
use hitless_lab::play::update::{FILES, SESSION};

/// How long a line of the kernel may take to the console.
const CONSOLE: Duration = Duration::from_secs(5);
/// It turns back at once.
const WORDS: &str = "suspend.pm_test_delay=0";
const PRESERVED: &str = "refused: machine cannot sleep while anything is preserved";
const UNFINISHED: &str = "refused: machine cannot sleep before the previous update is finished";
const ASLEEP: &str = "refused: machine is on its way to sleep";
/// Who has this open for reading keeps a machine on its way to hibernation.
const SNAPSHOT: &str = "/dev/snapshot";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "sleep::refused_until_everything_is_finished".to_owned(),
            "legacy",
            "suspend, hibernation and a jump that comes back are refused while anything is preserved or not finished, and work before and after",
            refused,
        ),
        Test::new(
            "twin::sleep".to_owned(),
            "legacy",
            "left out: the machine goes to sleep, and the device with it",
            twin,
        ),
    ]
}

fn write(path: &str, text: &str) -> Command {
    let (path, text) = (path.to_owned(), text.to_owned());
    Command::WriteFile { path, text }
}

/// Where the kernel turns back.
fn turns_at(scene: &mut Scene, level: &str) -> Result<()> {
    scene.order(write("/sys/power/pm_test", level)).map(|_| ())
}

fn sleep(how: &str) -> Command {
    write("/sys/power/state", how)
}

/// The machine goes as far to sleep as it is told.
fn sleeps(scene: &mut Scene) -> Result<()> {
    scene.order(sleep("freeze"))?;
    scene.check("a suspend that turned back")
}

/// Every way to sleep is refused.
fn refuses(scene: &mut Scene, words: &str) -> Result<()> {
    for how in ["freeze", "disk"] {
        scene.refused(sleep(how), Errno::BUSY)?;
    }
    let path = SNAPSHOT.to_owned();
    scene.refused(Command::Hold { path }, Errno::BUSY)?;
    scene.order(Command::LoadWithoutHandover { returns: true })?;
    scene.refused(Command::Kexec, Errno::BUSY)?;
    ensure!(
        scene.machine.says(words, CONSOLE),
        "the kernel does not say `{words}`"
    );
    scene.check("a sleep that was refused")
}

fn refused(bench: &Bench) -> Result<End> {
    let mut scene = bench.boot(plan("sleep", "legacy", WORDS)?)?;
    let played = play(&mut scene);
    let outcome = scene.end(played)?;
    good(outcome, bench)
}

fn play(scene: &mut Scene) -> Result<()> {
    scene.receive_both()?;
    scene.flow(SETTLE);
    turns_at(scene, "freezer")?;
    sleeps(scene)?;
    scene.prepare()?;
    scene.mark()?;
    on_the_way(scene)?;

    scene.preserve()?;
    refuses(scene, PRESERVED)?;
    let session = SESSION.to_owned();
    scene.order(Command::SessionClose { session })?;
    sleeps(scene)?;

    scene.preserve()?;
    scene.load()?;
    scene.jump()?;
    turns_at(scene, "freezer")?;
    refuses(scene, UNFINISHED)?;
    scene.retrieve()?;
    scene.compact()?;
    refuses(scene, UNFINISHED)?;
    scene.rebuild()?;
    scene.swap()?;
    refuses(scene, UNFINISHED)?;
    scene.finish()?;
    sleeps(scene)
}

/// Nothing is preserved while the machine is on its way to sleep.
fn on_the_way(scene: &mut Scene) -> Result<()> {
    let path = SNAPSHOT.to_owned();
    scene.order(Command::Hold { path })?;
    let session = SESSION.to_owned();
    let create = Command::SessionCreate { session };
    scene.order(create)?;
    let [memory, iommufd, _] = FILES;
    let card = scene.first.number;
    let preserve = |(what, token)| Command::Preserve {
        session: SESSION.to_owned(),
        card,
        what,
        token,
    };
    scene.order(preserve(memory))?;
    scene.refused(preserve(iommufd), Errno::BUSY)?;
    ensure!(
        scene.machine.says(ASLEEP, CONSOLE),
        "the kernel does not say `{ASLEEP}`"
    );
    let session = SESSION.to_owned();
    scene.order(Command::SessionClose { session })?;
    scene.order(Command::FreeMemory)?;
    scene.check("a preserve on the way to sleep")
}

fn twin(bench: &Bench) -> Result<End> {
    let words = format!("{WORDS} hitless.break=sleep");
    let mut scene = bench.boot(plan("sleep-twin", "legacy", &words)?)?;
    let played = play_twin(&mut scene);
    let mut outcome = scene.end(played)?;
    let asleep = outcome.evidence.trace.harms.contains_key(&Harm::PowerState);
    if !asleep || !lost(&outcome) {
        let seen = outcome.verdict.words();
        return bad(&outcome, &format!("the device goes on: {seen}"));
    }
    done(&mut outcome, bench);
    Ok(End::Passed)
}

fn play_twin(scene: &mut Scene) -> Result<()> {
    scene.receive_both()?;
    scene.flow(SETTLE);
    scene.prepare()?;
    scene.preserve()?;
    turns_at(scene, "freezer")?;
    scene.order(sleep("freeze"))?;
    // An image of the machine's memory would not fit into it.
    let path = SNAPSHOT.to_owned();
    scene.order(Command::Hold { path })?;
    scene.order(Command::FreeMemory)?;
    scene.order(Command::LoadWithoutHandover { returns: true })?;
    // It went there and has come back.
    scene.refused(Command::Kexec, Errno::IO)?;
    turns_at(scene, "platform")?;
    scene.order(sleep("freeze"))?;
    scene.flow(SETTLE);
    Ok(())
}
