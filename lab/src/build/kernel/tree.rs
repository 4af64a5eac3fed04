// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The assembled source tree: the pinned release, patched, with our files linked in.
//!
//! Files are linked, not copied, so an edit in the repository is seen by the next build. Patched files are replaced
//! only when their content changes, so that kbuild rebuilds no more than it must.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::patches;
use crate::build::sources::linux::Source;
use crate::build::sources::work::sweep;
use crate::command;
use crate::fingerprint::{files, Fingerprint};
use crate::lock::lock;
use crate::paths;
use crate::progress::Step;
use crate::trouble::trouble;

const STAMP: &str = ".hitless.json";
/// Names of the folders begin like this that patches are tried in, beside the tree.
const STAGING: &str = "staging-";
/// Where core is linked into the tree.
pub const CORE: &str = "drivers/hitless/core";

/// What was done to the tree, so that the next run can undo and compare it.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Stamp {
    source: String,
    fingerprint: String,
    patched: BTreeSet<String>,
    linked: BTreeSet<String>,
}

/// The tree after [`assemble`].
#[derive(Clone, Debug)]
pub struct Tree {
    /// Its folder.
    pub path: PathBuf,
    /// Of the release, the patches and the list of linked files (not of the linked files' contents).
    pub fingerprint: String,
}

/// Removes the assembled tree and everything that was built of it; the next use makes both from nothing.
pub fn forget() -> Result<()> {
    let output = paths::output()?;
    let _lock = lock(&output)?;
    forget_in(&output)
}

