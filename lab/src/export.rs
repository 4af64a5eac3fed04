// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo lab export`: everything that goes into the kernel as plain patches, for people with a tree of their own.
//!
//! New files come first (nothing refers to them yet), then `kernel/patches` in order, so that the tree builds after
//! each patch. What comes out is read by `git am` as well as by `patch -p1`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::build::kernel::patches;
use crate::build::kernel::tree::CORE;
use crate::build::sources::tools::linux_source;
use crate::fingerprint::files;
use crate::trouble::trouble;
use crate::upstream::Upstream;
use crate::{command, paths};

mod format;

use format::{new_files, retitle, Header};

/// Arguments of `cargo lab export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder to write to; it is created, and must not hold anything else.
    folder: PathBuf,
    /// Replace a series that was exported there before.
    #[arg(long)]
    replace: bool,
    /// Do not try whether the series applies to the pinned release.
    #[arg(long)]
    untried: bool,
}

/// KUnit's test vectors are binary, so only git can apply them. They come last: nothing else needs them.
const VECTORS_SUBJECT: &str = "hitless: golden bytes for KUnit";
const VECTORS_BODY: &str = "Records as every released version wrote them. Only the KUnit suite\n(CONFIG_HITLESS_KUNIT_TEST) reads them.";

/// A patch of the series.
struct Patch {
    file: String,
    text: String,
    /// In a form that only git reads.
    binary: bool,
}

/// Runs `cargo lab export`.
pub fn main(args: Args) -> Result<ExitCode> {
    let repository = paths::repository()?;
    let upstream = Upstream::read(&repository)?;
    let series = series(&repository)?;
    check_folder(&args.folder, args.replace)?;
    if !args.untried {
        try_series(&series)?;
    }
    write(&args.folder, &series)?;
    println!(
        "{} patches against Linux {} in {}",
        series.len(),
        upstream.release,
        args.folder.display()
    );
    println!("apply them in a Linux {} tree with:", upstream.release);
    println!("    git am {}/*.patch", args.folder.display());
    println!("or, without git, with:");
    println!(
        "    for patch in {}/*.patch; do patch -p1 -i \"$patch\" || break; done",
        args.folder.display()
    );
    if let Some(patch) = series.iter().find(|patch| patch.binary) {
        println!(
            "({} is binary: only git can apply it, and only KUnit needs it)",
            patch.file
        );
    }
    println!("then switch on CONFIG_HITLESS and what it depends on (kernel/config/base.config lists it all)");
    Ok(ExitCode::SUCCESS)
}

/// The whole series, numbered.
fn series(repository: &Path) -> Result<Vec<Patch>> {
    let existing: Vec<(PathBuf, String)> = patches::list(repository)?
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Ok((path, text))
        })
        .collect::<Result<_>>()?;
    let header = Header::of(existing.first().map_or("", |(_, text)| text));
    let parts = new_parts(repository)?;
    let vectors = repository.join("core/testdata");
    let has_vectors = !files(&vectors)?.is_empty();
    let count = parts.len() + existing.len() + usize::from(has_vectors);
    let mut series = Vec::new();
    for part in parts {
        let number = series.len() + 1;
        let file = format!("{number:04}-{}.patch", part.slug);
        let text = header.patch(
            number,
            count,
            part.subject,
            part.body,
            &new_files(&part.files),
        );
        series.push(Patch {
            file,
            text,
            binary: false,
        });
    }
    for (path, text) in existing {
        let number = series.len() + 1;
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let name = name.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
        series.push(Patch {
            file: format!("{number:04}-{name}"),
            text: retitle(&text, number, count),
            binary: false,
        });
    }
    if has_vectors {
        series.push(Patch {
            file: format!("{count:04}-hitless-golden-bytes.patch"),
            text: header.patch(
                count,
                count,
                VECTORS_SUBJECT,
                VECTORS_BODY,
                &binary_diff(&vectors)?,
            ),
            binary: true,
        });
    }
    Ok(series)
}

