// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command line.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Build, boot and test kernels whose devices keep running while the kernel is replaced.
///
/// Every verb does the set-up it needs by itself; a second run reuses everything.
///
/// Environment: HITLESS_CACHE names the folder for what is fetched (default: $XDG_CACHE_HOME/hitless or
/// ~/.cache/hitless). HITLESS_LINUX names an unpacked Linux tree or a tarball to use instead of the Debian package,
/// HITLESS_QEMU a QEMU to use instead of the one on PATH.
#[derive(Debug, Parser)]
#[command(name = "cargo lab", bin_name = "cargo lab", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Install packages, fetch the Linux source, the Rust library source and bindgen.
    Setup(crate::setup::Args),
    /// Assemble the kernel tree and build the kernel (two generations of the image).
    Kernel(crate::kernel::Args),
    /// Boot a machine with its console on this terminal, and a shell in it.
    Boot(crate::boot::Args),
    /// The main job: replace the kernel beneath a receiving network card, and account for every frame.
    Demo(crate::demo::Args),
    /// Run the host tests, then the machine tests.
    Test(crate::test::Args),
    /// Formatting, lints, layering rules, unsafe inventory, size of the C seams.
    Check(crate::check::Args),
    /// Write a plain patch series against the pinned Linux release.
    Export(crate::export::Args),
}

/// Parses the command line and runs the verb; `test` is what runs the tests, and `inside` what is done with a virtual machine
/// in the demo. Errors end on stderr, with a status other than 0.
pub fn main(
    test: fn(crate::test::Args) -> Result<ExitCode>,
    inside: crate::demo::Inside,
) -> ExitCode {
    end_quietly_without_a_reader();
    let outcome = match Arguments::parse().verb {
        Verb::Setup(args) => crate::setup::main(args),
        Verb::Kernel(args) => crate::kernel::main(args),
        Verb::Boot(args) => crate::boot::main(args),
        Verb::Demo(args) => crate::demo::main(args, inside),
        Verb::Test(args) => test(args),
        Verb::Check(args) => crate::check::main(args),
        Verb::Export(args) => crate::export::main(args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `cargo lab check | head` closes our output early; that is no reason for a backtrace.
fn end_quietly_without_a_reader() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let words = panic.payload().downcast_ref::<String>();
        if words.is_some_and(|words| words.starts_with("failed printing to stdout: Broken pipe")) {
            std::process::exit(1);
        }
        usual(panic);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
