// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The inventory of unsafe code.

use anyhow::Result;

use super::repository::{Outcome, Repository};
use super::rust::Words;

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

pub(super) fn run(repository: &Repository, outcome: &mut Outcome) -> Result<()> {
    let mut missing = ALLOWED.to_vec();
    missing.retain(|path| repository.files.contains_key(*path));
    for (path, text) in repository.texts("", &[".rs"]) {
        // Most files are not worth a look.
        if !text.contains("unsafe") {
            continue;
        }
        let found = Words::read(path, text)?;
        let mut count = 0;
        for (at, line) in found.places("unsafe") {
            count += 1;
            // By `unsafe(uninit)` `global_lock!` is promised that somebody initializes the lock first.
            let next = found.words.get(at + 2);
            let promised = path.starts_with(GLUE) && next.is_some_and(|word| word == "uninit");
            if !promised && !ALLOWED.contains(&path) {
                outcome.problems.push(format!(
                    "{path}:{line}: unsafe code is not allowed here: call something in user/uapi, rust/kernel or the glue's entry/ and seam/, or, if this is a new part of that border, add the file in lab/src/check/unsafety.rs"
                ));
            }
        }
        if count > 0 {
            outcome.notes.push(format!("{count:4} in {path}"));
            missing.retain(|known| *known != path);
        }
    }
    outcome.problems.extend(missing.iter().map(|path| {
        format!("{path}: has no unsafe code any more: strike it out in lab/src/check/unsafety.rs")
    }));
    Ok(())
}
