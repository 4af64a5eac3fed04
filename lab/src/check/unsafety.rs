// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The inventory of unsafe code.

use std::collections::BTreeMap;

use anyhow::Result;

use super::repository::{Outcome, Repository};
use super::tokens::lines_with;

/// The files in which unsafe code may be: each is a part of a border that nobody else has to cross. One is added here on
/// purpose, with a reviewer who looks, or not at all.
const ALLOWED: &[&str] = &[
    "kernel/tree/drivers/hitless/entry/iommu.rs",
    "kernel/tree/drivers/hitless/entry/iommufd.rs",
    "kernel/tree/drivers/hitless/entry/memory.rs",
    "kernel/tree/drivers/hitless/entry/pci.rs",
    "kernel/tree/drivers/hitless/entry/start.rs",
    "kernel/tree/drivers/hitless/entry/vtd.rs",
    "kernel/tree/drivers/hitless/seam/image.rs",
    "kernel/tree/drivers/hitless/seam/iommu.rs",
    "kernel/tree/drivers/hitless/seam/iommufd.rs",
    "kernel/tree/drivers/hitless/seam/pci.rs",
    "kernel/tree/drivers/hitless/seam/vfio.rs",
    "kernel/tree/drivers/hitless/seam/vtd.rs",
    "kernel/tree/rust/kernel/kho.rs",
    "kernel/tree/rust/kernel/liveupdate.rs",
    "kernel/tree/rust/kernel/table_memory.rs",
    "user/uapi/src/descriptor.rs",
    "user/uapi/src/ioctl.rs",
    "user/uapi/src/iommufd.rs",
    "user/uapi/src/kexec.rs",
    "user/uapi/src/liveupdate.rs",
    "user/uapi/src/memory.rs",
    "user/uapi/src/vfio.rs",
];

/// Beside its border, glue may make one promise.
const GLUE: &str = "kernel/tree/drivers/hitless/";

pub(super) fn run(repository: &Repository) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut inventory: BTreeMap<&str, usize> = BTreeMap::new();
    for (path, text) in repository.rust("")? {
        for (line, next) in lines_with(path, &text, "unsafe")? {
            *inventory.entry(path).or_default() += 1;
            // By `unsafe(uninit)` `global_lock!` is promised that somebody initializes the lock first.
            let promised = path.starts_with(GLUE) && next == "(uninit)";
            if !promised && !ALLOWED.contains(&path) {
                outcome.problems.push(format!(
                    "{path}:{line}: unsafe code is not allowed here: call something in user/uapi, rust/kernel or the glue's entry/ and seam/, or, if this is a new part of that border, add the file in lab/src/check/unsafety.rs"
                ));
            }
        }
    }
    for path in ALLOWED {
        let is_there = repository.files.iter().any(|file| file == path);
        if is_there && !inventory.contains_key(path) {
            outcome.problems.push(format!(
                "{path}: has no unsafe code any more: strike it out in lab/src/check/unsafety.rs"
            ));
        }
    }
    outcome.notes = inventory
        .iter()
        .map(|(path, count)| format!("{count:4} in {path}"))
        .collect();
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::repository::pretend;

    #[test]
    fn unsafe_code_is_counted_where_it_may_be_and_refused_elsewhere() {
        let code = "fn f() { unsafe { g() } }\nunsafe impl Send for X {}\n";
        let (_dir, repository) = pretend(&[
            ("user/uapi/src/ioctl.rs", code),
            ("user/uapi/src/vfio.rs", "fn f() {}\n"),
            ("user/uapi/src/new.rs", code),
            ("lab/guest/src/main.rs", code),
            ("core/src/a.rs", "#![forbid(unsafe_code)]\n// unsafe {}\n"),
            ("sim/src/b.rs", code),
        ]);
        let outcome = run(&repository).unwrap();
        assert_eq!(
            outcome.notes,
            [
                "   2 in lab/guest/src/main.rs",
                "   2 in sim/src/b.rs",
                "   2 in user/uapi/src/ioctl.rs",
                "   2 in user/uapi/src/new.rs"
            ]
        );
        let expected = [
            "user/uapi/src/new.rs:1:",
            "user/uapi/src/new.rs:2:",
            "lab/guest/src/main.rs:1:",
            "lab/guest/src/main.rs:2:",
            "sim/src/b.rs:1:",
            "sim/src/b.rs:2:",
            "user/uapi/src/vfio.rs: has no unsafe code",
        ];
        assert_eq!(outcome.problems.len(), expected.len());
        for words in expected {
            let said = |problem: &String| problem.starts_with(words);
            assert!(outcome.problems.iter().any(said), "{words}");
        }
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
