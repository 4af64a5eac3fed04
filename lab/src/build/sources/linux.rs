// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The Linux source: the pinned release from a Debian package, or what HITLESS_LINUX names.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use walkdir::WalkDir;

use super::apt::{is_offline, Apt};
use super::platform::debian;
use super::work::work_folder;
use crate::fingerprint::{of_file, Fingerprint};
use crate::progress::Step;
use crate::trouble::trouble;
use crate::upstream::{Release, Upstream};
use crate::{command, paths};

/// Where the package may be; searched in this order.
const SUITES: [&str; 3] = ["trixie-backports", "sid", "experimental"];
/// Package, tarball and unpacked tree together, measured (2.2 GiB), with some air.
const SPACE: u64 = 2500 << 20;

/// An unpacked release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its folder.
    pub path: PathBuf,
    /// Tells one source from another.
    pub identity: String,
    /// What its Makefile says.
    pub release: Release,
    /// It is ours (in the cache), so hard links to its files are safe.
    pub private: bool,
}

/// Gets or finds the Linux source.
pub fn source(cache: &Path, upstream: &Upstream) -> Result<Source> {
    match env::var_os("HITLESS_LINUX").filter(|value| !value.is_empty()) {
        Some(path) => given(cache, upstream, Path::new(&path)),
        None => pinned(cache, upstream),
    }
}

fn given(cache: &Path, upstream: &Upstream, path: &Path) -> Result<Source> {
    let Ok(meta) = fs::metadata(path) else {
        return trouble(
            format!("HITLESS_LINUX names {}, which is not there", path.display()),
            format!(
                "name an unpacked Linux {} tree or its tarball, or unset HITLESS_LINUX",
                upstream.release
            ),
        );
    };
    let path = path.canonicalize()?;
    if meta.is_dir() {
        upstream.check_tree(&path)?;
        check_unbuilt(&path)?;
        let identity = format!("tree:{}:{}", path.display(), state(&path)?);
        return Ok(Source {
            path,
            identity,
            release: upstream.release,
            private: false,
        });
    }
    let identity = format!("tarball:{}:{}", path.display(), changed(&meta)?);
    let short = Fingerprint::new().add("identity", &identity).finish()[..12].to_owned();
    let kept = cache.join(format!("linux-given-{short}"));
    if !kept.exists() {
        paths::need_space(cache, SPACE, "unpacking Linux")?;
        unpack_tarball(cache, &path, &kept, upstream)?;
    }
    upstream.check_tree(&kept)?;
    Ok(Source {
        path: kept,
        identity,
        release: upstream.release,
        private: true,
    })
}

/// Refuses a tree in which somebody built without `O=`: kbuild would refuse it later, in other words.
pub fn check_unbuilt(tree: &Path) -> Result<()> {
    if tree.join(".config").exists() || tree.join("include/config").exists() {
        return trouble(
            format!("{} has been built in", tree.display()),
            "run `make mrproper` in it, or name another tree in HITLESS_LINUX",
        );
    }
    Ok(())
}

/// Size and date of a file: another content has another.
fn changed(meta: &fs::Metadata) -> Result<String> {
    let time = meta.modified()?.duration_since(UNIX_EPOCH)?;
    Ok(format!("{}:{}", meta.len(), time.as_nanos()))
}

/// The names, sizes and dates of all files of a tree: an edit anywhere makes it another one.
fn state(tree: &Path) -> Result<String> {
    let mut sum = Fingerprint::new();
    let walk = WalkDir::new(tree)
        .min_depth(1)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| entry.file_name() != ".git");
    for entry in walk {
        let entry = entry?;
        // A folder's date tells of files that come and go, which their names do too.
        if !entry.file_type().is_dir() {
            let name = entry.path().strip_prefix(tree)?;
            sum.add(&name.to_string_lossy(), changed(&entry.metadata()?)?);
        }
    }
    Ok(sum.finish()[..16].to_owned())
}

fn pinned(cache: &Path, upstream: &Upstream) -> Result<Source> {
    let kept = cache.join(format!("linux-{}", upstream.release));
    if !kept.exists() {
        paths::need_space(cache, SPACE, "fetching and unpacking Linux")?;
        let work = work_folder(cache, "linux")?;
        let package = download(cache, upstream, work.path())?;
        let step = Step::begin("Unpacking the Linux package");
        let root = work.path().join("root");
        command::output(
            Command::new("dpkg-deb")
                .arg("--extract")
                .arg(package)
                .arg(&root),
        )?;
        step.done();
        let tarball = root.join(&upstream.tarball);
        check_sum(&tarball, upstream)?;
        unpack_tarball(cache, &tarball, &kept, upstream)?;
    }
    upstream.check_tree(&kept)?;
    Ok(Source {
        path: kept,
        identity: format!("release:{}", upstream.release),
        release: upstream.release,
        private: true,
    })
}

fn check_sum(tarball: &Path, upstream: &Upstream) -> Result<()> {
    let sum = of_file(tarball)?;
    if upstream.sha256.contains(&sum) {
        return Ok(());
    }
    trouble(
        format!("the tarball in the package has the SHA-256 {sum}, which kernel/UPSTREAM does not list"),
        format!(
            "if Debian has rebuilt the package, compare the source with the release {} and add the sum; HITLESS_LINUX=PATH takes a tarball without this check",
            upstream.release
        ),
    )
}

