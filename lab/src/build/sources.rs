// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Gets everything that is not in the repository: packages, QEMU, the Linux source, the Rust library source, bindgen.
//!
//! Each step looks at the result first and does nothing when it is there. What is fetched or built is made under a
//! temporary name and renamed, so an interrupted set-up resumes and never leaves half a thing that looks whole.

pub mod apt;
pub mod bindgen;
pub mod linux;
pub mod packages;
pub mod qemu;
pub mod rust;
pub mod tools;
pub mod vmm;
pub mod work;
