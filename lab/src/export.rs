// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo lab export`: everything that goes into the kernel as plain patches, for people with a tree of their own.
//!
//! git makes them, in a repository that is thrown away and holds of the pinned release what the patches touch: so they are
//! known to apply. New files come first (nothing refers to them yet), then `kernel/patches` in order, so that the tree builds
//! after each patch. What comes out is read by `git am` as well as by `patch -p1`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::build::kernel::patches;
use crate::build::sources::tools::linux_source;
use crate::fingerprint::files;
use crate::trouble::trouble;
use crate::{command, paths};

/// Arguments of `cargo lab export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder to write to; it is created, and must be empty.
    folder: PathBuf,
}

/// New files that become one patch.
struct Part {
    subject: &'static str,
    body: &'static str,
    /// Where they are in the repository and in the kernel tree, and which of them.
    from: &'static str,
    to: &'static str,
    takes: fn(&str) -> bool,
}

const PARTS: [Part; 3] = [
    Part {
        subject: "hitless: core: records, rules and VT-d table code",
        body: "What is decided about devices that keep running across a kexec, in safe\nRust that allocates nothing and sees neither kernel nor machine.",
        from: "core/src",
        to: "drivers/hitless/core/src",
        takes: |_| true,
    },
    Part {
        subject: "rust: abstractions that hitless needs",
        body: "New files only; a later patch makes them part of the kernel crate.",
        from: "kernel/tree",
        to: "",
        takes: |path| path.starts_with("rust/"),
    },
    Part {
        subject: "hitless: glue and seams",
        body: "The kernel part of hitless: glue in Rust that runs core's decisions, and\nthe C files through which the subsystems ask. Nothing builds them yet.",
        from: "kernel/tree",
        to: "",
        takes: |path| !path.starts_with("rust/"),
    },
];

/// KUnit's test vectors are binary, so only git can apply them. They come last: nothing else needs them.
const VECTORS: Part = Part {
    subject: "hitless: golden bytes for KUnit",
    body: "Records as every released version wrote them. Only the KUnit suite\n(CONFIG_HITLESS_KUNIT_TEST) reads them.",
    from: "core/testdata",
    to: "drivers/hitless/core/testdata",
    takes: |_| true,
};

/// Runs `cargo lab export`.
pub fn main(args: Args) -> Result<ExitCode> {
    let source = linux_source()?;
    let release = &source.release;
    let series = export(&paths::repository()?, &source.path, &args.folder)?;
    let folder = args.folder.display();
    println!(
        "{} patches against Linux {release} in {folder}",
        series.len()
    );
    println!("apply them in a Linux {release} tree with:");
    println!("    git am {folder}/*.patch");
    println!("or, without git, with:");
    println!("    for patch in {folder}/*.patch; do patch -p1 -i \"$patch\" || break; done");
    if let Some(last) = series.last() {
        println!("({last} is binary: only git can apply it, and only KUnit needs it)");
    }
    println!("then switch on CONFIG_HITLESS and what it depends on (kernel/config/base.config lists it all)");
    Ok(ExitCode::SUCCESS)
}

/// A git in a folder that is a repository of its own. The patches that are made here are by this author, at this date.
struct Git<'a> {
    folder: &'a Path,
    name: String,
    mail: String,
    date: String,
}

impl<'a> Git<'a> {
    /// Begins a repository. What is made here is from the author and the date of a patch, so that it is the same each time.
    fn init(folder: &'a Path, patch: &str) -> Result<Self> {
        let value = |name: &str| patch.lines().find_map(|line| line.strip_prefix(name));
        let from = value("From: ").unwrap_or("hitless <hitless@example.org>");
        let (name, mail) = from.split_once(" <").unwrap_or((from, from));
        let git = Self {
            folder,
            name: format!("user.name={}", name.trim_matches('"')),
            mail: format!("user.email={}", mail.trim_end_matches('>')),
            date: value("Date: ").unwrap_or("1970-01-01T00:00:00Z").to_owned(),
        };
        git.run(&["init", "--quiet"])?;
        Ok(git)
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut git = Command::new("git");
        for setting in [
            "core.autocrlf=false",
            "commit.gpgsign=false",
            &self.name,
            &self.mail,
        ] {
            git.args(["-c", setting]);
        }
        // A repository that the environment names would be written to.
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            git.env_remove(name);
        }
        git.args(arguments)
            .current_dir(self.folder)
            .env("GIT_AUTHOR_DATE", &self.date)
            .env("GIT_COMMITTER_DATE", &self.date);
        command::output(&mut git)
    }

    fn commit(&self, message: &str) -> Result<()> {
        self.run(&["add", "--force", "."])?;
        let arguments = [
            "commit",
            "--quiet",
            "--allow-empty",
            "--signoff",
            "--message",
        ];
        self.run(&[&arguments[..], &[message]].concat())?;
        Ok(())
    }
}

