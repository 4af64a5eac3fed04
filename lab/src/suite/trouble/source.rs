// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Troubles with the Linux source: cut off, patched badly, of another release, not there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use walkdir::WalkDir;

use super::left::{processes, LIMIT};
use super::world::World;
use crate::command::output;
use crate::kernel::patches;

/// Of the source, enough to take a while.
const PARTS: [&str; 4] = ["Makefile", "include", "kernel", "mm"];
/// So many files are the middle of it: it has some 7000.
const MIDDLE: usize = 1000;

/// A part of Linux as a tarball.
fn tarball(world: &World) -> Result<PathBuf> {
    let tree = &world.tools.source.path;
    let name = tree.file_name().context("the source has a name")?;
    let path = world.path("linux.tar");
    let mut tar = Command::new("tar");
    tar.arg("--create").arg("--file").arg(&path);
    tar.arg("--directory").arg(tree.with_file_name(""));
    tar.args(PARTS.map(|part| Path::new(name).join(part)));
    output(&mut tar)?;
    Ok(path)
}

fn count(folder: &Path) -> usize {
    WalkDir::new(folder).into_iter().flatten().count()
}

pub(super) fn interrupted_unpacking() -> Result<()> {
    let world = World::with_tools()?;
    let tarball = tarball(&world)?;
    let unpacking = || world.at_work("unpack-");
    let mut running = world.setup_with(&tarball).start()?;
    running.reach("the middle of unpacking", |_| {
        Ok(unpacking().iter().any(|folder| count(folder) > MIDDLE))
    })?;
    running.kill_all()?;
    let left: usize = unpacking().iter().map(|folder| count(folder)).sum();
    ensure!(left > MIDDLE, "nothing is left of the unpacking");
    let whole = world.cached("linux")?;
    ensure!(whole.is_empty(), "a killed set-up has left {whole:?}");

    world
        .setup_with(&tarball)
        .run()?
        .succeeds(&[&world.all_set()])?;
    let left = unpacking();
    ensure!(left.is_empty(), "{left:?} was not removed");
    let whole = world.cached("linux-given-")?;
    let [tree] = whole.as_slice() else {
        anyhow::bail!("the cache has {whole:?} instead of one tree");
    };
    // The folder itself is not among the parts.
    let wanted: usize = PARTS
        .iter()
        .map(|part| count(&world.tools.source.path.join(part)))
        .sum();
    let found = count(tree) - 1;
    ensure!(found == wanted, "{found} files instead of {wanted}");
    Ok(())
}

/// A patch of the pretended kbuild below. It applies after those of the repository, or does not.
fn patch(applies: bool) -> String {
    let second = if applies { "olddefconfig" } else { "other" };
    format!("--- a/Makefile\n+++ b/Makefile\n@@ -6,2 +6,3 @@\n {second}:\n \t@true\n+# patched\n")
}

/// A tree of the files that patches touch, with a kbuild that configures whatever it is told.
fn small_tree(world: &World) -> Result<(PathBuf, BTreeSet<String>)> {
    let tree = world.good_linux()?;
    let mut touched = BTreeSet::new();
    for path in patches::list(&world.path("repository"))? {
        touched.extend(patches::touched(&fs::read_to_string(path)?));
    }
    touched.retain(|path| world.tools.source.path.join(path).is_file());
    ensure!(
        !touched.contains("Makefile"),
        "a patch of the repository touches the top Makefile, which is pretended here"
    );
    for path in &touched {
        let copy = tree.join(path);
        fs::create_dir_all(copy.parent().context("a file has a folder")?)?;
        fs::copy(world.tools.source.path.join(path), copy)?;
    }
    let head = fs::read_to_string(tree.join("Makefile"))?;
    let rules = "allnoconfig:\n\t@touch $(O)/.config\nolddefconfig:\n\t@true\n";
    fs::write(tree.join("Makefile"), head + rules)?;
    Ok((tree, touched))
}

/// A kbuild that is never done, and silent: nothing that it writes could tell it that nobody reads.
const ENDLESS: &str = "allnoconfig:\n\t@+$(MAKE) -f $(CURDIR)/Makefile for-ever\nfor-ever:\n\t@sleep 60; true $(CURDIR)\n";

