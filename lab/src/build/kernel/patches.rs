// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `kernel/patches`: which files they touch, and applying them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;
use crate::fingerprint::files;
use crate::trouble::Trouble;

/// The patches of the repository in the order they apply.
pub fn list(repository: &Path) -> Result<Vec<PathBuf>> {
    let folder = repository.join("kernel/patches");
    let mut names = files(&folder)?;
    names.retain(|name| name.ends_with(".patch"));
    Ok(names.iter().map(|name| folder.join(name)).collect())
}

/// The paths, in the kernel tree, of the files that patches change, make or remove.
pub fn touched(patches: &[PathBuf]) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for patch in patches {
        found.extend(named(&fs::read_to_string(patch)?));
    }
    Ok(found)
}

/// Copies of a release the files that patches touch; returns all that they touch.
pub fn copy_touched(
    patches: &[PathBuf],
    release: &Path,
    folder: &Path,
) -> Result<BTreeSet<String>> {
    let touched = touched(patches)?;
    for path in &touched {
        let (from, to) = (release.join(path), folder.join(path));
        if from.is_file() {
            fs::create_dir_all(to.parent().unwrap_or(&to))?;
            fs::copy(&from, to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    Ok(touched)
}

/// The paths that a patch's text names.
fn named(text: &str) -> BTreeSet<String> {
    let mut previous = "";
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if let (Some(old), Some(new)) = (previous.strip_prefix("--- "), line.strip_prefix("+++ ")) {
            for (side, prefix) in [(old, "a/"), (new, "b/")] {
                let path = side.split('\t').next().unwrap_or(side).trim_end();
                found.extend(path.strip_prefix(prefix).map(str::to_owned));
            }
        }
        previous = line;
    }
    found
}

/// Applies patches to a tree. What they change is replaced: other links to a file still have what was there.
pub fn apply(patches: &[PathBuf], tree: &Path) -> Result<()> {
    for patch in patches {
        let mut program = Command::new("patch");
        program
            .args(["-p1", "--batch", "--forward", "--fuzz=0"])
            .args(["--no-backup-if-mismatch", "--reject-file=-", "-d"])
            .arg(tree)
            .arg("-i")
            .arg(patch);
        command::output(&mut program).map_err(|error| {
            let name = patch.file_name().unwrap_or_default().to_string_lossy();
            Trouble::new(
                format!("the patch {name} does not apply: {error:#}"),
                "rebase the patch on the pinned release, or on the patches before it (kernel/patches are applied in the order of their names)",
            )
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touched_files_are_read_from_the_header() {
        let text =
            "From: x\n\n---\n a.c | 2 +-\n\n--- a/dir/a.c\n+++ b/dir/a.c\n@@ -1 +1 @@\n-x\n+y\n\
                    --- /dev/null\n+++ b/new.c\t2026\n@@ -0,0 +1 @@\n+x\n";
        let touched: Vec<_> = named(text).into_iter().collect();
        assert_eq!(touched, ["dir/a.c", "new.c"]);
    }
}
