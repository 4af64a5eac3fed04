// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What goes wrong in set-up and running, one test for each kind, each provoked for real: `cargo lab` itself is run where
//! something is missing that only it does not see, or a machine is made to panic or to fall silent. Each looks for the
//! words of the cause and of what to do.

pub(crate) mod lab;
pub(crate) mod machines;
pub(crate) mod setup;
