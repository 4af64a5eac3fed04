// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The assembled source tree: the pinned release, patched, with our files linked in.
//!
//! It is made anew when a patch or the list of our files has changed, which takes seconds. Our files are linked, not
//! copied, so an edit in the repository is seen by the next build. Patched files keep their dates while their content is
//! the same, so that kbuild rebuilds no more than it must.

use std::fs::{self, File};
use std::os::unix::fs::{symlink, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result};
use walkdir::WalkDir;

use super::patches;
use crate::build::sources::linux::Source;
use crate::command;
use crate::fingerprint::{files, Fingerprint};
use crate::lock::lock;
use crate::paths;
use crate::progress::Step;
use crate::trouble::trouble;

/// A file in the tree that says what the tree was made of.
const STAMP: &str = ".hitless";
/// Where core is linked into the tree.
pub const CORE: &str = "drivers/hitless/core";
/// Tree and build, measured, with some air.
const SPACE: u64 = 2300 << 20;

/// The tree after [`assemble`].
#[derive(Clone, Debug)]
pub struct Tree {
    /// Its folder.
    pub path: PathBuf,
    /// Of the release, the patches and the list of linked files (not of the linked files' contents).
    pub fingerprint: String,
}

/// Removes the assembled tree and everything that was built of it; the next use makes both from nothing. The results are
/// removed first, the tree last: what is cut off has nothing left that looks current.
pub fn forget() -> Result<()> {
    let output = paths::output()?;
    let _lock = lock(&output)?;
    let folders = ["kernel", "build", "linux"].map(|name| output.join(name));
    folders.iter().try_for_each(|folder| remove(folder))
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

/// Brings `target/lab/linux` up to date with the source, the patches and the list of our files. The caller holds the
/// lock of the output folder.
pub fn assemble(source: &Source) -> Result<Tree> {
    assemble_in(&paths::output()?, &paths::repository()?, source)
}

fn assemble_in(output: &Path, repository: &Path, source: &Source) -> Result<Tree> {
    let patches = patches::list(repository)?;
    let ours = repository.join("kernel/tree");
    let mut links: Vec<(String, PathBuf)> = files(&ours)?
        .into_iter()
        .map(|path| (path.clone(), ours.join(path)))
        .collect();
    links.push((CORE.to_owned(), repository.join("core")));

    let mut sum = Fingerprint::new();
    sum.add("source", &source.identity);
    for patch in &patches {
        sum.add_file(&patch.to_string_lossy(), patch)?;
    }
    for (path, target) in &links {
        sum.add(path, target.to_string_lossy().as_bytes());
    }
    let tree = Tree {
        path: output.join("linux"),
        fingerprint: sum.finish(),
    };
    if fs::read_to_string(tree.path.join(STAMP)).is_ok_and(|stamp| stamp == tree.fingerprint) {
        return Ok(tree);
    }

    let step = Step::begin(format!(
        "Assembling the kernel tree from Linux {}",
        source.release
    ));
    let partial = output.join("linux.partial");
    remove(&partial)?;
    let filled = fill(&partial, source, &patches, &links);
    if filled.is_err() {
        remove(&partial)?;
    }
    filled?;
    if tree.path.exists() {
        renew_dates(&partial, &tree.path)?;
    }
    fs::write(partial.join(STAMP), &tree.fingerprint)?;
    remove(&tree.path)?;
    fs::rename(&partial, &tree.path)?;
    step.done();
    Ok(tree)
}

fn fill(
    tree: &Path,
    source: &Source,
    patches: &[PathBuf],
    links: &[(String, PathBuf)],
) -> Result<()> {
    copy(source, tree)?;
    patches::apply(patches, tree)?;
    for (path, target) in links {
        let path = tree.join(path);
        if path.symlink_metadata().is_ok() {
            return trouble(
                format!("{} is not a new file: the release or a patch has one of that name", target.display()),
                "kernel/tree holds new files only; change existing files by a patch in kernel/patches",
            );
        }
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        symlink(target, &path).with_context(|| format!("cannot link {}", path.display()))?;
    }
    Ok(())
}

/// Copies the release: by hard links from the cache where possible, which takes seconds and no space. That is safe because
/// nothing here writes into an existing file: files are replaced.
fn copy(source: &Source, to: &Path) -> Result<()> {
    let folder = to.parent().unwrap_or(to);
    fs::create_dir_all(folder)?;
    paths::need_space(folder, SPACE, "the kernel tree and its build")?;
    let copy = |how: &str| {
        let mut cp = Command::new("cp");
        command::output(cp.args(["-a", how]).arg(&source.path).arg(to))
    };
    if source.private && copy("--link").is_ok() {
        return Ok(());
    }
    remove(to)?;
    copy("--reflink=auto").context("cannot copy the Linux source")?;
    Ok(())
}

/// make goes by dates: each file whose content is the same as in the tree before gets the date that it has there, and each
/// other one today's, though the release's own may be older than an object of the tree before.
fn renew_dates(tree: &Path, before: &Path) -> Result<()> {
    for entry in WalkDir::new(tree) {
        let entry = entry?;
        if !entry.file_type().is_file() {
            continue;
        }
        let (path, meta) = (entry.path(), entry.metadata()?);
        let old_path = before.join(path.strip_prefix(tree)?);
        let old = fs::symlink_metadata(&old_path).ok();
        let old = old.filter(|old| old.is_file() && old.len() == meta.len());
        if old
            .as_ref()
            .is_some_and(|old| old.mtime() == meta.mtime() && old.mtime_nsec() == meta.mtime_nsec())
        {
            continue;
        }
        let same = old.filter(|_| fs::read(path).ok() == fs::read(&old_path).ok());
        let date = same.map_or(Ok(SystemTime::now()), |old| old.modified())?;
        if meta.nlink() > 1 {
            // The cache has the same file, which is not to change.
            let copy = path.with_extension("hitless-copy");
            fs::copy(path, &copy)?;
            fs::rename(copy, path)?;
        }
        File::open(path)
            .and_then(|file| file.set_modified(date))
            .with_context(|| format!("cannot date {}", path.display()))?;
    }
    Ok(())
}

/// A small stand-in for a release, for tests.
#[cfg(test)]
pub fn pretend_source(folder: &Path) -> Source {
    fs::create_dir_all(folder.join("dir")).unwrap();
    fs::write(folder.join("dir/a.c"), "one\ntwo\nthree\n").unwrap();
    Source {
        path: folder.to_path_buf(),
        private: true,
        ..Source::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str =
        "--- a/dir/a.c\n+++ b/dir/a.c\n@@ -1,3 +1,3 @@\n one\n-two\n+zwei\n three\n";

    /// A repository, a release and an output folder.
    struct Setting {
        dir: tempfile::TempDir,
        source: Source,
    }

    impl Setting {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let source = pretend_source(&dir.path().join("release"));
            let setting = Self { dir, source };
            setting.write("release/b.c", "other\n");
            setting.write("repository/kernel/patches/0001-x.patch", PATCH);
            setting.write("repository/kernel/tree/drivers/hitless/new.c", "new\n");
            setting.write("repository/core/src/lib.rs", "core\n");
            setting
        }

        fn path(&self, path: &str) -> PathBuf {
            self.dir.path().join(path)
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn read(&self, path: &str) -> String {
            fs::read_to_string(self.path(path)).unwrap_or_default()
        }

        fn date(&self, path: &str) -> SystemTime {
            fs::metadata(self.path(path)).unwrap().modified().unwrap()
        }

        fn assemble(&self) -> Result<Tree> {
            assemble_in(&self.path("out"), &self.path("repository"), &self.source)
        }
    }

    #[test]
    fn patches_and_links_come_and_go_and_the_release_stays() {
        let setting = Setting::new();
        let first = setting.assemble().unwrap();
        assert_eq!(setting.read("out/linux/dir/a.c"), "one\nzwei\nthree\n");
        assert_eq!(setting.read("release/dir/a.c"), "one\ntwo\nthree\n");
        assert_eq!(setting.read("out/linux/drivers/hitless/new.c"), "new\n");
        assert_eq!(
            setting.read("out/linux/drivers/hitless/core/src/lib.rs"),
            "core\n"
        );
        assert_eq!(setting.assemble().unwrap().fingerprint, first.fingerprint);

        // Another patch leaves what it does not touch as it was.
        let (patched, plain) = (
            setting.date("out/linux/dir/a.c"),
            setting.date("out/linux/b.c"),
        );
        let other = PATCH
            .replace("dir/a.c", "new.c")
            .replace("--- a/new.c", "--- /dev/null");
        let other = other
            .replace("-1,3 +1,3", "-0,0 +1,1")
            .replace(" one\n-two\n", "");
        setting.write(
            "repository/kernel/patches/0002-y.patch",
            &other.replace(" three\n", ""),
        );
        assert_ne!(setting.assemble().unwrap().fingerprint, first.fingerprint);
        assert_eq!(setting.read("out/linux/new.c"), "zwei\n");
        assert_eq!(setting.date("out/linux/dir/a.c"), patched);

        // What is as in the release again is younger than what was built of it, but not in the release.
        let released = setting.date("release/dir/a.c");
        for path in [
            "kernel/patches/0001-x.patch",
            "kernel/tree/drivers/hitless/new.c",
        ] {
            fs::remove_file(setting.path("repository").join(path)).unwrap();
        }
        setting.assemble().unwrap();
        assert_eq!(setting.read("out/linux/dir/a.c"), "one\ntwo\nthree\n");
        assert!(setting.date("out/linux/dir/a.c") > patched);
        assert_eq!(setting.date("release/dir/a.c"), released);
        assert_eq!(setting.date("out/linux/b.c"), plain);
        assert!(!setting.path("out/linux/drivers/hitless/new.c").exists());
    }

    #[test]
    fn what_is_refused_leaves_the_tree_alone() {
        let setting = Setting::new();
        setting.assemble().unwrap();
        let refused = |path: &str, text: &str, words: &[&str]| {
            setting.write(path, text);
            let error = setting.assemble().unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
            assert_eq!(setting.read("out/linux/dir/a.c"), "one\nzwei\nthree\n");
            assert_eq!(fs::read_dir(setting.path("out")).unwrap().count(), 1);
            fs::remove_file(setting.path(path)).unwrap();
        };
        let words = ["0002-y.patch does not apply", "dir/a.c", "rebase"];
        refused("repository/kernel/patches/0002-y.patch", PATCH, &words);
        let words = ["kernel/tree/dir/a.c is not a new file", "by a patch"];
        refused("repository/kernel/tree/dir/a.c", "", &words);
        setting.assemble().unwrap();
    }

    #[test]
    fn an_edit_in_a_given_tree_is_dated_anew() {
        let mut setting = Setting::new();
        setting.source.private = false;
        setting.assemble().unwrap();
        let (same, edited) = (
            setting.date("out/linux/dir/a.c"),
            setting.date("out/linux/b.c"),
        );
        // Another content that is older than the object of the one before.
        setting.write("release/b.c", "edited\n");
        let file = File::open(setting.path("release/b.c")).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        setting.source.identity = "edited".to_owned();
        setting.assemble().unwrap();
        assert_eq!(setting.date("out/linux/dir/a.c"), same);
        assert!(setting.date("out/linux/b.c") > edited);
        assert_eq!(setting.date("release/b.c"), SystemTime::UNIX_EPOCH);
    }
}