/// Finds the release's package in one of the suites, and downloads it into a folder.
fn download(cache: &Path, upstream: &Upstream, folder: &Path) -> Result<PathBuf> {
    let Upstream {
        package, release, ..
    } = upstream;
    let debian = debian(&format!("the package {package} (Linux {release})"))?;
    let mut seen = Vec::new();
    for suite in SUITES {
        // A mirror need not carry every suite.
        let apt = match Apt::of_suite(cache, &debian, suite) {
            Ok(apt) => apt,
            Err(error) if is_offline(&error) => return Err(error),
            Err(error) => {
                seen.push(format!("{suite}: not to be had ({error:#})"));
                continue;
            }
        };
        let versions = apt.versions(package)?;
        match versions.iter().find(|version| is_release(version, release)) {
            Some(version) => return apt.download(package, version, folder),
            None => seen.push(format!("{suite}: {}", versions.join(" "))),
        }
    }
    trouble(
        format!("no suite of the Debian mirror has {package} {release}; seen: {}", seen.join("; ")),
        format!("get Linux {release} elsewhere and set HITLESS_LINUX to the unpacked tree or the tarball"),
    )
}

/// `7.3.4-1~bpo13+1` is a build of 7.3.4; `7.3.40-1` and `7.3.4~rc1` are not of 7.3.4.
fn is_release(version: &str, release: &Release) -> bool {
    version
        .strip_prefix(&release.to_string())
        .is_some_and(|rest| rest.starts_with(['-', '+']))
}

fn unpack_tarball(cache: &Path, tarball: &Path, kept: &Path, upstream: &Upstream) -> Result<()> {
    let work = work_folder(cache, "unpack")?;
    let step = Step::begin("Unpacking Linux");
    let mut tar = Command::new("tar");
    if tarball
        .extension()
        .is_some_and(|extension| extension == "xz")
    {
        // On all processors; the tarball in the package has blocks for that.
        tar.args(["--use-compress-program", "xz -T0"]);
    }
    tar.arg("--extract")
        .arg("--file")
        .arg(tarball)
        .arg("--directory")
        .arg(work.path())
        .args(["--strip-components=1", "--no-same-owner"]);
    command::output(&mut tar).with_context(|| {
        format!(
            "cannot unpack {}: is it a tarball of Linux?",
            tarball.display()
        )
    })?;
    upstream.check_tree(work.path())?;
    fs::rename(work.keep(), kept)?;
    step.done();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::sources::work::WORK;

    fn upstream() -> Upstream {
        Upstream {
            release: Release {
                version: 7,
                patchlevel: 3,
                sublevel: 4,
            },
            package: "linux-source-7.3".to_owned(),
            tarball: "x".to_owned(),
            sha256: vec!["00".to_owned()],
        }
    }

    #[test]
    fn builds_of_the_release_are_told_from_others() {
        let release = upstream().release;
        for good in ["7.3.4-1", "7.3.4-1~bpo13+1", "7.3.4+x-1"] {
            assert!(is_release(good, &release), "{good}");
        }
        for bad in ["7.3.40-1", "7.3.4~rc1-1", "7.3.5-1", "17.3.4-1", "7.3.4"] {
            assert!(!is_release(bad, &release), "{bad}");
        }
    }

    #[test]
    fn a_given_path_must_be_there_and_of_the_release() {
        let dir = tempfile::tempdir().unwrap();
        let error = given(dir.path(), &upstream(), Path::new("/no/such/tree"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/no/such/tree") && error.contains("7.3.4"),
            "{error}"
        );
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(
            tree.join("Makefile"),
            "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 0\n",
        )
        .unwrap();
        let error = given(dir.path(), &upstream(), &tree)
            .unwrap_err()
            .to_string();
        assert!(error.contains("6.1.0"), "{error}");
        fs::write(
            tree.join("Makefile"),
            "VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\n",
        )
        .unwrap();
        let first = given(dir.path(), &upstream(), &tree).unwrap();
        assert!(!first.private);
        // An edit deep in the tree is one of the tree.
        fs::create_dir(tree.join("mm")).unwrap();
        fs::write(tree.join("mm/shmem.c"), "1").unwrap();
        let second = given(dir.path(), &upstream(), &tree).unwrap();
        fs::write(tree.join("mm/shmem.c"), "22").unwrap();
        let third = given(dir.path(), &upstream(), &tree).unwrap();
        assert!(first.identity != second.identity && second.identity != third.identity);
        assert_eq!(third, given(dir.path(), &upstream(), &tree).unwrap());
        fs::write(tree.join(".config"), "").unwrap();
        let error = given(dir.path(), &upstream(), &tree)
            .unwrap_err()
            .to_string();
        assert!(error.contains("mrproper"), "{error}");
    }

    #[test]
    fn a_given_tarball_is_unpacked_once_and_a_bad_one_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("linux-7.3.4");
        fs::create_dir(&tree).unwrap();
        fs::write(
            tree.join("Makefile"),
            "VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\n",
        )
        .unwrap();
        let tarball = dir.path().join("linux.tar");
        command::output(
            Command::new("tar")
                .arg("-C")
                .arg(dir.path())
                .arg("-cf")
                .arg(&tarball)
                .arg("linux-7.3.4"),
        )
        .unwrap();
        let cache = dir.path().join("cache");
        fs::create_dir(&cache).unwrap();
        let first = given(&cache, &upstream(), &tarball).unwrap();
        assert_eq!(first, given(&cache, &upstream(), &tarball).unwrap());

        let bad = dir.path().join("bad.tar");
        fs::write(&bad, "no tarball").unwrap();
        assert!(given(&cache, &upstream(), &bad).is_err());
        assert_eq!(fs::read_dir(cache.join(WORK)).unwrap().count(), 0);
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 2);
    }

    #[test]
    fn an_unknown_sum_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let tarball = dir.path().join("x");
        fs::write(&tarball, "abc").unwrap();
        let error = check_sum(&tarball, &upstream()).unwrap_err().to_string();
        assert!(
            error.contains("ba7816bf") && error.contains("UPSTREAM"),
            "{error}"
        );
    }
}
