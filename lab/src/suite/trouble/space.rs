// SPDX-License-Identifier: Apache-2.0 OR MIT
//! No room: on the disk, and for a machine's memory.

use std::fs;
use std::path::Path;

use anyhow::{ensure, Result};

use super::call::Call;
use super::namespace::Namespace;
use super::world::World;
use crate::paths;
use crate::run::profile::Profile;
use crate::suite::Bench;

/// MiB that are too few for anything.
const FEW: u32 = 16;
/// What is said of them; a little of them is used.
const FREE: [&str; 2] = ["only 15 MiB are free there", "only 16 MiB are free there"];

pub(super) fn for_linux() -> Result<()> {
    let world = World::new()?;
    let view = Namespace::of_mounts()?;
    view.small(&world.cache(), FEW)?;
    let ended = world.lab(&["setup"]).inside(&view).run()?;
    ended.fails(&[
        &format!(
            "fetching and unpacking Linux needs 2500 MiB at {}, but only",
            world.cache().display()
        ),
        "what to do: free some space; HITLESS_CACHE moves downloads",
    ])?;
    told_free(ended.error())?;
    ensure!(
        !ended.error().contains("Reading the package lists"),
        "something was fetched first:\n{}",
        ended.error()
    );
    Ok(())
}

pub(super) fn for_bindgen() -> Result<()> {
    let world = World::with_tools()?;
    let linux = world.good_linux()?;
    let view = Namespace::of_mounts()?;
    let source = world.cached("rust-src-")?;
    let place = world.cache();
    view.small(&place, FEW)?;
    let call = || world.setup_with(&linux).inside(&view);
    let ended = call().run()?;
    // A toolchain without library source needs room for that first.
    let purpose = if source.is_empty() {
        "building bindgen needs 200 MiB at "
    } else {
        " needs "
    };
    ended.fails(&[purpose, "what to do: free some space"])?;
    told_free(ended.error())?;
    view.uncover(&place)?;
    call().run()?.succeeds(&["bindgen   "])
}

fn told_free(said: &str) -> Result<()> {
    ensure!(
        FREE.iter().any(|words| said.contains(words)),
        "what is free was not said:\n{said}"
    );
    Ok(())
}

pub(super) fn for_memory(_bench: &Bench) -> Result<()> {
    let world = World::new()?;
    let memory = Profile::load("legacy")?.machine.memory_mib;
    let place = world.path("tmp");
    fs::create_dir(&place)?;
    let view = Namespace::of_mounts()?;
    for place in [Path::new("/dev/shm"), &place] {
        view.small(place, FEW)?;
    }
    let ended = Call::new(&["demo", "--updates", "1"])
        .set("TMPDIR", &place)
        .inside(&view)
        .run()?;
    ended.fails(&[
        &format!("no room for the machine's {memory} MiB of memory (/dev/shm has 1"),
        &format!("{} has 1", place.display()),
        "what to do: free some, or set TMPDIR to a place that has it",
    ])
}

pub(super) fn for_dry_run(_bench: &Bench) -> Result<()> {
    let world = World::new()?;
    let place = world.path("tmp");
    fs::create_dir(&place)?;
    let view = Namespace::of_mounts()?;
    for place in [Path::new("/dev/shm"), &place] {
        view.small(place, FEW)?;
    }
    let boots = || -> Result<usize> {
        let runs = paths::output()?.join("runs");
        let entries = fs::read_dir(runs).into_iter().flatten().flatten();
        Ok(entries
            .filter(|entry| entry.file_name().to_string_lossy().ends_with("-boot"))
            .count())
    };
    let before = boots()?;
    let ended = Call::new(&["boot", "--dry-run"])
        .set("TMPDIR", &place)
        .inside(&view)
        .run()?;
    ended.succeeds(&["'intel-iommu,intremap=on'", "path=SOCKETS/monitor", "LOGS/"])?;
    ensure!(
        ended.error().contains("SOCKETS stands for a folder"),
        "what has to be filled in was not said:\n{}",
        ended.error()
    );
    ensure!(boots()? == before, "a folder of logs was made");
    Ok(())
}
