// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The counter: PID 1 of a virtual machine inside the lab's machine. Its kernel drives the card that is passed through to it;
//! it counts the frames that come, and answers each with a [`hitless_proto::echo::Echo`].
//!
//! | module | what |
//! |---|---|
//! | `card` | the card's interface: its ring's size set, and switched on |
//! | `frames` | frames in, echoes out |
#![forbid(unsafe_code)]

mod card;
mod frames;

use std::fs;

use anyhow::{Context, Result};
use rustix::mount::MountFlags;

fn main() {
    if !rustix::process::getpid().is_init() {
        eprintln!(
            "This is the counter of the hitless lab: it runs as PID 1 of a virtual machine inside the lab's machine."
        );
        std::process::exit(2);
    }
    let Err(error) = run();
    eprintln!("counter: {error:#}");
    // PID 1 must not end: that would be a kernel panic, which tells less than this line.
    loop {
        std::thread::park();
    }
}

fn run() -> Result<std::convert::Infallible> {
    for (kind, path) in [("proc", "/proc"), ("sysfs", "/sys")] {
        rustix::mount::mount(kind, path, kind, MountFlags::empty(), None)
            .with_context(|| format!("mounting {kind}"))?;
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("the boot's name")?;
    println!("counter: up, boot {}", boot.trim());
    let card = card::find()?;
    println!("counter: the card is {card}");
    let socket = frames::socket()?;
    // The kernel hands words that it does not know itself to its first process.
    let ring = std::env::var("ring").context("the command line has no ring=")?;
    card::set_ring(&card, ring.parse().context("ring=")?)?;
    card::switch_on(&card)?;
    println!("counter: {card} is on");
    frames::answer(&socket, boot.trim())
}
