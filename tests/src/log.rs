// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the old kernel did, and when, can be read in the new one; a log that was damaged on the way is refused, and harms
//! nobody.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{ensure, Context, Result};
use hitless_lab::machine::ram::Ram;
use hitless_lab::play::scene::{Scene, SETTLE};
use hitless_lab::play::update::{FILES, SESSION};
use hitless_proto::layout::PAGE;
use hitless_proto::Command;
use rustix::io::Errno;

use crate::outcome::{good, plan};
use crate::steps::{close, create, preserve};
use crate::test::{Bench, End, Test};

/// How long a line of the kernel may take to the console.
const CONSOLE: Duration = Duration::from_secs(5);
const PREVIOUS: &str = "/sys/kernel/debug/hitless/previous_log";
const OWN: &str = "/sys/kernel/debug/hitless/log";
/// How far the machine's clock and the host's may be apart.
const SKEW: f64 = 3600.0;
/// How far the two clocks of a machine may move against each other: one of them is set from a clock of whole seconds.
const DRIFT: f64 = 1.5;

/// What makes an image say nothing of itself (docs/abi.md, `ImageSer`).
const GONE: (usize, &[u8]) = (0, b"HTLX");
/// How a page of a log begins, and where it says what the address of its first page is (docs/abi.md, `HeaderSer`).
const MAGIC: &[u8] = b"hitl-log";
const FIRST: usize = 32;
/// The time of an event, which is not checked but for the checksum.
const TIME: u64 = 64 + 16;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "log::names_the_steps_of_the_old_kernel".to_owned(),
            "legacy",
            "after an update the new kernel's files have every step of the old one in order: a refusal, an attempt that was given up, the jump",
            |bench| run(bench, "log", steps),
        ),
        Test::new(
            "log::damaged_is_refused_and_harms_nobody".to_owned(),
            "legacy",
            "a log that is overwritten before the jump is refused by name, and the device goes on",
            |bench| run(bench, "log-damaged", damaged),
        ),
    ]
}

fn run(bench: &Bench, name: &str, play: fn(&mut Scene) -> Result<()>) -> Result<End> {
    let mut scene = bench.boot(plan(name, "legacy", "")?)?;
    let played = play(&mut scene);
    let outcome = scene.end(played)?;
    good(outcome, bench)
}

fn says(scene: &Scene, words: &str) -> Result<()> {
    ensure!(
        scene.machine.says(words, CONSOLE),
        "the kernel does not say `{words}`"
    );
    Ok(())
}

/// A line of a log.
#[derive(Debug)]
struct Line {
    /// Seconds since 1970.
    real: f64,
    /// Seconds since the start of the kernel.
    monotonic: f64,
    what: String,
}

fn line(text: &str) -> Result<Line> {
    let parts = text.split_once(" [").context("no second time")?;
    let (monotonic, what) = parts.1.split_once("] ").context("no step")?;
    Ok(Line {
        real: parts.0.parse()?,
        monotonic: monotonic.trim().parse()?,
        what: what.to_owned(),
    })
}

/// The lines of a log, with times that can be true.
fn lines(text: &str) -> Result<Vec<Line>> {
    let lines = text.lines().filter(|text| !text.starts_with('#'));
    let lines = lines.map(|text| line(text).with_context(|| format!("the line `{text}`")));
    let lines: Vec<Line> = lines.collect::<Result<_>>()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    let first = lines.first().context("an empty log")?;
    for pair in lines.windows(2) {
        ensure!(
            pair[0].monotonic <= pair[1].monotonic,
            "time runs backwards: {pair:?}"
        );
    }
    for line in &lines {
        ensure!((now - line.real).abs() < SKEW, "another time: {line:?}");
        let moved = (line.real - line.monotonic) - (first.real - first.monotonic);
        ensure!(moved.abs() < DRIFT, "the clocks disagree: {line:?}");
    }
    Ok(lines)
}

/// The steps stand in the log in this order.
fn in_order(lines: &[Line], steps: &[String]) -> Result<()> {
    let mut rest = lines.iter();
    for step in steps {
        ensure!(
            rest.any(|line| line.what.starts_with(step.as_str())),
            "the log does not say `{step}`, or not in its place: {lines:#?}"
        );
    }
    Ok(())
}

