// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The inventory of unsafe code.

use std::collections::BTreeMap;

use anyhow::Result;

use super::tokens::{words, Word};
use super::{Outcome, Repository};

/// Where unsafe code may be: each of these is a border that nobody else has to cross.
const ALLOWED: &[&str] = &[
    "kernel/tree/rust/",
    "kernel/tree/drivers/hitless/entry.rs",
    "kernel/tree/drivers/hitless/entry/",
    "user/uapi/src/",
    "lab/guest/src/",
];

/// Beside its border, glue may make one promise: see [`is_promise`].
const GLUE: &str = "kernel/tree/drivers/hitless/";

pub(super) fn run(repository: &Repository) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut inventory: BTreeMap<&str, usize> = BTreeMap::new();
    for (path, text) in repository.rust("")? {
        let words = words(path, &text)?;
        for (at, word) in words
            .iter()
            .enumerate()
            .filter(|(_, word)| word.text == "unsafe")
        {
            *inventory.entry(path).or_default() += 1;
            let promised = path.starts_with(GLUE) && is_promise(&words[at + 1..]);
            if !promised && !is_allowed(path) {
                outcome.problems.push(format!(
                    "{path}:{}: unsafe code is not allowed here: call something in user/uapi, rust/kernel or entry.rs",
                    word.line
                ));
            }
        }
    }
    outcome.notes = inventory
        .iter()
        .map(|(path, count)| format!("{count:4} in {path}"))
        .collect();
    Ok(outcome)
}

/// `unsafe(uninit)`, by which `global_lock!` is promised that somebody initializes the lock first.
fn is_promise(after: &[Word]) -> bool {
    after
        .iter()
        .take(3)
        .map(|word| word.text.as_str())
        .eq(["(", "uninit", ")"])
}

fn is_allowed(path: &str) -> bool {
    ALLOWED
        .iter()
        .any(|place| path == *place || (place.ends_with('/') && path.starts_with(place)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::pretend;

    #[test]
    fn unsafe_code_is_counted_where_it_may_be_and_refused_elsewhere() {
        let code = "fn f() { unsafe { g() } }\nunsafe impl Send for X {}\n";
        let (_dir, repository) = pretend(&[
            ("user/uapi/src/a.rs", code),
            ("core/src/a.rs", "#![forbid(unsafe_code)]\n// unsafe {}\n"),
            ("sim/src/b.rs", code),
        ]);
        let outcome = run(&repository).unwrap();
        assert_eq!(
            outcome.notes,
            ["   2 in sim/src/b.rs", "   2 in user/uapi/src/a.rs"]
        );
        assert_eq!(outcome.problems.len(), 2);
        assert!(outcome.problems[0].starts_with("sim/src/b.rs:1:"));
    }

    #[test]
    fn glue_may_promise_an_initialized_lock_and_no_more() {
        let path = "kernel/tree/drivers/hitless/x.rs";
        let (_dir, repository) = pretend(&[(
            path,
            "global_lock! { unsafe(uninit) static A: Mutex<u8> = 0; }",
        )]);
        assert!(run(&repository).unwrap().problems.is_empty());
        let (_dir, repository) = pretend(&[(path, "fn f() { unsafe { g() } }")]);
        assert_eq!(run(&repository).unwrap().problems.len(), 1);
    }
}
