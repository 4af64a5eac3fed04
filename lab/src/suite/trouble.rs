// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What goes wrong in set-up and running, each provoked for real: `cargo lab` itself is run in a doctored environment,
//! or a machine is made to panic or to fall silent.
//!
//! | module | what |
//! |---|---|
//! | [`call`], [`running`], [`ended`] | `cargo lab` called, waited for or killed, and what it said |
//! | [`world`] | a cache, a repository and programs of a test's own |
//! | [`namespace`] | mounts and a network that only one run sees |
//! | [`left`] | what a machine may not leave behind |
//! | [`missing`], [`space`], [`source`], [`tools`] | troubles of set-up |
//! | [`machines`], [`written`] | troubles of running, and of its results |
//!
//! Each test looks for the words of the cause and of what to do. None changes the host: what would is done where only
//! the run under test sees it.

use anyhow::Result;

use crate::suite::{Bench, End, Test};

mod call;
mod ended;
mod left;
mod machines;
mod missing;
mod namespace;
mod running;
mod source;
mod space;
mod tools;
mod world;
mod written;

/// Why a trouble can not be provoked on this host.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Cannot(String);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        alone(
            "missing_packages_without_root",
            "set-up names the packages that are missing and the apt-get command, and goes on once they are there",
            missing::packages_without_root,
        ),
        alone(
            "missing_packages_as_root",
            "a broken package system is told with apt's words, and once it is mended set-up installs what is missing",
            missing::packages_as_root,
        ),
        alone(
            "cache_of_another_user",
            "a cache that is not the user's is named, with the variable that moves it",
            missing::cache_of_another_user,
        ),
        alone(
            "other_distribution",
            "another distribution is called by its name, and what it can do instead is said",
            missing::other_distribution,
        ),
        alone(
            "no_network",
            "without network set-up says so after one try, and the same cache works once there is one",
            missing::network,
        ),
        alone(
            "interrupted_download",
            "a killed download leaves nothing that looks whole, and the next run removes the rest",
            missing::interrupted_download,
        ),
        alone(
            "no_space_for_linux",
            "a full disk is told with what is needed and what is free, before anything is fetched",
            space::for_linux,
        ),
        alone(
            "no_space_for_bindgen",
            "the same where only tools have to be built, and the next run with room goes well",
            space::for_bindgen,
        ),
        machine(
            "no_room_for_memory",
            "no room for a machine's memory is told with every place that was looked at",
            space::for_memory,
        ),
        alone(
            "interrupted_unpacking",
            "set-up killed while it unpacks Linux leaves no half tree, and the next run completes",
            source::interrupted_unpacking,
        ),
        alone(
            "patch_that_does_not_apply",
            "the patch and its file are named, the tree stays unpatched, and a mended patch applies",
            source::bad_patch,
        ),
        alone(
            "edited_linux",
            "an edit anywhere in the tree that HITLESS_LINUX names is seen, and `--fresh` leaves nothing of the tree before",
            source::edited_tree,
        ),
        alone(
            "killed_build",
            "make and what it has started end with a `cargo lab` that is killed",
            source::killed_build,
        ),
        alone(
            "other_linux_version",
            "HITLESS_LINUX of another release is refused with both versions",
            source::other_version,
        ),
        alone(
            "no_linux_there",
            "HITLESS_LINUX that names nothing is refused with the path",
            source::nothing_there,
        ),
        alone(
            "qemu_without_a_device",
            "a QEMU that lacks a device is refused by the device's name, and one that has it is taken",
            tools::qemu_without_a_device,
        ),
        alone(
            "qemu_without_a_property",
            "a QEMU that lacks a property of the IOMMU is refused by the property's name and the profile's",
            tools::qemu_without_a_property,
        ),
        alone(
            "profile_of_another_qemu",
            "a profile of the user's own with a property that QEMU does not know is refused before anything is built",
            tools::profile_of_another_qemu,
        ),
        alone(
            "no_such_test",
            "a filter that chooses no test is no success, and where their names are is said",
            tools::no_such_test,
        ),
        alone(
            "qemu_too_old",
            "an old QEMU first on PATH is named with its version and the oldest that will do",
            tools::qemu_too_old,
        ),
        alone(
            "qemu_that_does_not_run",
            "a QEMU that ends with an error is named, with its own words",
            tools::qemu_that_does_not_run,
        ),
        alone(
            "rust_source_from_debian",
            "where rustup has no library source, a Debian package of rustc's version gives the same source",
            tools::rust_source_from_debian,
        ),
        alone(
            "rust_source_nowhere",
            "a rustc whose library source nobody has is told with the versions that Debian has",
            tools::rust_source_nowhere,
        ),
        alone(
            "figures_that_can_not_be_written",
            "a file for `--json` that can not be written is refused before anything is built or run",
            written::figures,
        ),
        machine(
            "dry_run",
            "`cargo lab boot --dry-run` needs no room for a machine, and leaves nothing behind",
            space::for_dry_run,
        ),
        machine(
            "picture_that_can_not_be_written",
            "the figures and the closing line are there without the picture, and the demo fails for it",
            written::picture,
        ),
        machine(
            "panic_at_boot",
            "a kernel that panics at boot ends `cargo lab demo` with the panic's line, and leaves nothing",
            machines::panic_at_boot,
        ),
        machine(
            "panic_under_traffic",
            "a kernel that panics in a run ends it at once with the panic's line, and leaves nothing",
            machines::panic_under_traffic,
        ),
        machine(
            "silence_at_boot",
            "a machine that stands still at boot is given up after the limit, with its processors' state",
            machines::silence_at_boot,
        ),
        machine(
            "silence_under_traffic",
            "a machine that stands still in a run is given up after the limit, with what was waited for",
            machines::silence_under_traffic,
        ),
        machine(
            "lab_is_killed",
            "QEMU and the machine's memory go with a `cargo lab` that is killed",
            machines::lab_is_killed,
        ),
        machine(
            "lab_is_killed_at_start",
            "what a `cargo lab` leaves that is killed before QEMU has everything, the next one removes, and nothing else",
            machines::lab_is_killed_at_start,
        ),
    ]
}

fn alone(name: &str, about: &str, run: fn() -> Result<()>) -> Test {
    Test::alone(format!("trouble::{name}"), about, move || end(run()))
}

fn machine(name: &str, about: &str, run: fn(&Bench) -> Result<()>) -> Test {
    Test::new(format!("trouble::{name}"), "legacy", about, move |bench| {
        end(run(bench))
    })
}

fn end(result: Result<()>) -> Result<End> {
    match result {
        Ok(()) => Ok(End::Passed),
        Err(error) => match error.downcast::<Cannot>() {
            Ok(Cannot(why)) => Ok(End::Skipped(why)),
            Err(error) => Err(error),
        },
    }
}