/// Writes the series; returns the names of its files.
fn export(repository: &Path, release: &Path, folder: &Path) -> Result<Vec<String>> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    if fs::read_dir(folder)?.next().is_some() {
        return trouble(
            format!("{} is not empty", folder.display()),
            "name an empty or a new folder",
        );
    }
    let list = patches::list(repository)?;
    let first = list.first().map_or(Ok(String::new()), fs::read_to_string)?;
    let work = tempfile::tempdir()?;
    let git = Git::init(work.path(), &first)?;
    patches::copy_touched(&list, release, work.path())?;
    git.commit("release")?;
    git.run(&["tag", "release"])?;
    let add = |part: &Part| -> Result<()> {
        for path in files(&repository.join(part.from))? {
            if (part.takes)(&path) {
                let to = work.path().join(part.to).join(&path);
                copy(&repository.join(part.from).join(&path), &to)?;
            }
        }
        git.commit(&format!("{}\n\n{}", part.subject, part.body))
    };
    PARTS.iter().try_for_each(add)?;
    for patch in &list {
        let patch = patch.to_string_lossy();
        git.run(&["am", "--quiet", "--keep-non-patch", &patch])?;
    }
    add(&VECTORS)?;
    let output = folder.canonicalize()?;
    let output = output.to_string_lossy();
    let arguments = [
        "format-patch",
        "--quiet",
        "--zero-commit",
        "--no-signature",
        "--binary",
    ];
    git.run(&[&arguments[..], &["--output-directory", &output, "release"]].concat())?;
    files(folder)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\nFrom: A B <a@b.example>\nDate: Fri, 20 Nov 2026 21:37:59 +0000\nSubject: [PATCH] dir: change a word\n\nWhy.\n\nSigned-off-by: A B <a@b.example>\n---\n\ndiff --git a/dir/a.c b/dir/a.c\n--- a/dir/a.c\n+++ b/dir/a.c\n@@ -1,3 +1,3 @@\n one\n-two\n+zwei\n three\n";
    const VECTOR: &[u8] = &[0, 0xff, b'\n', 0x80, 0];
    /// What is exported: where it is in the repository, and where in the kernel tree.
    const FILES: [(&str, &str, &[u8]); 4] = [
        (
            "kernel/tree/drivers/hitless/main.rs",
            "drivers/hitless/main.rs",
            b"//! glue\n",
        ),
        (
            "kernel/tree/rust/kernel/kho.rs",
            "rust/kernel/kho.rs",
            b"//! no newline at the end",
        ),
        (
            "core/src/lib.rs",
            "drivers/hitless/core/src/lib.rs",
            b"//! core\n\n",
        ),
        (
            "core/testdata/abi/x.bin",
            "drivers/hitless/core/testdata/abi/x.bin",
            VECTOR,
        ),
    ];

    #[test]
    fn the_series_is_taken_by_patch_and_by_git() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let put = |path: PathBuf, bytes: &[u8]| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        let repository = path("repository");
        put(
            repository.join("kernel/patches/0010-dir-change.patch"),
            PATCH.as_bytes(),
        );
        for (ours, _, bytes) in FILES {
            put(repository.join(ours), bytes);
        }
        for tree in ["for-git", "for-patch"] {
            put(path(tree).join("dir/a.c"), b"one\ntwo\nthree\n");
        }
        let series = export(&repository, &path("for-git"), &path("out")).unwrap();
        assert_eq!(series.len(), 5);
        assert_eq!(series[3], "0004-dir-change-a-word.patch");
        let again = export(&repository, &path("for-git"), &path("again")).unwrap();
        let bytes = |name: &str| {
            let read = |file| fs::read(path(name).join(file)).unwrap();
            series.iter().map(read).collect::<Vec<_>>()
        };
        assert_eq!((again, bytes("again")), (series.clone(), bytes("out")));
        let full = export(&repository, &path("for-git"), &path("out"));
        assert!(full.unwrap_err().to_string().contains("is not empty"));

        let list: Vec<PathBuf> = series.iter().map(|name| path("out").join(name)).collect();
        patches::apply(&list[..4], &path("for-patch")).unwrap();
        let tree = path("for-git");
        let git = Git::init(&tree, PATCH).unwrap();
        git.commit("release").unwrap();
        for patch in &list {
            git.run(&["am", "--quiet", &patch.to_string_lossy()])
                .unwrap();
        }
        let log = git.run(&["log", "-1", "--skip=1", "--format=%an %s"]);
        assert_eq!(log.unwrap().trim(), "A B dir: change a word");
        for tree in ["for-git", "for-patch"] {
            let read = |name: &str| fs::read(path(tree).join(name)).unwrap();
            assert_eq!(read("dir/a.c"), b"one\nzwei\nthree\n");
            for (_, inside, bytes) in FILES {
                if bytes != VECTOR || tree == "for-git" {
                    assert_eq!(read(inside), bytes);
                }
            }
        }
    }
}
