// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `kernel/patches`: which files they touch, and applying them to copies of those files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::trouble::trouble;

/// The patches of the repository in the order they apply.
pub fn list(repository: &Path) -> Result<Vec<PathBuf>> {
    let folder = repository.join("kernel/patches");
    let names = crate::fingerprint::files(&folder)?;
    Ok(names
        .into_iter()
        .filter(|name| name.ends_with(".patch"))
        .map(|name| folder.join(name))
        .collect())
}

/// The paths, in the kernel tree, of the files that a patch text changes, makes or removes.
pub fn touched(text: &str) -> BTreeSet<String> {
    let mut previous = "";
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if let (Some(old), Some(new)) = (previous.strip_prefix("--- "), line.strip_prefix("+++ ")) {
            for (side, prefix) in [(old, "a/"), (new, "b/")] {
                let path = side.split('\t').next().unwrap_or(side).trim_end();
                if let Some(path) = path.strip_prefix(prefix) {
                    found.insert(path.to_owned());
                }
            }
        }
        previous = line;
    }
    found
}

/// Applies all patches to copies of the files they touch, in `staging`. Returns the paths of the touched files;
/// one that is absent from `staging` afterwards was removed by a patch.
pub fn stage(pristine: &Path, patches: &[PathBuf], staging: &Path) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for patch in patches {
        let bytes = fs::read(patch).with_context(|| format!("cannot read {}", patch.display()))?;
        for path in touched(&String::from_utf8_lossy(&bytes)) {
            let original = pristine.join(&path);
            let copy = staging.join(&path);
            if let Some(parent) = copy.parent() {
                fs::create_dir_all(parent)?;
            }
            if all.insert(path) && original.is_file() {
                fs::copy(&original, &copy)
                    .with_context(|| format!("cannot copy {}", original.display()))?;
            }
        }
        apply(patch, staging)?;
    }
    Ok(all)
}

fn apply(patch: &Path, folder: &Path) -> Result<()> {
    let name = patch.file_name().unwrap_or_default().to_string_lossy();
    let result = Command::new("patch")
        .args([
            "-p1",
            "--batch",
            "--forward",
            "--fuzz=0",
            "--no-backup-if-mismatch",
            "-d",
        ])
        .arg(folder)
        .arg("-i")
        .arg(patch)
        .stdin(Stdio::null())
        .output()
        .context("cannot start `patch`: run `cargo lab setup`, or install the package patch")?;
    if result.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&result.stdout).into_owned();
    trouble(
        format!("the patch {name} does not apply: {}\n{}", failing_files(&text).join(", "), text.trim_end()),
        "rebase the patch on the pinned release, or on the patches before it (kernel/patches are applied in the order of their names)",
    )
}

/// From the words of patch(1): the files that had a rejected hunk or are missing.
fn failing_files(text: &str) -> Vec<String> {
    let mut current = String::new();
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line
            .strip_prefix("patching file ")
            .or(line.strip_prefix("checking file "))
        {
            current = rest.trim_matches('\'').to_owned();
        }
        let bad = line.contains("FAILED")
            || line.contains("can't find file")
            || line.contains("Reversed");
        if bad && !current.is_empty() && !found.contains(&current) {
            found.push(current.clone());
        }
        if let Some(rest) = line.strip_prefix("|+++ b/") {
            found.push(rest.split('\t').next().unwrap_or(rest).to_owned());
        }
    }
    if found.is_empty() {
        found.push("its text is damaged".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "From: x\n\n---\n a.c | 2 +-\n\n--- a/dir/a.c\n+++ b/dir/a.c\n@@ -1,3 +1,3 @@\n one\n-two\n+zwei\n three\n";

    fn setting(content: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("pristine/dir")).unwrap();
        fs::create_dir_all(dir.path().join("staging")).unwrap();
        fs::write(dir.path().join("pristine/dir/a.c"), content).unwrap();
        let patch = dir.path().join("0001-x.patch");
        fs::write(&patch, PATCH).unwrap();
        (dir, patch)
    }

    #[test]
    fn touched_files_are_read_from_the_header() {
        assert_eq!(touched(PATCH).into_iter().collect::<Vec<_>>(), ["dir/a.c"]);
        let new = "--- /dev/null\n+++ b/new.c\n@@ -0,0 +1 @@\n+x\n";
        assert_eq!(touched(new).into_iter().collect::<Vec<_>>(), ["new.c"]);
    }

    #[test]
    fn a_patch_changes_the_copy_only() {
        let (dir, patch) = setting("one\ntwo\nthree\n");
        let staging = dir.path().join("staging");
        stage(&dir.path().join("pristine"), &[patch], &staging).unwrap();
        assert_eq!(
            fs::read_to_string(staging.join("dir/a.c")).unwrap(),
            "one\nzwei\nthree\n"
        );
        assert_eq!(
            fs::read_to_string(dir.path().join("pristine/dir/a.c")).unwrap(),
            "one\ntwo\nthree\n"
        );
    }

    #[test]
    fn a_patch_that_does_not_apply_is_named_with_its_file() {
        let (dir, patch) = setting("one\nother\nthree\n");
        let error = stage(
            &dir.path().join("pristine"),
            std::slice::from_ref(&patch),
            &dir.path().join("staging"),
        )
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("0001-x.patch") && error.contains("dir/a.c"),
            "{error}"
        );
        fs::remove_file(dir.path().join("pristine/dir/a.c")).unwrap();
        let error = stage(
            &dir.path().join("pristine"),
            &[patch],
            &dir.path().join("staging"),
        )
        .unwrap_err()
        .to_string();
        assert!(error.contains("dir/a.c"), "{error}");
    }
}
