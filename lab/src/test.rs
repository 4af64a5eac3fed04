// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo lab test`: its arguments. What is run is in `tests/`, which uses the lab as a library.

/// Arguments of `cargo lab test`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Run only tests whose name contains one of these.
    #[arg(value_name = "FILTER")]
    pub filters: Vec<String>,
    /// Run the long tests, too. A filter that names one runs it without this.
    #[arg(long)]
    pub all: bool,
    /// Name the tests and what they show, and run none.
    #[arg(long)]
    pub list: bool,
    /// Keep the logs of machines that did what they should.
    #[arg(long)]
    pub keep: bool,
    /// Leave the machine tests out.
    #[arg(long, conflicts_with = "vm_only")]
    pub host_only: bool,
    /// Leave the host tests out.
    #[arg(long)]
    pub vm_only: bool,
}
