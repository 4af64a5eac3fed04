// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo lab`: see [`hitless_lab`].

use std::process::ExitCode;

fn main() -> ExitCode {
    hitless_lab::cli::main()
}
