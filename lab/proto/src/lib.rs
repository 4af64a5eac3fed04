// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the lab, the guest and the frame generator tell one another.
//!
//! The lab drives, the guest obeys: one JSON object per line over the machine's second serial port.
//! [`Order`]s go in, [`Report`]s come out. A scenario (the demo, a test) is a list of orders, so the guest holds
//! no script of its own and a new test needs no new guest.
#![forbid(unsafe_code)]

pub mod bdf;
pub mod frame;
pub mod layout;
pub mod message;
pub mod state;
pub mod tally;

pub use bdf::Bdf;
pub use message::{Act, Answer, Call, Command, Crowd, Failure, Order, Piece, Report, What, MARGIN};
