// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Machines that panic, fall silent, or lose the lab that watches them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{bail, ensure, Context, Result};
use hitless_proto::Command;

use super::call::Call;
use super::left::{children, command_line, processes, Memories};
use super::namespace::Namespace;
use super::running::Running;
use super::world::World;
use crate::run::machine::room::PREFIX;
use crate::run::machine::{self, Machine};
use crate::run::profile::Profile;
use crate::run::qemu::names;
use crate::run::scene::{Scene, SETTLE};
use crate::setup::qemu::PROGRAM;
use crate::suite::updates::{good, plan};
use crate::suite::Bench;

/// Longer than anything takes that these tests wait for in vain.
const PATIENCE: Duration = Duration::from_secs(3);

/// Who waits for so long does not heed it: an order's own limit is a minute.
const NO_LIMIT: Duration = Duration::from_secs(15);
/// Words of a kernel that has begun to boot.
const BOOTING: &str = "Linux version";
/// How long that may take.
const BOOT_LIMIT: Duration = Duration::from_secs(30);
/// Longer than any machine takes to start.
const LONG_AGO: Duration = Duration::from_secs(3600);

pub(super) fn panic_at_boot(bench: &Bench) -> Result<()> {
    let before = Memories::now();
    // Without a first program and without a root file system.
    let world = World::new()?;
    let json = world.path("x.json").display().to_string();
    let words = [
        "demo",
        "--json",
        &json,
        "--words",
        "rdinit=/no/such/program",
    ];
    let ended = Call::new(&words).run()?;
    ensure!(!Path::new(&json).exists(), "there is a file of no figures");
    ended.fails(&[
        "waiting for the guest's hello: the kernel says: ",
        "Kernel panic - not syncing: VFS: Unable to mount root fs",
        "The console's last lines:\n",
        "Hardware name: QEMU",
    ])?;
    let logs = ended
        .error()
        .split_once("the logs are in ")
        .and_then(|(_, rest)| Some(PathBuf::from(rest.split_once(':')?.0)))
        .context("where the logs are was not said")?;
    after(bench, &before, &logs, &["Kernel panic"])
}

pub(super) fn panic_under_traffic(bench: &Bench) -> Result<()> {
    let said = in_a_run(bench, "panic", "unknown_nmi_panic", |scene| {
        scene.machine.monitor().human("nmi")?;
        Ok(())
    })?;
    says(
        &said,
        &[
            "waiting for FreeMemory: the kernel says: ",
            "Kernel panic - not syncing: NMI",
            "The console's last lines:\n",
        ],
    )
}

pub(super) fn silence_under_traffic(bench: &Bench) -> Result<()> {
    let said = in_a_run(bench, "silence", "", |scene| {
        scene.machine.monitor().human("stop")?;
        scene.machine.guest.wait_at_most(PATIENCE);
        Ok(())
    })?;
    says(
        &said,
        &[
            "waiting for FreeMemory: nothing was heard for 3 s. The console's last lines:\n",
            "frames lost",
        ],
    )
}

/// Does something bad to a machine under traffic; returns what is said of the run.
fn in_a_run(
    bench: &Bench,
    name: &str,
    words: &str,
    bad: impl Fn(&mut Scene) -> Result<()>,
) -> Result<String> {
    let before = Memories::now();
    let mut scene = Scene::boot(plan(name, "legacy", words)?, &bench.parts)?;
    let logs = scene.machine.directory.path().to_owned();
    let running = processes(&logs).len();
    ensure!(running == 1, "{running} processes instead of QEMU alone");
    scene.receive_both()?;
    scene.flow(SETTLE);
    scene.check("the start")?;
    bad(&mut scene)?;
    let start = Instant::now();
    let ended = scene.order(Command::FreeMemory).map(|_| ());
    ensure!(
        start.elapsed() < NO_LIMIT,
        "the wait took {:.1} s",
        start.elapsed().as_secs_f64()
    );
    let Err(error) = good(scene.end(ended)?, bench) else {
        bail!("the run was found good");
    };
    let said = format!("{error:#}");
    says(&said, &[&format!("the logs are in {}", logs.display())])?;
    after(bench, &before, &logs, &["hitless"])?;
    Ok(said)
}

