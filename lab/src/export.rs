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
use crate::upstream::Upstream;
use crate::{command, paths};

/// Arguments of `cargo lab export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder to write to; it is created, and must not hold anything else.
    folder: PathBuf,
    /// Replace a series that was exported there before.
    #[arg(long)]
    replace: bool,
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

/// Who makes the patches that are made here, and when: as the first of the others, so that they are the same each time.
struct Author {
    name: String,
    mail: String,
    date: String,
}

impl Author {
    fn of(patch: &str) -> Self {
        let value = |name: &str| patch.lines().find_map(|line| line.strip_prefix(name));
        let from = value("From: ").unwrap_or("hitless <hitless@example.org>");
        let (name, mail) = from.split_once(" <").unwrap_or((from, from));
        Self {
            name: name.trim_matches('"').to_owned(),
            mail: mail.trim_end_matches('>').to_owned(),
            date: value("Date: ").unwrap_or("1970-01-01T00:00:00Z").to_owned(),
        }
    }

    fn signature(&self) -> String {
        format!("Signed-off-by: {} <{}>", self.name, self.mail)
    }

    fn variables(&self) -> Vec<(String, &str)> {
        let of = |who: &str| {
            [
                ("NAME", &self.name),
                ("EMAIL", &self.mail),
                ("DATE", &self.date),
            ]
            .map(|(what, value)| (format!("GIT_{who}_{what}"), value.as_str()))
        };
        of("AUTHOR").into_iter().chain(of("COMMITTER")).collect()
    }
}

/// Runs `cargo lab export`.
pub fn main(args: Args) -> Result<ExitCode> {
    let repository = paths::repository()?;
    let release = Upstream::read(&repository)?.release;
    check_folder(&args.folder, args.replace)?;
    let series = export(&repository, &linux_source()?.path, &args.folder)?;
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

/// Writes the series; returns the names of its files.
fn export(repository: &Path, release: &Path, folder: &Path) -> Result<Vec<String>> {
    let list = patches::list(repository)?;
    let first = list.first().map_or(Ok(String::new()), fs::read_to_string)?;
    let author = Author::of(&first);
    let work = tempfile::tempdir()?;
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "core.autocrlf=false", "-c", "commit.gpgsign=false"]);
        // A repository that the environment names would be written to.
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            git.env_remove(name);
        }
        git.args(arguments)
            .current_dir(work.path())
            .envs(author.variables());
        command::output(&mut git)
    };
    let commit = |message: &str| {
        git(&["add", "--force", "."])?;
        git(&["commit", "--quiet", "--allow-empty", "--message", message])
    };
    git(&["init", "--quiet"])?;
    for patch in &list {
        for path in patches::touched(&fs::read_to_string(patch)?) {
            if release.join(&path).is_file() {
                copy(&release.join(&path), &work.path().join(&path))?;
            }
        }
    }
    commit("release")?;
    git(&["tag", "release"])?;
    let add = |part: &Part| -> Result<()> {
        for path in files(&repository.join(part.from))? {
            if (part.takes)(&path) {
                let to = work.path().join(part.to).join(&path);
                copy(&repository.join(part.from).join(&path), &to)?;
            }
        }
        let signed = author.signature();
        commit(&format!("{}\n\n{}\n\n{signed}", part.subject, part.body)).map(|_| ())
    };
    PARTS.iter().try_for_each(add)?;
    for patch in &list {
        git(&[
            "am",
            "--quiet",
            "--keep-non-patch",
            &patch.to_string_lossy(),
        ])?;
    }
    add(&VECTORS)?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for name in files(folder)? {
        fs::remove_file(folder.join(name))?;
    }
    let folder = folder.canonicalize()?;
    git(&[
        "format-patch",
        "--quiet",
        "--zero-commit",
        "--no-signature",
        "--binary",
        "--output-directory",
        &folder.to_string_lossy(),
        "release",
    ])?;
    let series = files(&folder)?;
    fs::write(folder.join("series"), series.join("\n") + "\n")?;
    Ok(series)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

