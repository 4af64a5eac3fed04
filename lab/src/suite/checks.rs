// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `cargo lab check` looks at, and the kernel with hitless compiled out.

use crate::check;
use crate::kernel::off;
use crate::suite::{End, Test};

pub(crate) fn tests() -> Vec<Test> {
    let mut tests: Vec<Test> = check::names()
        .map(|(name, about)| {
            Test::alone(format!("check::{name}"), about, move || {
                check::passes(name).map(|()| End::Passed)
            })
        })
        .collect();
    tests.push(Test::alone(
        "check::off",
        "with hitless compiled out, what the patches touch compiles without a warning and names nothing of it",
        || off::check().map(|()| End::Passed),
    ));
    tests
}