pub(super) fn silence_at_boot(bench: &Bench) -> Result<()> {
    let before = Memories::now();
    let profile = Profile::load("legacy")?;
    let line = machine::command_line(&profile, "");
    let mut machine = Machine::start("silence-at-boot", &profile, &bench.parts, &line)?;
    ensure!(
        machine.console.wait_for(BOOTING, BOOT_LIMIT),
        "no kernel boots"
    );
    machine.monitor().human("stop")?;
    machine.guest.wait_at_most(PATIENCE);
    let Err(error) = machine.wait_hello() else {
        bail!("a machine that stands still says hello");
    };
    let logs = machine.directory.path().to_owned();
    drop(machine);
    says(
        &format!("{error:#}"),
        &[
            &format!("the logs are in {}", logs.display()),
            "waiting for the guest's hello: nothing was heard for 3 s. The console's last lines:\n",
            BOOTING,
        ],
    )?;
    let processors = fs::read_to_string(logs.join("processors"))?;
    says(&processors, &["RIP="])?;
    after(bench, &before, &logs, &[BOOTING])
}

pub(super) fn lab_is_killed(bench: &Bench) -> Result<()> {
    let before = Memories::now();
    let mut running = Call::new(&["demo", "--seconds", "600"]).start()?;
    running.reach("frames flowed", |run| {
        Ok(run.said().contains("the first card receives"))
    })?;
    let ours = children(running.id());
    let [qemu] = ours.as_slice() else {
        bail!("the lab has started {ours:?} instead of QEMU alone");
    };
    let logs = logs_of(*qemu).context("QEMU's command line names no logs")?;
    ensure!(processes(&logs) == [*qemu], "QEMU is not found by its logs");
    running.kill_alone()?;
    after(bench, &before, &logs, &["hitless"])
}

/// Where the logs of a QEMU are.
fn logs_of(qemu: u32) -> Option<PathBuf> {
    let words = command_line(qemu);
    let logs = words
        .iter()
        .find_map(|word| word.strip_suffix(names::TRACE))?;
    Some(logs.into())
}

/// It is already QEMU, and no longer what sees to it that QEMU ends with the lab.
fn is_qemu(id: u32) -> bool {
    let words = command_line(id);
    words.iter().take(2).any(|word| word.ends_with(PROGRAM))
}

pub(super) fn lab_is_killed_at_start(_bench: &Bench) -> Result<()> {
    let world = World::new()?;
    let place = world.path("tmp");
    let foreign = place.join("hitless-series/0001.patch");
    fs::create_dir_all(foreign.with_file_name(""))?;
    fs::write(&foreign, "")?;
    let handle = fs::File::open(foreign.with_file_name(""))?;
    handle.set_modified(SystemTime::now() - LONG_AGO)?;
    // Without room in memory it takes the other place, where nobody else is.
    let view = Namespace::of_mounts()?;
    view.small(Path::new("/dev/shm"), 16)?;
    let real = world.qemu.display();
    let answers = format!("case \"$1\" in --version|-device) exec {real} \"$@\" ;; esac");
    let programs = world.program(PROGRAM, &format!("{answers}\nwhile :; do sleep 0.1; done"))?;
    let start = || -> Result<(Running, Vec<PathBuf>)> {
        let call = Call::new(&["demo"]).set("TMPDIR", &place).inside(&view);
        let mut running = call.with_programs(&programs)?.start()?;
        let mut logs = None;
        running.reach("QEMU was started", |run| {
            let qemu = children(run.id()).into_iter().find(|id| is_qemu(*id));
            logs = qemu.and_then(logs_of);
            Ok(logs.is_some())
        })?;
        // What is not yet anybody's log is of no use.
        fs::remove_dir_all(logs.context("there are logs")?)?;
        Ok((running, rooms(&place)?))
    };
    let (running, left) = start()?;
    ensure!(left.len() == 1, "{left:?} instead of one folder for memory");
    running.kill_alone()?;
    ensure!(rooms(&place)? == left, "the kill has left nothing");
    let (running, now) = start()?;
    running.kill_all()?;
    ensure!(!now.contains(&left[0]), "{left:?} was not removed");
    ensure!(foreign.is_file(), "a folder of somebody else was removed");
    Ok(())
}

/// The folders for machines' memory in a place.
fn rooms(place: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(place)?.flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    Ok(ours.map(|entry| entry.path()).collect())
}

/// Nothing may be left of the machine but its logs, whose console says `words`.
fn after(bench: &Bench, before: &Memories, logs: &Path, words: &[&str]) -> Result<()> {
    before.nothing_left(logs)?;
    let console = fs::read_to_string(logs.join("console.log"))
        .with_context(|| format!("{} has no log of the console", logs.display()))?;
    says(&console, words)?;
    if !bench.keep {
        fs::remove_dir_all(logs)?;
    }
    Ok(())
}

fn says(text: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(text.contains(word), "`{word}` is missing in:\n{text}");
    }
    Ok(())
}
