// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `cargo lab check` looks at, the kernel with hitless compiled out, and the bindings beside the kernel's headers.

use anyhow::{ensure, Result};

use crate::host;
use crate::test::{End, Test};
use hitless_lab::build::kernel::config::Config;
use hitless_lab::build::kernel::{build, off};
use hitless_lab::check;

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
    tests.push(Test::alone(
        "uapi::headers",
        "structures and numbers of the bindings are those of the patched kernel's headers",
        headers,
    ));
    tests
}

/// Runs the one test of the bindings that needs a kernel tree.
fn headers() -> Result<End> {
    let tree = build::prepare(Config::Off)?.source;
    let count = host::run_ignored(
        "hitless_uapi",
        "structures_and_numbers",
        ("HITLESS_LINUX_HEADERS", tree.as_os_str()),
    )?;
    ensure!(
        (count.passed, count.failed) == (1, 0),
        "the bindings are not what the headers in {} say; `HITLESS_LINUX_HEADERS={0} cargo test -p hitless_uapi -- \
         --ignored` tells which",
        tree.display()
    );
    Ok(End::Passed)
}
