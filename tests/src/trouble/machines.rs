// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Machines that panic, fall silent, or lose the lab that watches them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use hitless_lab::machine::qemu::TRACE;
use hitless_lab::play::scene::{Scene, SETTLE};
use hitless_proto::Command as Order;

use super::lab::says;
use crate::outcome::{good, plan};
use crate::test::{Bench, End, Test};

/// Longer than anything takes that these tests wait for in vain.
const PATIENCE: Duration = Duration::from_secs(3);
/// Who waits for so long does not heed it: an order's own limit is a minute.
const NO_LIMIT: Duration = Duration::from_secs(30);
/// How long what is on its way out may take.
const LEAVING: Duration = Duration::from_secs(20);
/// How long a demo may take until frames flow.
const BEGINNING: Duration = Duration::from_secs(180);

pub(crate) fn tests() -> Vec<Test> {
    type Trouble = (&'static str, &'static str, fn(&Bench) -> Result<()>);
    let tests: [Trouble; 3] = [
        (
            "panic_under_traffic",
            "a kernel that panics in a run ends it at once with the panic's line, and leaves nothing",
            panic_under_traffic,
        ),
        (
            "silence_under_traffic",
            "a machine that stands still in a run is given up after the limit, with what was waited for",
            silence_under_traffic,
        ),
        (
            "lab_is_killed",
            "QEMU and the machine's memory go with a `cargo lab` that is killed",
            lab_is_killed,
        ),
    ];
    let test = |(name, about, run): Trouble| {
        Test::new(format!("trouble::{name}"), "legacy", about, move |bench| {
            run(bench).map(|()| End::Passed)
        })
    };
    tests.into_iter().map(test).collect()
}

fn panic_under_traffic(bench: &Bench) -> Result<()> {
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

fn silence_under_traffic(bench: &Bench) -> Result<()> {
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
    let mut scene = bench.boot(plan(name, "legacy", words)?)?;
    let logs = scene.machine.directory.path().to_owned();
    scene.receive_both()?;
    scene.flow(SETTLE);
    scene.check("the start")?;
    bad(&mut scene)?;
    let start = Instant::now();
    let ended = scene.order(Order::FreeMemory).map(|_| ());
    let took = start.elapsed();
    ensure!(took < NO_LIMIT, "the wait took {} s", took.as_secs());
    let Err(error) = good(scene.end(ended)?, bench) else {
        bail!("the run was found good");
    };
    let said = format!("{error:#}");
    says(&said, &[&format!("the logs are in {}", logs.display())])?;
    nothing_left(bench, &logs)?;
    Ok(said)
}

fn lab_is_killed(bench: &Bench) -> Result<()> {
    let said = tempfile::NamedTempFile::new()?;
    let program = format!("/proc/{}/exe", std::process::id());
    let mut lab = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .args([&program, "demo", "--seconds", "600"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said.reopen()?)
        .spawn()
        .context("setpriv (util-linux) can not be started")?;
    let start = Instant::now();
    let text = || fs::read_to_string(said.path()).unwrap_or_default();
    while !text().contains("the first card receives") {
        let ended = lab.try_wait()?;
        ensure!(
            ended.is_none() && start.elapsed() < BEGINNING,
            "no frames flow ({ended:?}):\n{}",
            text()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let logs =
        all_processes().find_map(|id| (parent(id) == Some(lab.id())).then(|| logs_of(id))?);
    lab.kill()?;
    lab.wait()?;
    let logs = logs.context("the lab has started no QEMU whose command line names logs")?;
    nothing_left(bench, &logs)
}

/// Where the logs of a QEMU are.
fn logs_of(qemu: u32) -> Option<PathBuf> {
    let words = fs::read_to_string(format!("/proc/{qemu}/cmdline")).ok()?;
    let logs = words
        .split('\0')
        .find_map(|word| word.strip_suffix(TRACE))?;
    Some(logs.into())
}

fn all_processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent(id: u32) -> Option<u32> {
    // The name before it is in brackets, and may hold anything.
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    words.nth(1)?.parse().ok()
}

/// Nothing may be left of the machine but its logs: no process that names them. Its sockets and its memory have no names.
fn nothing_left(bench: &Bench, logs: &Path) -> Result<()> {
    let start = Instant::now();
    loop {
        let processes: Vec<u32> = all_processes()
            .filter(|id| logs_of(*id).is_some_and(|of| of == logs))
            .collect();
        if processes.is_empty() {
            break;
        }
        ensure!(
            start.elapsed() < LEAVING,
            "left behind: processes {processes:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let console = fs::read_to_string(logs.join("console.log"))
        .with_context(|| format!("{} has no log of the console", logs.display()))?;
    says(&console, &["hitless"])?;
    if !bench.keep {
        fs::remove_dir_all(logs)?;
    }
    Ok(())
}
