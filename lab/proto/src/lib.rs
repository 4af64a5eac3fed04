// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the lab, the guest and the frame generator tell one another.
//!
//! The lab drives, the guest obeys: one JSON object per line over the machine's second serial port.
//! [`Order`]s go in, [`Report`]s come out. A scenario (the demo, a test) is a list of orders, so the guest holds
//! no script of its own and a new test needs no new guest.
#![forbid(unsafe_code)]

pub mod bdf;
pub mod echo;
pub mod frame;
pub mod layout;
pub mod message;
pub mod qmp;
pub mod state;
pub mod tally;

pub use bdf::Bdf;
pub use message::{
    Act, Answer, Call, Command, Crowd, Failure, Order, Piece, Report, Step, What, Write,
    FIRST_TOKEN,
};

/// MiB of memory that can be had, by the content of /proc/meminfo: the guest fills its own, and the lab looks at the host's.
pub fn available_mib(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let figure = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = figure.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib >> 10)
}

#[test]
fn free_memory_is_read_in_mib() {
    let meminfo = "MemTotal: 9 kB\nMemAvailable:    2048000 kB\n";
    assert_eq!(available_mib(meminfo), Some(2000));
    assert_eq!(available_mib("MemTotal: 9 kB\n"), None);
}
