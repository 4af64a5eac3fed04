// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo lab boot`: a machine with its console on this terminal, for looking around.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::build::kernel::build::images;
use crate::build::kernel::config::Config;
use crate::build::sources::tools::shell;
use crate::machine::directory::Directory;
use crate::machine::parts::Parts;
use crate::machine::process::with_parent_death;
use crate::machine::profile::Profile;
use crate::machine::program::Program;
use crate::machine::qemu;
use crate::machine::room;
use crate::machine::running::command_line;

/// Makes the guest program show its menu instead of waiting for the lab's orders.
const MENU: &str = "lab=menu";

/// Arguments of `cargo lab boot`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machine: the name of a profile in lab/profiles, or the path of such a file.
    #[arg(long, default_value = "legacy")]
    profile: String,
    /// Which kernel.
    #[arg(long, value_enum, default_value_t)]
    config: Config,
    /// Which of its two generations: 1 or 2.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    generation: u8,
    /// Words for the kernel's command line, such as "hitless=off".
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    append: String,
}

/// Runs `cargo lab boot`.
pub fn main(args: Args) -> Result<ExitCode> {
    let profile = Profile::load(&args.profile)?;
    let qemu = Program::for_profile(&profile)?;
    if let Err(error) = shell() {
        eprintln!("the machine will have the menu but no shell: {error:#}");
    }
    let mut parts = Parts::with_qemu(qemu, args.config)?;
    if profile.vm.is_some() {
        parts = parts.with_vm()?;
    }
    if args.generation == 2 {
        parts.kernel = images(args.config)?.gen2;
    }
    let line = command_line(&profile, format!("{MENU} {}", args.append).trim());
    room::need(profile.machine.memory_mib)?;
    let directory = Directory::create("boot")?;
    let flags = qemu::flags(&profile, &parts, &line, directory.path(), true);
    eprintln!(
        "{} ({}), kernel {}, generation {}",
        profile.name, profile.about, args.config, args.generation
    );
    eprintln!(
        "the menu's `p` powers off; QEMU's trace goes to {}",
        directory.path().join(qemu::TRACE).display()
    );
    let status = with_parent_death(&parts.qemu.path)
        .args(&flags)
        .status()
        .with_context(|| {
            format!(
                "cannot start {}: run `cargo lab setup`",
                parts.qemu.path.display()
            )
        })?;
    Ok(ExitCode::from(u8::from(!status.success())))
}
