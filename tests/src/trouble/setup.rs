// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Troubles of set-up: rights, network, room, Linux, QEMU.

use anyhow::{ensure, Context, Result};
use hitless_lab::build::sources::qemu::PROGRAM as QEMU;
use hitless_lab::build::sources::tools::kernel_tools;
use hitless_lab::command::find;

use super::lab::World;
use crate::test::{End, Test};

/// A package's file that is a sign of it.
const HEADER: &str = "/usr/include/libelf.h";

pub(crate) fn tests() -> Vec<Test> {
    type Trouble = (&'static str, bool, &'static str, fn() -> Result<()>);
    let tests: [Trouble; 5] = [
        (
            "missing_packages_without_root",
            true,
            "set-up names the packages that are missing and the apt-get command, and goes on once they are there",
            packages_without_root,
        ),
        (
            "no_network",
            true,
            "without network set-up says so after one try",
            network,
        ),
        (
            "no_space_for_linux",
            true,
            "a full disk is told with what is needed and what is free, before anything is fetched",
            space,
        ),
        (
            "other_linux_version",
            false,
            "HITLESS_LINUX of another release is refused with both versions",
            other_version,
        ),
        (
            "qemu_too_old",
            false,
            "an old QEMU first on PATH is named with its version and the oldest that will do",
            qemu_too_old,
        ),
    ];
    let test = |(name, needs_root, about, run): Trouble| {
        Test::alone(format!("trouble::{name}"), about, move || {
            if needs_root && !rustix::process::geteuid().is_root() {
                let why = "only root may give a program other mounts or another network";
                return Ok(End::Skipped(why.to_owned()));
            }
            run().map(|()| End::Passed)
        })
    };
    tests.into_iter().map(test).collect()
}

/// The release that is wanted.
fn wanted() -> Result<String> {
    Ok(kernel_tools()?.source.release)
}

fn packages_without_root() -> Result<()> {
    let wanted = wanted()?;
    let flex = find("flex").context("the host has flex: it is set up")?;
    let hidden = [flex.display().to_string(), HEADER.to_owned()]
        .map(|place| format!("mount --bind /dev/null {place}"));
    let world = World::with_linux(&wanted)?.after(&hidden.join(" && "));
    world.setup_by_nobody()?.fails(&[
        "these packages are missing: flex libelf-dev; only root may install packages\n",
        "what to do: run `cargo lab setup` as root once, or `apt-get install flex libelf-dev` as root\n",
    ])?;
    let world = world.after("true");
    world
        .setup_by_nobody()?
        .succeeds(&[&format!("linux     {wanted} at ")])
}

fn network() -> Result<()> {
    let said = World::new()?.without_network().setup()?;
    said.fails(&[
        "from the Debian mirror: ",
        "what to do: check the network (and a proxy's setting in /etc/apt/apt.conf.d)",
    ])?;
    let is_try =
        |line: &&str| line.starts_with("Reading the package lists") && line.ends_with("...");
    let tries = said.all.lines().filter(is_try).count();
    ensure!(
        tries == 1,
        "the mirror was tried {tries} times:\n{}",
        said.all
    );
    Ok(())
}

fn space() -> Result<()> {
    let world = World::new()?;
    let cache = world.path("cache").display().to_string();
    let said = world
        .after(&format!(
            "mount -t tmpfs -o size=16m,mode=1777 trouble {cache}"
        ))
        .setup()?;
    said.fails(&[
        &format!("fetching and unpacking Linux needs 2500 MiB at {cache}, but only 1"),
        " MiB are free there",
        "what to do: free some space; HITLESS_CACHE moves downloads",
    ])?;
    ensure!(
        !said.all.contains("Reading the package lists"),
        "something was fetched first:\n{}",
        said.all
    );
    Ok(())
}

fn other_version() -> Result<()> {
    let wanted = wanted()?;
    World::with_linux("6.12.9")?.setup()?.fails(&[
        &format!("is Linux 6.12.9, but hitless is made for Linux {wanted}"),
        &format!("what to do: use a Linux {wanted} tree (HITLESS_LINUX=PATH takes"),
        "or unset HITLESS_LINUX",
    ])?;
    let good = World::with_linux(&wanted)?;
    good.setup()?
        .succeeds(&[&format!("linux     {wanted} at ")])
}

fn qemu_too_old() -> Result<()> {
    let words = "echo 'QEMU emulator version 7.2.17 (Debian 1:7.2+dfsg-7+deb12u13)'";
    let world = World::new()?.with_program(QEMU, words)?;
    // As root it would install the right one.
    world.setup_by_nobody()?.fails(&[
        "is QEMU 7.2.17, and the machines need 10 or newer; only root may install packages",
        "what to do: run `cargo lab setup` as root once, or `apt-get install ",
        "qemu-system-x86` as root",
    ])
}
