// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo lab demo`: the main job. A card receives frames through one update of the kernel after another, and every
//! frame is accounted for.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use crate::build::kernel::config::Config;
use crate::evidence::verdict::Ending;
use crate::machine::pace::Rate;
use crate::machine::parts::Parts;
use crate::machine::profile::Profile;
use crate::machine::program::Program;
use crate::paths;
use crate::play::end::Outcome;
use crate::play::scene::{Plan, Scene, CARDS, SECOND_IOVA};
use crate::play::update::OFF;

mod figures;
mod inside;
mod picture;
mod table;

pub use inside::{Inside, Request};

/// Frames per second unless somebody wants another rate.
const RATE: u32 = 2000;
/// The exit status of a run that the host was too slow for. 2 is that of a command line that is none.
const TOO_SLOW: u8 = 3;

/// Arguments of `cargo lab demo`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 if every promise was kept, 1 if not or if something failed, 2 for a wrong command \
                        line, 3 if nothing went wrong but the host was too slow to tell."
)]
pub struct Args {
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Frames per second, 10 to 5000: the ring has to hold what comes during a jump. Without this 2000, or what this
    /// host can take if that is less.
    #[arg(long, value_parser = clap::value_parser!(u32).range(10..=5000))]
    rate: Option<u32>,
    /// Seconds of traffic before the first update and after each one.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=3600))]
    seconds: u32,
    /// Updates in a row.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    updates: u32,
    /// The machine: legacy, scalable-second-stage, scalable-first-stage, ..., or the path of a .toml file. With --vm: vm or
    /// scalable-vm.
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// A real virtual machine instead of a small program: stock QEMU runs Linux, whose own driver drives the card, and
    /// hitlessd holds it while the kernel beneath is replaced.
    #[arg(long, conflicts_with_all = ["rate", "seconds"])]
    vm: bool,
    /// The same with hitless switched off in both kernels: shows the loss, and fails.
    #[arg(long)]
    control: bool,
    /// Keep the run's logs even if all went well.
    #[arg(long)]
    keep: bool,
}

/// Runs the demo; the status is 0 only if every promise was kept.
pub fn main(args: Args, inside: Inside) -> Result<ExitCode> {
    if let Some(path) = &args.json {
        figures::check(path)?;
    }
    if args.vm {
        let request = Request {
            profile: args.profile.as_deref().unwrap_or("vm"),
            updates: usize::try_from(args.updates)?,
            control: args.control,
        };
        return inside::main(&request, args.json.as_deref(), args.keep, inside);
    }
    let profile = Profile::load(args.profile.as_deref().unwrap_or("legacy"))?;
    // A profile that QEMU does not know is refused before anything is built.
    let qemu = Program::for_profile(&profile)?;
    let parts = Parts::with_qemu(qemu, Config::Hitless)?;
    let (name, remark, words, update): (_, _, _, fn(&mut Scene) -> _) = match args.control {
        true => ("control", ", hitless off", OFF, Scene::update_without),
        false => ("demo", "", "", Scene::update),
    };
    let (machine, about) = (&profile.name, &profile.about);
    println!("{machine}: {about} {} updates{remark}.", args.updates);
    let plan = Plan {
        name: name.to_owned(),
        profile,
        rate: args.rate.map_or(Rate::AtMost(RATE), Rate::Exactly),
        words: words.to_owned(),
        second_goes_on: false,
        second_iova: SECOND_IOVA,
        cards: CARDS,
        talk: true,
    };
    let pause = Duration::from_secs(args.seconds.into());
    let outcome = Scene::boot(plan, &parts)?.play(args.updates, pause, update)?;
    Ok(tell(&args, name, outcome))
}

/// Prints and writes what was seen. What can not be written makes the demo fail, and takes nothing else with it.
fn tell(args: &Args, name: &str, mut outcome: Outcome) -> ExitCode {
    print!("{}", table::timeline(&outcome));
    let mut unwritten = Vec::new();
    if let Some(path) = &args.json {
        match figures::write(&outcome.verdict.report, path) {
            Ok(()) => println!("figures: {}", path.display()),
            Err(error) => unwritten.push(error),
        }
    }
    let picture = format!("{name}-{}.svg", outcome.evidence.profile);
    let drawn = paths::output().and_then(|folder| picture::draw(&outcome, folder.join(picture)));
    match drawn {
        Ok(path) => println!("picture: {}", path.display()),
        Err(error) => unwritten.push(error),
    }
    let good = outcome.verdict.is_good();
    if good && !args.keep {
        outcome.directory.discard();
    } else {
        println!("logs: {}", outcome.directory.path().display());
    }
    println!("{}", table::closing(&outcome.verdict));
    for error in &unwritten {
        eprintln!("error: {error:#}");
    }
    match outcome.verdict.ending() {
        _ if !unwritten.is_empty() => ExitCode::FAILURE,
        Ending::Good => ExitCode::SUCCESS,
        Ending::Loss => ExitCode::FAILURE,
        Ending::TooSlow => TOO_SLOW.into(),
    }
}