/// New files that become one patch.
struct Part {
    slug: &'static str,
    subject: &'static str,
    body: &'static str,
    /// Path in the kernel tree, and content.
    files: Vec<(String, String)>,
}

fn new_parts(repository: &Path) -> Result<Vec<Part>> {
    let mut parts = vec![
        Part {
            slug: "hitless-core",
            subject: "hitless: core: records, rules and VT-d table code",
            body: "What is decided about devices that keep running across a kexec, in safe\nRust that allocates nothing and sees neither kernel nor machine.",
            files: Vec::new(),
        },
        Part {
            slug: "rust-abstractions",
            subject: "rust: abstractions that hitless needs",
            body: "New files only; a later patch makes them part of the kernel crate.",
            files: Vec::new(),
        },
        Part {
            slug: "hitless-glue-and-seams",
            subject: "hitless: glue and seams",
            body: "The kernel part of hitless: glue in Rust that runs core's decisions, and\nthe C files through which the subsystems ask. Nothing builds them yet.",
            files: Vec::new(),
        },
    ];
    let core = repository.join("core/src");
    for path in files(&core)? {
        parts[0]
            .files
            .push((format!("{CORE}/src/{path}"), text(&core.join(&path))?));
    }
    let tree = repository.join("kernel/tree");
    for path in files(&tree)? {
        let part = if path.starts_with("rust/") { 1 } else { 2 };
        let content = text(&tree.join(&path))?;
        parts[part].files.push((path, content));
    }
    parts.retain(|part| !part.files.is_empty());
    Ok(parts)
}

/// git's own form of a patch that creates the files of a folder, binary ones included.
fn binary_diff(vectors: &Path) -> Result<String> {
    let work = tempfile::tempdir()?;
    let git = |arguments: &[&str]| {
        command::output(Command::new("git").args(arguments).current_dir(work.path()))
    };
    git(&["init", "--quiet"])?;
    for path in files(vectors)? {
        let copy = work.path().join(CORE).join("testdata").join(&path);
        fs::create_dir_all(copy.parent().unwrap_or(work.path()))?;
        fs::copy(vectors.join(&path), &copy).with_context(|| format!("cannot copy {path}"))?;
    }
    git(&["-c", "core.autocrlf=false", "add", "--force", "."])?;
    git(&[
        "diff",
        "--cached",
        "--binary",
        "--no-color",
        "--no-ext-diff",
    ])
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {} as text", path.display()))
}

