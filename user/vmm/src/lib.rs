// SPDX-License-Identifier: Apache-2.0 OR MIT
#![doc = include_str!("../README.md")]

mod bind;
mod collect;
mod convert;
pub mod error;
pub mod incoming;
mod interrupts;
pub mod manifest;
mod mapping;
mod name;
mod notes;
mod parts;
mod plan;
mod rebuild;
mod refusals;
mod swap;

pub use collect::{Collected, Preserved};
pub use convert::descriptor;
pub use error::{Error, Stuck};
pub use incoming::Incoming;
pub use manifest::{MANIFEST_TOKEN, MAX_STATE};
pub use mapping::{Mapping, Rights};
pub use parts::Built;
pub use plan::{Interrupts, MAX_NAME};
pub use swap::Running;