pub(super) fn killed_build() -> Result<()> {
    let world = World::with_tools()?;
    world.copy_kernel()?;
    let (pristine, _) = small_tree(&world)?;
    let head = fs::read_to_string(pristine.join("Makefile"))?;
    let (head, _) = head.split_once("allnoconfig:").context("it has a rule")?;
    fs::write(pristine.join("Makefile"), format!("{head}{ENDLESS}"))?;
    let tree = world.path("repository/target/lab/linux");
    let mut running = world
        .lab(&["kernel", "--prepare"])
        .set("HITLESS_LINUX", &pristine)
        .start()?;
    // The makes, and the shell in which the second one waits.
    running.reach("make was at work", |_| Ok(processes(&tree).len() >= 3))?;
    running.kill_alone()?;
    let start = Instant::now();
    while !processes(&tree).is_empty() {
        ensure!(
            start.elapsed() < LIMIT,
            "{:?} go on after `cargo lab` was killed",
            processes(&tree)
        );
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

pub(super) fn edited_tree() -> Result<()> {
    let world = World::with_tools()?;
    world.copy_kernel()?;
    let (pristine, _) = small_tree(&world)?;
    let lab = world.path("repository/target/lab");
    let prepare = |arguments: &[&str]| {
        let call = world.lab(arguments).set("HITLESS_LINUX", &pristine);
        call.run()?.succeeds(&["source  "])
    };
    let edited = "deep/in/the/tree.c";
    fs::create_dir_all(pristine.join("deep/in/the"))?;
    for content in ["one", "two"] {
        fs::write(pristine.join(edited), content)?;
        prepare(&["kernel", "--prepare"])?;
        let seen = fs::read_to_string(lab.join("linux").join(edited))?;
        ensure!(
            seen == content,
            "the tree has `{seen}` instead of `{content}`"
        );
    }
    let manifest = lab.join("kernel/hitless/manifest");
    fs::create_dir_all(manifest.with_file_name(""))?;
    fs::write(&manifest, "fingerprint x")?;
    fs::write(lab.join("linux").join(edited), "spoilt")?;
    prepare(&["kernel", "--prepare", "--fresh"])?;
    ensure!(
        !manifest.exists(),
        "the image passes as made of the new tree"
    );
    let seen = fs::read_to_string(lab.join("linux").join(edited))?;
    ensure!(seen == "two", "the tree still has `{seen}`");
    Ok(())
}

pub(super) fn bad_patch() -> Result<()> {
    let world = World::with_tools()?;
    world.copy_kernel()?;
    let (pristine, touched) = small_tree(&world)?;
    let ours = world.path("repository/kernel/patches/9999-last.patch");
    let tree = world.path("repository/target/lab/linux");
    let prepare = || {
        world
            .lab(&["kernel", "--prepare"])
            .set("HITLESS_LINUX", &pristine)
            .run()
    };
    let changed = || {
        let differs =
            |path: &&String| fs::read(tree.join(path)).ok() != fs::read(pristine.join(path)).ok();
        touched.iter().filter(differs).count()
    };

    fs::write(&ours, patch(false))?;
    prepare()?.fails(&[
        "the patch 9999-last.patch does not apply: Makefile\n",
        "Hunk #1 FAILED",
        "what to do: rebase the patch on the pinned release",
    ])?;
    ensure!(tree.join("Makefile").is_file(), "there is no tree");
    let count = changed();
    ensure!(count == 0, "{count} files of the tree were patched");

    fs::write(&ours, patch(true))?;
    prepare()?.succeeds(&["source  ", "config  "])?;
    let count = changed();
    ensure!(
        count == touched.len(),
        "{count} of {} files were patched",
        touched.len()
    );
    let makefile = fs::read_to_string(tree.join("Makefile"))?;
    ensure!(
        makefile.ends_with("# patched\n"),
        "the last patch is missing"
    );
    let folder = world.path("repository/target/lab");
    let staging = fs::read_dir(folder)?
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with("staging"));
    ensure!(staging.is_none(), "{staging:?} was not removed");
    Ok(())
}

pub(super) fn other_version() -> Result<()> {
    let world = World::with_tools()?;
    let wanted = world.tools.source.release;
    let other = world.linux("6.12.9")?;
    world.setup_with(&other).run()?.fails(&[
        &format!(
            "{} is Linux 6.12.9, but hitless is made for Linux {wanted}",
            other.display()
        ),
        &format!("what to do: use a Linux {wanted} tree (HITLESS_LINUX=PATH takes"),
        "or unset HITLESS_LINUX",
    ])?;
    let good = world.good_linux()?;
    world
        .setup_with(&good)
        .run()?
        .succeeds(&[&format!("linux     {wanted} at {}", good.display())])
}

pub(super) fn nothing_there() -> Result<()> {
    let world = World::with_tools()?;
    let wanted = world.tools.source.release;
    let nothing = world.path("no-such-tree");
    world.setup_with(&nothing).run()?.fails(&[
        &format!(
            "HITLESS_LINUX names {}, which is not there",
            nothing.display()
        ),
        &format!("what to do: name an unpacked Linux {wanted} tree or its tarball"),
    ])
}