fn check_folder(folder: &Path, replace: bool) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else {
        if folder.exists() {
            return trouble(
                format!("{} is not a folder", folder.display()),
                "name another",
            );
        }
        return Ok(());
    };
    let names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let foreign: Vec<&String> = names
        .iter()
        .filter(|name| !name.ends_with(".patch") && *name != "series")
        .collect();
    if let Some(name) = foreign.first() {
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

/// Applies the series to the pinned release, in a folder that is thrown away.
fn try_series(series: &[Patch]) -> Result<()> {
    let source = linux_source()?;
    let work = tempfile::tempdir()?;
    let folder = work.path().join("series");
    write(&folder, series)?;
    let plain = series.iter().filter(|patch| !patch.binary);
    let list: Vec<PathBuf> = plain.map(|patch| folder.join(&patch.file)).collect();
    patches::stage(&source.path, &list, &work.path().join("tree"))?;
    Ok(())
}

fn write(folder: &Path, series: &[Patch]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for entry in fs::read_dir(folder)?.flatten() {
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "patch")
        {
            fs::remove_file(entry.path())?;
        }
    }
    for patch in series {
        let path = folder.join(&patch.file);
        fs::write(&path, &patch.text)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let list: String = series
        .iter()
        .map(|patch| format!("{}\n", patch.file))
        .collect();
    fs::write(folder.join("series"), list)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::kernel::tree::pretend_source;
    use crate::command::output;

    const PATCH: &str = "From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\nFrom: A B <a@b.example>\nDate: Fri, 20 Nov 2026 21:37:59 +0000\nSubject: [PATCH] dir: change a word\n\nWhy.\n\nSigned-off-by: A B <a@b.example>\n---\n\ndiff --git a/dir/a.c b/dir/a.c\n--- a/dir/a.c\n+++ b/dir/a.c\n@@ -1,3 +1,3 @@\n one\n-two\n+zwei\n three\n";

    const VECTOR: [u8; 5] = [0, 0xff, b'\n', 0x80, 0];

    fn repository() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("kernel/patches/0010-dir-change.patch", PATCH),
            ("kernel/tree/drivers/hitless/main.rs", "//! glue\n"),
            (
                "kernel/tree/rust/kernel/kho.rs",
                "//! abstraction\nlast line without end",
            ),
            ("core/src/lib.rs", "//! core\n\n"),
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::create_dir_all(dir.path().join("core/testdata/abi")).unwrap();
        fs::write(dir.path().join("core/testdata/abi/x.bin"), VECTOR).unwrap();
        dir
    }

    fn check_tree(tree: &Path) {
        for (path, text) in [
            ("dir/a.c", "one\nzwei\nthree\n"),
            ("drivers/hitless/main.rs", "//! glue\n"),
            (
                "rust/kernel/kho.rs",
                "//! abstraction\nlast line without end",
            ),
            ("drivers/hitless/core/src/lib.rs", "//! core\n\n"),
        ] {
            assert_eq!(fs::read_to_string(tree.join(path)).unwrap(), text, "{path}");
        }
    }

    #[test]
    fn the_series_is_taken_by_patch_and_by_git() {
        let repository = repository();
        let out = repository.path().join("out");
        let series = series(repository.path()).unwrap();
        write(&out, &series).unwrap();
        assert_eq!(
            fs::read_to_string(out.join("series"))
                .unwrap()
                .lines()
                .count(),
            5
        );

        let plain = repository.path().join("plain");
        pretend_source(&plain);
        let list: Vec<PathBuf> = series.iter().map(|patch| out.join(&patch.file)).collect();
        assert!(series.last().unwrap().binary);
        let staging = repository.path().join("staging");
        patches::stage(&plain, &list[..4], &staging).unwrap();
        check_tree(&staging);

        let git = |arguments: &[&str]| {
            let mut git = Command::new("git");
            git.current_dir(&plain).args([
                "-c",
                "user.name=t",
                "-c",
                "user.email=t@t.example",
                "-c",
                "commit.gpgsign=false",
            ]);
            output(git.args(arguments)).unwrap()
        };
        git(&["init", "--quiet"]);
        git(&["add", "."]);
        git(&["commit", "--quiet", "-m", "release"]);
        let paths: Vec<String> = list.iter().map(|path| path.display().to_string()).collect();
        let mut arguments = vec!["am", "--quiet"];
        arguments.extend(paths.iter().map(String::as_str));
        git(&arguments);
        check_tree(&plain);
        assert_eq!(
            git(&["log", "-1", "--skip=1", "--format=%an %s"]).trim(),
            "A B dir: change a word"
        );
        let vector = plain.join("drivers/hitless/core/testdata/abi/x.bin");
        assert_eq!(fs::read(vector).unwrap(), VECTOR);
    }

    #[test]
    fn a_folder_with_other_things_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        check_folder(&dir.path().join("new"), false).unwrap();
        check_folder(dir.path(), false).unwrap();
        fs::write(dir.path().join("0001-x.patch"), "").unwrap();
        assert!(check_folder(dir.path(), false)
            .unwrap_err()
            .to_string()
            .contains("--replace"));
        check_folder(dir.path(), true).unwrap();
        fs::write(dir.path().join("letter.txt"), "").unwrap();
        assert!(check_folder(dir.path(), true)
            .unwrap_err()
            .to_string()
            .contains("letter.txt"));
    }
}
