// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Single steps with a session, and questions about what the machine did, that tests of several subjects share.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Result};
use hitless_proto::{Command, What};
use rustix::io::Errno;

use hitless_lab::play::scene::{Scene, SETTLE};
use hitless_lab::play::update::{FILES, SESSION};

/// How long a line of the kernel may take to the console.
const CONSOLE: Duration = Duration::from_secs(5);
/// Between two looks at the console.
const LOOK: Duration = Duration::from_millis(20);
/// How long frames flow that must not land.
pub(crate) const WATCH: Duration = Duration::from_millis(500);

pub(crate) fn create(scene: &mut Scene, session: &str) -> Result<()> {
    let session = session.to_owned();
    scene.order(Command::SessionCreate { session }).map(drop)
}

/// Takes the session over after a jump.
pub(crate) fn open(scene: &mut Scene) -> Result<()> {
    let session = SESSION.to_owned();
    scene.order(Command::SessionRetrieve { session }).map(drop)
}

pub(crate) fn close(scene: &mut Scene, session: &str) -> Result<()> {
    let session = session.to_owned();
    scene.order(Command::SessionClose { session }).map(drop)
}

pub(crate) fn preserve(session: &str, card: u8, (what, token): (What, u64)) -> Command {
    Command::Preserve {
        session: session.to_owned(),
        card,
        what,
        token,
    }
}

/// A session with the first so many files in it.
pub(crate) fn preserve_some(scene: &mut Scene, count: usize) -> Result<()> {
    create(scene, SESSION)?;
    for (what, token) in FILES.into_iter().take(count) {
        scene.preserve_one(what, token)?;
    }
    Ok(())
}

pub(crate) fn retrieve(card: u8, (what, token): (What, u64)) -> Command {
    Command::Retrieve {
        session: SESSION.to_owned(),
        card,
        what,
        token,
    }
}

/// Frames flow, the next kernel is loaded and everything is in the session.
pub(crate) fn until_preserved(scene: &mut Scene) -> Result<()> {
    scene.receive_both()?;
    scene.flow(SETTLE);
    scene.prepare()?;
    scene.preserve()
}

/// The kernel says something on its console, now or a moment later.
pub(crate) fn says(scene: &Scene, words: &str) -> Result<()> {
    ensure!(
        scene.machine.says(words, CONSOLE),
        "the kernel does not say `{words}`"
    );
    Ok(())
}

/// How often the kernel has said something.
pub(crate) fn count(scene: &Scene, words: &str) -> usize {
    let lines = scene.machine.console.lines();
    lines
        .iter()
        .filter(|line| line.text.contains(words))
        .count()
}

/// A jump is refused, and the kernel says once more why.
pub(crate) fn jump_refused(scene: &mut Scene, errno: Errno, words: &str) -> Result<()> {
    let before = count(scene, words);
    scene.refused(Command::Kexec, errno)?;
    let until = Instant::now() + scene.machine.pace.patience(CONSOLE);
    while count(scene, words) == before {
        ensure!(
            Instant::now() < until,
            "the kernel does not say `{words}` again"
        );
        scene.flow(LOOK);
    }
    scene.check(words)
}

/// Nothing that the lab minds was said.
pub(crate) fn quiet(scene: &Scene) -> Result<()> {
    match scene.machine.console.warnings().first() {
        Some(warning) => bail!("the kernel warns: {warning}"),
        None => Ok(()),
    }
}

/// Frames are sent, and none of them lands, neither where they used to nor elsewhere.
pub(crate) fn nothing_lands(scene: &mut Scene) -> Result<()> {
    let before = scene.witness()?.count();
    scene.flow(WATCH);
    let landed = scene.witness()?.count() - before;
    ensure!(landed == 0, "{landed} frames landed in the old memory");
    let strays = scene.strays()?;
    ensure!(strays == 0, "{strays} frames landed where none may be");
    Ok(())
}

/// A driver has reset the first card and set it up, and it receives.
pub(crate) fn receives(scene: &mut Scene) -> Result<()> {
    let before = scene.machine.guest.count(scene.first.number)?.received;
    scene.flow(scene.machine.pace.patience(WATCH));
    let received = scene.machine.guest.count(scene.first.number)?.received;
    ensure!(received > before, "set up anew, the card receives nothing");
    Ok(())
}
