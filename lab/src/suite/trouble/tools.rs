// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs that are there and will not do: QEMU, and a Rust toolchain without its library's source.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};

use super::call::Call;
use super::ended::Ended;
use super::namespace::Namespace;
use super::world::World;
use crate::command::find;
use crate::fingerprint::Fingerprint;
use crate::paths;
use crate::setup::qemu::PROGRAM as QEMU;
use crate::setup::rust;

pub(super) fn qemu_without_a_device() -> Result<()> {
    let world = World::with_tools()?;
    let linux = world.good_linux()?;
    let real = world.qemu.display();
    let programs = world.program(QEMU, &format!("{real} \"$@\" | grep -v 'name \"igb\"'"))?;
    let setup = || world.setup_with(&linux).with_programs(&programs);
    let path = programs.join(QEMU).display().to_string();
    for _ in 0..2 {
        setup()?.run()?.fails(&[
            &format!("{path} has no device igb\n"),
            "what to do: use a QEMU that was built with it: Debian's qemu-system-x86 10.0.0 or newer",
        ])?;
    }
    world.program(QEMU, &format!("exec {real} \"$@\""))?;
    setup()?.run()?.succeeds(&[&format!("qemu      {path}")])
}

pub(super) fn qemu_without_a_property() -> Result<()> {
    let world = World::new()?;
    let real = world.qemu.display();
    let programs = world.program(QEMU, &format!("{real} \"$@\" | grep -v -e x-flts -e fsts"))?;
    let path = programs.join(QEMU).display().to_string();
    world.lab(&["setup"]).with_programs(&programs)?.run()?.fails(&[
        &format!("{path}: the device intel-iommu has no property `fsts`, which the profile scalable-first-stage needs"),
        "what to do: use another QEMU: Debian's qemu-system-x86 10.0.0 or newer",
    ])
}

pub(super) fn profile_of_another_qemu() -> Result<()> {
    let world = World::new()?;
    let legacy = paths::repository()?.join("lab/profiles/legacy.toml");
    let profile = world.path("mine.toml");
    let text = fs::read_to_string(legacy)?.replace("intremap =", "x-magic = \"on\"\nintremap =");
    fs::write(&profile, text)?;
    let name = profile.display().to_string();
    for verb in ["demo", "boot"] {
        world.lab(&[verb, "--profile", &name]).run()?.fails(&[
            "the device intel-iommu has no property `x-magic`, which the profile mine needs",
            "what to do: correct the profile's [iommu]: `qemu-system-x86_64 -device intel-iommu,help`",
        ])?;
    }
    Ok(())
}

pub(super) fn no_such_test() -> Result<()> {
    for arguments in [
        &["test", "--vm-only", "zzznomatch"][..],
        &["test", "--vm-only", "--list", "zzznomatch"],
    ] {
        Call::new(arguments).run()?.fails(&[
            "no test has a name with `zzznomatch` in it",
            "what to do: `cargo lab test --list` names them all",
        ])?;
    }
    Ok(())
}

pub(super) fn qemu_too_old() -> Result<()> {
    let world = World::new()?;
    world.give_away()?;
    let programs = world.program(
        QEMU,
        "echo 'QEMU emulator version 7.2.17 (Debian 1:7.2+dfsg-7+deb12u13)'",
    )?;
    // As root it would install the right one.
    let ended = world
        .lab(&["setup"])
        .with_programs(&programs)?
        .by_nobody(&world.copy_of_lab())?
        .run()?;
    ended.fails(&[
        &format!(
            "{} is QEMU 7.2.17, the machines need 10.0.0 or newer, and only root may install it",
            programs.join(QEMU).display()
        ),
        "what to do: run `cargo lab setup` as root once, or `apt-get install ",
        "qemu-system-x86` as root",
    ])
}

pub(super) fn qemu_that_does_not_run() -> Result<()> {
    let world = World::new()?;
    let words = "error while loading shared libraries: libslirp.so.0";
    let programs = world.program(QEMU, &format!("echo '{words}' >&2; exit 127"))?;
    let ended = world.lab(&["setup"]).with_programs(&programs)?.run()?;
    ended.fails(&[
        &format!("{} does not run", programs.join(QEMU).display()),
        words,
        "what to do: mend it (`apt-get install --reinstall qemu-system-x86`)",
    ])
}

/// A toolchain whose library source is not there, and a rustup that has none; `more` is asked before the real rustc.
fn toolchain_without_source(world: &World, more: &str) -> Result<PathBuf> {
    let real = find("rustc").context("the host has rustc")?;
    let empty = world.path("sysroot");
    fs::create_dir(&empty)?;
    world.program(
        "rustc",
        &format!(
            "case \"$*\" in\n'--print sysroot') echo '{}'; exit ;;\n{more}\nesac\nexec '{}' \"$@\"",
            empty.display(),
            real.display()
        ),
    )?;
    world.program(
        "rustup",
        "echo 'error: could not download file' >&2; exit 1",
    )
}

pub(super) fn rust_source_from_debian() -> Result<()> {
    let compiler = rust::compiler()?;
    let world = World::new()?;
    world.link_cache("tools")?;
    let linux = world.good_linux()?;
    let programs = toolchain_without_source(&world, "")?;
    let setup = || world.setup_with(&linux).with_programs(&programs);
    let ended = setup()?.run()?.online()?;
    if !ended.is_good() {
        // Debian need not have every version: then all that can be had is what it has.
        return nowhere(&ended, &compiler.release.to_string());
    }
    let kept = world.cache().join(format!("rust-src-{}", compiler.release));
    let line = format!("rust-src  {}", kept.join("library").display());
    ended.succeeds(&[&line])?;
    let core = |library: &Path| -> Result<String> {
        let folder = library.join("core/src");
        Ok(Fingerprint::new().add_files(&folder)?.finish())
    };
    ensure!(
        core(&kept.join("library"))? == core(&world.tools.rust_library)?,
        "the package's core is another one than that of the host"
    );
    ensure!(
        fs::read_dir(world.cache().join("downloads"))?
            .next()
            .is_none(),
        "the package was kept"
    );
    // Once is enough.
    let view = Namespace::without_network()?;
    setup()?.inside(&view).run()?.succeeds(&[&line])
}

pub(super) fn rust_source_nowhere() -> Result<()> {
    let version = "1.85.99";
    let world = World::new()?;
    world.link_cache("tools")?;
    let linux = world.good_linux()?;
    let answer = format!("--version) echo 'rustc {version} (0123abcd 2026-01-01)'; exit ;;");
    let programs = toolchain_without_source(&world, &answer)?;
    let ended = world
        .setup_with(&linux)
        .with_programs(&programs)?
        .run()?
        .online()?;
    nowhere(&ended, version)
}

fn nowhere(ended: &Ended, version: &str) -> Result<()> {
    ended.fails(&[
        "rustup has no rust-src: ",
        "error: could not download file",
        &format!("no suite of the Debian mirror has rust-src {version}; seen: "),
        "; sid: ",
        &format!("what to do: add it to the toolchain of the rustc {version} on PATH (`rustup component add rust-src`)"),
    ])
}
