// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Things that set-up needs from the host and does not find: packages, rights, a distribution it knows, a network.

use std::fs;
use std::path::Path;

use anyhow::{ensure, Context, Result};

use super::namespace::Namespace;
use super::world::World;
use super::Cannot;
use crate::command::find;
use crate::fingerprint::of_file;

/// A distribution that set-up knows nothing of.
const FEDORA: &str = "NAME=\"Fedora Linux\"\nVERSION=\"44 (Server Edition)\"\nID=fedora\nVERSION_ID=44\nPRETTY_NAME=\"Fedora Linux 44 (Server Edition)\"\n";
/// A package's file that is a sign of it.
const HEADER: &str = "/usr/include/libelf.h";
/// So much of a download is enough to see that it is on its way.
const BEGUN: u64 = 1 << 20;

pub(super) fn packages_without_root() -> Result<()> {
    let world = World::with_tools()?;
    let linux = world.good_linux()?;
    world.give_away()?;
    let view = Namespace::of_mounts()?;
    let flex = find("flex").context("the host has flex: it is set up")?;
    for place in [flex.as_path(), Path::new(HEADER)] {
        view.hide(place)?;
    }
    let setup = || {
        let call = world.setup_with(&linux).inside(&view);
        call.by_nobody(&world.copy_of_lab())
    };
    setup()?.run()?.fails(&[
        "these packages are missing and only root may install them: flex libelf-dev\n",
        "what to do: run `cargo lab setup` as root once, or `apt-get install flex libelf-dev` as root\n",
    ])?;
    for place in [flex.as_path(), Path::new(HEADER)] {
        view.uncover(place)?;
    }
    setup()?.run()?.succeeds(&[&world.all_set()])
}

pub(super) fn packages_as_root() -> Result<()> {
    let world = World::with_tools()?;
    let linux = world.good_linux()?;
    let view = Namespace::of_mounts()?;
    let scratch = world.path("scratch");
    fs::create_dir(&scratch)?;
    view.small(&scratch, 512)?;
    for place in ["/usr", "/var", "/etc"] {
        view.copy_on_write(Path::new(place), &scratch)?;
    }
    let packages = Path::new("/var/lib/dpkg/status");
    let before = of_file(packages)?;
    view.run(&["dpkg", "--remove", "--force-depends", "flex"])?;
    // dpkg leaves such a file when it is killed.
    let cut_off = "/var/lib/dpkg/updates/0000";
    view.run(&["touch", cut_off])?;
    let setup = || world.setup_with(&linux).inside(&view).run();
    setup()?.online()?.fails(&[
        "cannot install flex: ",
        "dpkg was interrupted",
        "what to do: see apt's own words above; mend the package system (`apt-get -f install`, `dpkg --configure -a`)",
    ])?;
    view.run(&["rm", cut_off])?;
    setup()?.succeeds(&[&world.all_set()])?;
    view.run(&["flex", "--version"])?;
    ensure!(
        of_file(packages)? == before,
        "the host's own packages were changed"
    );
    Ok(())
}

pub(super) fn cache_of_another_user() -> Result<()> {
    let world = World::with_tools()?;
    let linux = world.good_linux()?;
    if !rustix::process::geteuid().is_root() {
        return Err(Cannot("only root can be another user".to_owned()).into());
    }
    let setup = || {
        let call = world.setup_with(&linux);
        call.by_nobody(&world.copy_of_lab())
    };
    let place = world.cache().join(".lock").display().to_string();
    setup()?.run()?.fails(&[
        &format!("cannot write {place}: Permission denied"),
        "what to do: ",
        "whose folder it is",
        "HITLESS_CACHE",
    ])?;
    world.give_away()?;
    setup()?.run()?.succeeds(&[&world.all_set()])
}

pub(super) fn other_distribution() -> Result<()> {
    let world = World::new()?;
    let release = world.path("os-release");
    fs::write(&release, FEDORA)?;
    let view = Namespace::of_mounts()?;
    view.cover(Path::new("/etc/os-release"), &release)?;
    world.lab(&["setup"]).inside(&view).run()?.fails(&[
        "the package linux-source-",
        "this is Fedora Linux 44 (Server Edition), where `cargo lab` cannot install it",
        "what to do: install it by the means of your system (HITLESS_LINUX=PATH takes",
    ])?;
    // What the message offers is all that such a system needs.
    world.link_cache("tools")?;
    world.link_cache("rust-src-")?;
    let linux = world.good_linux()?;
    world
        .setup_with(&linux)
        .inside(&view)
        .run()?
        .succeeds(&[&world.all_set()])
}

pub(super) fn network() -> Result<()> {
    let world = World::new()?;
    let view = Namespace::without_network()?;
    let ended = world.lab(&["setup"]).inside(&view).run()?;
    ended.fails(&[
        "from the Debian mirror: ",
        "what to do: check the network (and a proxy's setting in /etc/apt/apt.conf.d)",
    ])?;
    let tries = ended.error().matches("Reading the package lists").count();
    ensure!(
        tries == 1,
        "the mirror was tried {tries} times:\n{}",
        ended.error()
    );
    nothing_whole(&world)?;
    // The rest of the way is long, and the same as ever.
    let mut running = world.lab(&["setup"]).start()?;
    running.reach("the download", |run| {
        Ok(run.said().contains("Downloading linux-source-"))
    })?;
    running.kill_all()
}

pub(super) fn interrupted_download() -> Result<()> {
    let world = World::with_tools()?;
    let mut running = world.lab(&["setup"]).start()?;
    running.reach("the download was on its way", |_| {
        Ok(downloading(&world) > BEGUN)
    })?;
    running.kill_all()?;
    ensure!(
        downloading(&world) > BEGUN,
        "nothing is left of the download: it was not interrupted"
    );
    nothing_whole(&world)?;
    // Any run sweeps; this one has not far to go.
    let linux = world.good_linux()?;
    world
        .setup_with(&linux)
        .run()?
        .succeeds(&[&world.all_set()])?;
    let left = world.at_work("download-");
    ensure!(left.is_empty(), "{left:?} was not removed");
    nothing_whole(&world)
}

/// Bytes in temporary folders of downloads.
fn downloading(world: &World) -> u64 {
    let mut bytes = 0;
    for folder in world.at_work("download-") {
        // It may be gone by now.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            bytes += entry.metadata().map_or(0, |meta| meta.len());
        }
    }
    bytes
}

/// The cache may hold nothing that a next run would take for a result.
fn nothing_whole(world: &World) -> Result<()> {
    let downloads = fs::read_dir(world.cache().join("downloads"));
    let mut found: Vec<_> = downloads
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    found.extend(world.cached("linux")?);
    ensure!(found.is_empty(), "the cache has {found:?}");
    Ok(())
}