/// The results first, the tree last: what is cut off has nothing left that looks current.
fn forget_in(output: &Path) -> Result<()> {
    for name in ["kernel", "build", "linux"] {
        let path = output.join(name);
        if path.exists() {
            fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Brings `target/lab/linux` up to date with the source, the patches and the list of our files. The caller holds the
/// lock of the output folder.
pub fn assemble(source: &Source) -> Result<Tree> {
    let repository = paths::repository()?;
    let tree = paths::output()?.join("linux");
    assemble_at(&repository, source, &tree)
}

fn assemble_at(repository: &Path, source: &Source, tree: &Path) -> Result<Tree> {
    let patches = patches::list(repository)?;
    let new_files = links(repository)?;
    let fingerprint = fingerprint(source, &patches, &new_files)?;
    let mut stamp = read_stamp(tree);
    if stamp.fingerprint == fingerprint {
        return Ok(Tree {
            path: tree.to_path_buf(),
            fingerprint,
        });
    }
    if stamp.source != source.identity {
        copy_release(source, tree)?;
        stamp = Stamp {
            source: source.identity.clone(),
            ..Stamp::default()
        };
        write_stamp(tree, &stamp)?;
    }

    // Everything that can be refused is refused before the tree is touched.
    let folder = tree.parent().unwrap_or(tree);
    sweep(folder, STAGING);
    let staging = tempfile::Builder::new()
        .prefix(STAGING)
        .tempdir_in(folder)?;
    let patched = patches::stage(&source.path, &patches, staging.path())?;
    for (path, _) in &new_files {
        if source.path.join(path).exists() || patched.contains(path) {
            return trouble(
                format!("kernel/tree/{path} is not a new file: the release or a patch has one of that name"),
                "kernel/tree holds new files only; change existing files by a patch in kernel/patches",
            );
        }
    }

    // From here on a run that is cut off leaves a stamp that matches nothing but still lists what has to be undone.
    let linked: BTreeSet<String> = new_files.iter().map(|(path, _)| path.clone()).collect();
    let stale_links: Vec<String> = stamp.linked.difference(&linked).cloned().collect();
    stamp.fingerprint = String::new();
    stamp.patched.extend(patched.iter().cloned());
    stamp.linked.extend(linked.iter().cloned());
    write_stamp(tree, &stamp)?;

    for path in &stale_links {
        remove(&tree.join(path))?;
    }
    for path in &stamp.patched {
        let wanted = if patched.contains(path) {
            staging.path().join(path)
        } else {
            source.path.join(path)
        };
        replace_if_different(&wanted, &tree.join(path))?;
    }
    for (path, target) in &new_files {
        link(target, &tree.join(path))?;
    }
    write_stamp(
        tree,
        &Stamp {
            source: source.identity.clone(),
            fingerprint: fingerprint.clone(),
            patched,
            linked,
        },
    )?;
    Ok(Tree {
        path: tree.to_path_buf(),
        fingerprint,
    })
}

/// Our files: path in the kernel tree, and what it links to.
fn links(repository: &Path) -> Result<Vec<(String, PathBuf)>> {
    let ours = repository.join("kernel/tree");
    let mut found: Vec<(String, PathBuf)> = files(&ours)?
        .into_iter()
        .map(|path| (path.clone(), ours.join(path)))
        .collect();
    if found
        .iter()
        .any(|(path, _)| path.starts_with("drivers/hitless/"))
    {
        found.push((CORE.to_owned(), repository.join("core")));
    }
    Ok(found)
}

fn fingerprint(
    source: &Source,
    patches: &[PathBuf],
    new_files: &[(String, PathBuf)],
) -> Result<String> {
    let mut sum = Fingerprint::new();
    sum.add("source", &source.identity);
    for patch in patches {
        let name = patch
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        sum.add(
            &name,
            fs::read(patch).with_context(|| format!("cannot read {}", patch.display()))?,
        );
    }
    for (path, target) in new_files {
        sum.add(path, target.to_string_lossy().as_bytes());
    }
    Ok(sum.finish())
}

/// Makes the tree a copy of the release: by hard links from the cache where possible, which takes seconds and no
/// space. That is safe because nothing here writes into an existing file: files are replaced.
fn copy_release(source: &Source, tree: &Path) -> Result<()> {
    let parent = tree.parent().context("the output folder has no parent")?;
    fs::create_dir_all(parent)?;
    paths::need_space(parent, 2300 << 20, "the kernel tree and its build")?;
    let step = Step::begin(format!(
        "Assembling the kernel tree from Linux {}",
        source.release
    ));
    let partial = tree.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)
            .with_context(|| format!("cannot remove {}", partial.display()))?;
    }
    let copy = |how: &str| {
        command::output(
            Command::new("cp")
                .args(["-a", how])
                .arg(&source.path)
                .arg(&partial),
        )
    };
    let linked = source.private && copy("--link").is_ok();
    if !linked {
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        copy("--reflink=auto").context("cannot copy the Linux source")?;
    }
    if linked || !tree.exists() {
        // A file of this source may be older than the object of the one before.
        forget_in(parent)?;
    } else {
        renew_dates(&partial, tree)?;
    }
    if tree.exists() {
        fs::remove_dir_all(tree).with_context(|| format!("cannot remove {}", tree.display()))?;
    }
    fs::rename(&partial, tree)?;
    step.done();
    Ok(())
}

/// Gives each file whose content is the same as in the tree before the date it has there, and others today's: make goes
/// by dates. These files are copies.
fn renew_dates(copy: &Path, before: &Path) -> Result<()> {
    let now = SystemTime::now();
    for entry in WalkDir::new(copy) {
        let entry = entry?;
        if !entry.file_type().is_file() {
            continue;
        }
        let (path, meta) = (entry.path(), entry.metadata()?);
        let old_path = before.join(path.strip_prefix(copy)?);
        let old = fs::symlink_metadata(&old_path).ok();
        let old = old.filter(|old| old.is_file() && old.len() == meta.len());
        let old_date = old.and_then(|old| old.modified().ok());
        if old_date.is_some() && old_date == meta.modified().ok() {
            continue;
        }
        let same = old_date.filter(|_| fs::read(path).ok() == fs::read(&old_path).ok());
        fs::File::open(path)
            .and_then(|file| file.set_modified(same.unwrap_or(now)))
            .with_context(|| format!("cannot date {}", path.display()))?;
    }
    Ok(())
}

fn read_stamp(tree: &Path) -> Stamp {
    let text = fs::read_to_string(tree.join(STAMP)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn write_stamp(tree: &Path, stamp: &Stamp) -> Result<()> {
    let partial = tree.join(".hitless.partial");
    fs::write(&partial, serde_json::to_string_pretty(stamp)?)?;
    Ok(fs::rename(partial, tree.join(STAMP))?)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Puts the content of `wanted` (or nothing, when that is absent) at `path` by a rename, never by writing into it.
fn replace_if_different(wanted: &Path, path: &Path) -> Result<()> {
    let Ok(content) = fs::read(wanted) else {
        return remove(path);
    };
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file())
        && fs::read(path).is_ok_and(|old| old == content)
    {
        return Ok(());
    }
    let folder = path.parent().context("a path in the tree has a parent")?;
    fs::create_dir_all(folder)?;
    let mut partial = tempfile::NamedTempFile::new_in(folder)?;
    std::io::Write::write_all(&mut partial, &content)?;
    fs::set_permissions(partial.path(), fs::metadata(wanted)?.permissions())?;
    partial.persist(path)?;
    Ok(())
}

fn link(target: &Path, path: &Path) -> Result<()> {
    if fs::read_link(path).is_ok_and(|old| old == target) {
        return Ok(());
    }
    remove(path)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    symlink(target, path).with_context(|| format!("cannot link {}", path.display()))
}

/// A small stand-in for a release, for tests.
#[cfg(test)]
pub fn pretend_source(folder: &Path) -> Source {
    fs::create_dir_all(folder.join("dir")).unwrap();
    fs::write(
        folder.join("Makefile"),
        "VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\n",
    )
    .unwrap();
    fs::write(folder.join("dir/a.c"), "one\ntwo\nthree\n").unwrap();
    Source {
        path: folder.to_path_buf(),
        identity: "pretend".to_owned(),
        release: crate::upstream::Release {
            version: 7,
            patchlevel: 3,
            sublevel: 4,
        },
        private: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str =
        "--- a/dir/a.c\n+++ b/dir/a.c\n@@ -1,3 +1,3 @@\n one\n-two\n+zwei\n three\n";

    #[test]
    fn patches_and_links_come_and_go_and_the_release_stays() {
        let dir = tempfile::tempdir().unwrap();
        let repository = dir.path().join("repository");
        let source = pretend_source(&dir.path().join("release"));
        let tree = dir.path().join("out/linux");
        fs::create_dir_all(repository.join("kernel/patches")).unwrap();
        fs::create_dir_all(repository.join("kernel/tree/drivers/hitless")).unwrap();
        fs::create_dir_all(repository.join("core/src")).unwrap();
        fs::write(repository.join("kernel/patches/0001-x.patch"), PATCH).unwrap();
        fs::write(
            repository.join("kernel/tree/drivers/hitless/new.c"),
            "new\n",
        )
        .unwrap();

        let first = assemble_at(&repository, &source, &tree).unwrap();
        assert_eq!(
            fs::read_to_string(tree.join("dir/a.c")).unwrap(),
            "one\nzwei\nthree\n"
        );
        assert_eq!(
            fs::read_to_string(source.path.join("dir/a.c")).unwrap(),
            "one\ntwo\nthree\n"
        );
        assert_eq!(
            fs::read_to_string(tree.join("drivers/hitless/new.c")).unwrap(),
            "new\n"
        );
        assert!(tree.join(CORE).join("src").is_dir());
        assert_eq!(
            first.fingerprint,
            assemble_at(&repository, &source, &tree)
                .unwrap()
                .fingerprint
        );

        fs::remove_file(repository.join("kernel/patches/0001-x.patch")).unwrap();
        fs::remove_file(repository.join("kernel/tree/drivers/hitless/new.c")).unwrap();
        let second = assemble_at(&repository, &source, &tree).unwrap();
        assert_ne!(first.fingerprint, second.fingerprint);
        assert_eq!(
            fs::read_to_string(tree.join("dir/a.c")).unwrap(),
            "one\ntwo\nthree\n"
        );
        assert!(!tree.join("drivers/hitless/new.c").exists());
        assert!(!tree.join(CORE).exists());
    }

    #[test]
    fn a_bad_patch_leaves_the_tree_alone() {
        let dir = tempfile::tempdir().unwrap();
        let repository = dir.path().join("repository");
        let source = pretend_source(&dir.path().join("release"));
        let tree = dir.path().join("out/linux");
        fs::create_dir_all(repository.join("kernel/patches")).unwrap();
        fs::write(repository.join("kernel/patches/0001-x.patch"), PATCH).unwrap();
        assemble_at(&repository, &source, &tree).unwrap();
        fs::write(repository.join("kernel/patches/0002-y.patch"), PATCH).unwrap();
        // What a killed run has left goes too.
        fs::create_dir(dir.path().join("out/staging-x")).unwrap();
        assert!(assemble_at(&repository, &source, &tree).is_err());
        assert_eq!(
            fs::read_to_string(tree.join("dir/a.c")).unwrap(),
            "one\nzwei\nthree\n"
        );
        assert_eq!(fs::read_dir(dir.path().join("out")).unwrap().count(), 1);
    }

    #[test]
    fn of_another_state_of_a_tree_only_what_changed_is_dated_anew() {
        let dir = tempfile::tempdir().unwrap();
        let repository = dir.path().join("repository");
        fs::create_dir_all(repository.join("kernel/patches")).unwrap();
        let mut source = pretend_source(&dir.path().join("release"));
        source.private = false;
        let tree = dir.path().join("out/linux");
        let object = dir.path().join("out/build/x.o");
        fs::create_dir_all(object.parent().unwrap()).unwrap();
        fs::write(&object, "").unwrap();
        let date = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        assemble_at(&repository, &source, &tree).unwrap();
        assert!(!object.exists());
        fs::create_dir_all(object.parent().unwrap()).unwrap();
        fs::write(&object, "").unwrap();
        let (makefile, file) = (date(&tree.join("Makefile")), date(&tree.join("dir/a.c")));

        // Another content that is older than the object of the one before.
        fs::write(source.path.join("dir/a.c"), "other\n").unwrap();
        let handle = fs::File::open(source.path.join("dir/a.c")).unwrap();
        handle.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        source.identity = "edited".to_owned();
        assemble_at(&repository, &source, &tree).unwrap();
        assert_eq!(date(&tree.join("Makefile")), makefile);
        assert!(date(&tree.join("dir/a.c")) > file && object.exists());
        assert_eq!(date(&source.path.join("dir/a.c")), SystemTime::UNIX_EPOCH);
        // What was edited then has not been edited since.
        let edited = date(&tree.join("dir/a.c"));
        source.identity = "edited elsewhere".to_owned();
        assemble_at(&repository, &source, &tree).unwrap();
        assert_eq!(date(&tree.join("dir/a.c")), edited);
    }

    #[test]
    fn a_forgotten_tree_takes_along_what_was_built_of_it() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["linux", "build/off", "kernel/off", "runs"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        forget_in(dir.path()).unwrap();
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().collect();
        assert!(left.len() == 1 && left[0].file_name() == "runs");
    }

    #[test]
    fn our_file_must_be_new() {
        let dir = tempfile::tempdir().unwrap();
        let repository = dir.path().join("repository");
        let source = pretend_source(&dir.path().join("release"));
        fs::create_dir_all(repository.join("kernel/tree/dir")).unwrap();
        fs::write(repository.join("kernel/tree/dir/a.c"), "").unwrap();
        let error = assemble_at(&repository, &source, &dir.path().join("out/linux"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("dir/a.c"), "{error}");
    }
}
