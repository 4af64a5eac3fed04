// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A machine under traffic with everything that watches it, and the steps of an update.
//!
//! | module | what |
//! |---|---|
//! | [`scene`] | the machine, its cards, their frames and their witnesses |
//! | [`update`] | the steps of an update, in the order of the main job |
//! | [`search`] | the search for frames where none may be |
//! | [`vm`] | a machine with a virtual machine inside |
//! | [`end`] | a whole run, and its end: what was seen becomes evidence, and evidence a verdict |

pub mod end;
pub mod scene;
pub mod search;
pub mod update;
pub mod vm;
