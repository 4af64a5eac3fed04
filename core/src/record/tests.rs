// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Records of one machine, and everything that can be wrong with them.

mod chain;
mod changes;
mod fixture;
mod golden;
mod lent;
mod log;
mod refusals;
mod scale;