fn check_folder(folder: &Path, replace: bool) -> Result<()> {
    let names = match folder.is_dir() {
        true => files(folder)?,
        false if folder.exists() => {
            return trouble(
                format!("{} is not a folder", folder.display()),
                "name another",
            )
        }
        false => return Ok(()),
    };
    let is_ours = |name: &&String| name.ends_with(".patch") || *name == "series";
    if let Some(name) = names.iter().find(|name| !is_ours(name)) {
        return trouble(
            format!("{} holds other things, {name} among them", folder.display()),
            "name an empty or a new folder",
        );
    }
    if !names.is_empty() && !replace {
        return trouble(
            format!("{} holds patches already", folder.display()),
            "add --replace, or name another folder",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::kernel::tree::{pretend_source, CORE};

    const PATCH: &str = "From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\nFrom: A B <a@b.example>\nDate: Fri, 20 Nov 2026 21:37:59 +0000\nSubject: [PATCH] dir: change a word\n\nWhy.\n\nSigned-off-by: A B <a@b.example>\n---\n\ndiff --git a/dir/a.c b/dir/a.c\n--- a/dir/a.c\n+++ b/dir/a.c\n@@ -1,3 +1,3 @@\n one\n-two\n+zwei\n three\n";
    const VECTOR: [u8; 5] = [0, 0xff, b'\n', 0x80, 0];
    const FILES: [(&str, &str); 3] = [
        ("kernel/tree/drivers/hitless/main.rs", "//! glue\n"),
        (
            "kernel/tree/rust/kernel/kho.rs",
            "//! no newline at the end",
        ),
        ("core/src/lib.rs", "//! core\n\n"),
    ];

    #[test]
    fn the_series_is_taken_by_patch_and_by_git() {
        let dir = tempfile::tempdir().unwrap();
        let repository = dir.path();
        let put = |path: &str, bytes: &[u8]| {
            let path = repository.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        put("kernel/patches/0010-dir-change.patch", PATCH.as_bytes());
        put("core/testdata/abi/x.bin", &VECTOR);
        for (path, text) in FILES {
            put(path, text.as_bytes());
        }
        let (plain, out) = (repository.join("plain"), repository.join("out"));
        pretend_source(&plain);
        let series = export(repository, &plain, &out).unwrap();
        assert_eq!(export(repository, &plain, &out).unwrap(), series);
        assert_eq!(series.len(), 5);
        assert_eq!(series[3], "0004-dir-change-a-word.patch");

        let list: Vec<PathBuf> = series.iter().map(|name| out.join(name)).collect();
        let staging = repository.join("staging");
        patches::stage(&plain, &list[..4], &staging).unwrap();
        let git = |arguments: &[&str]| {
            let mut git = Command::new("git");
            git.current_dir(&plain).args(arguments);
            git.envs(Author::of(PATCH).variables());
            command::output(&mut git).unwrap()
        };
        git(&["init", "--quiet"]);
        git(&["add", "."]);
        git(&["commit", "--quiet", "-m", "release"]);
        for patch in &list {
            git(&["am", "--quiet", &patch.to_string_lossy()]);
        }
        let log = git(&["log", "-1", "--skip=1", "--format=%an %s"]);
        assert_eq!(log.trim(), "A B dir: change a word");
        for tree in [&staging, &plain] {
            let read = |path: &str| fs::read_to_string(tree.join(path)).unwrap();
            assert_eq!(read("dir/a.c"), "one\nzwei\nthree\n");
            for (path, text) in FILES {
                let inside = path.trim_start_matches("kernel/tree/");
                let inside = inside.replace("core/src", &format!("{CORE}/src"));
                assert_eq!(read(&inside), text);
            }
        }
        let vector = plain.join(CORE).join("testdata/abi/x.bin");
        assert_eq!(fs::read(vector).unwrap(), VECTOR);
    }

    #[test]
    fn a_folder_with_other_things_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        check_folder(&dir.path().join("new"), false).unwrap();
        check_folder(dir.path(), false).unwrap();
        fs::write(dir.path().join("0001-x.patch"), "").unwrap();
        let error = check_folder(dir.path(), false).unwrap_err().to_string();
        assert!(error.contains("--replace"));
        check_folder(dir.path(), true).unwrap();
        fs::write(dir.path().join("letter.txt"), "").unwrap();
        let error = check_folder(dir.path(), true).unwrap_err().to_string();
        assert!(error.contains("letter.txt"));
    }
}