fn steps(scene: &mut Scene) -> Result<()> {
    scene.receive_both()?;
    scene.flow(SETTLE);
    scene.prepare()?;
    scene.mark()?;
    // An iommufd without its memory.
    let [_, iommufd, _] = FILES;
    let card = scene.first.number;
    create(scene, SESSION)?;
    scene.refused(preserve(SESSION, card, iommufd), Errno::INVAL)?;
    close(scene, SESSION)?;
    // An attempt that is given up, and one that is not.
    scene.preserve()?;
    close(scene, SESSION)?;
    scene.preserve()?;
    // A jump that is refused, one that is called off, and one that is neither.
    let (at, bytes) = GONE;
    scene.load_edited(at, bytes)?;
    scene.refused(Command::Kexec, Errno::INVAL)?;
    scene.load()?;
    scene.order(Command::Interrupts { card, on: true })?;
    scene.refused(Command::Kexec, Errno::BUSY)?;
    scene.order(Command::Interrupts { card, on: false })?;
    let device = format!(" device {}", scene.first.bdf);
    let before = [
        "refused: MemoryNotInSession".to_owned(),
        "preserved iommufd at 0x".to_owned(),
        format!("preserved{device}"),
        format!("unpreserved{device}"),
        "unpreserved iommufd at 0x".to_owned(),
        "preserved iommufd at 0x".to_owned(),
        format!("preserved{device}"),
        "told to jump".to_owned(),
        "refused: ImageWithoutHitless".to_owned(),
        "told to jump".to_owned(),
        "image accepted".to_owned(),
        format!("frozen{device}"),
        format!("unfrozen{device}"),
        format!("refused{device}: "),
    ];
    in_order(&lines(&scene.read(OWN)?)?, &before)?;
    scene.refused(
        Command::ReadFile {
            path: PREVIOUS.to_owned(),
        },
        Errno::NOENT,
    )?;
    scene.jump()?;

    says(scene, "hitless: log of the previous kernel: ")?;
    let jump = [
        "told to jump".to_owned(),
        "image accepted".to_owned(),
        format!("frozen{device}"),
        "scrubbed unit at 0x".to_owned(),
        "cleared the interrupt table of unit at 0x".to_owned(),
    ];
    let text = scene.read(PREVIOUS)?;
    scene.machine.directory.write("previous_log", &text);
    let all: Vec<String> = before.into_iter().chain(jump).collect();
    in_order(&lines(&text)?, &all)?;
    scene.take_back()?;
    // Nobody has lost it by finishing.
    ensure!(scene.read(PREVIOUS)? == text, "the log is another one now");
    scene.check("reading the logs")
}

/// The addresses of the first pages of all logs that are handed over.
fn first_pages(ram: &Ram) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    let mut at = ram.written_from(0)?;
    while at < ram.size() {
        let mut page = [0; 64];
        ram.read(at, &mut page)?;
        if page.starts_with(MAGIC) && page[FIRST..FIRST + 8] == at.to_le_bytes() {
            found.push(at);
        }
        at = ram.written_from(at + PAGE)?;
    }
    Ok(found)
}

fn damaged(scene: &mut Scene) -> Result<()> {
    scene.receive_both()?;
    scene.flow(SETTLE);
    scene.prepare()?;
    scene.preserve()?;
    let pages = first_pages(&scene.machine.ram)?;
    ensure!(!pages.is_empty(), "no log is handed over");
    for page in pages {
        let mut byte = [0];
        scene.machine.ram.read(page + TIME, &mut byte)?;
        scene.machine.ram.write(page + TIME, &[!byte[0]])?;
    }
    scene.jump()?;
    says(scene, "hitless: refused: log: damaged")?;
    scene.refused(
        Command::ReadFile {
            path: PREVIOUS.to_owned(),
        },
        Errno::NOENT,
    )?;
    scene.take_back()?;
    // The new kernel has a log of its own all the same, and the refusal is in it.
    let refused = ["refused: Damaged(Log)".to_owned()];
    in_order(&lines(&scene.read(OWN)?)?, &refused)?;
    scene.check("a log that was refused")
}
