// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The Linux source: the pinned release from a Debian package, or what HITLESS_LINUX names.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use walkdir::WalkDir;

use super::apt::{codename, Apt};
use super::work::work_folder;
use crate::fingerprint::{of_file, Fingerprint};
use crate::progress::Step;
use crate::trouble::trouble;
use crate::upstream::Upstream;
use crate::{command, paths};

/// Where the package may be; searched in this order.
const SUITES: [&str; 3] = ["trixie-backports", "sid", "experimental"];
/// Package, tarball and unpacked tree together, measured (2.2 GiB), with some air.
const SPACE: u64 = 2500 << 20;

/// An unpacked release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Its folder.
    pub path: PathBuf,
    /// Tells one source from another.
    pub identity: String,
    /// What its Makefile says.
    pub release: String,
    /// It is ours (in the cache), so hard links to its files are safe.
    pub private: bool,
}

/// Gets or finds the Linux source.
pub fn source(cache: &Path, upstream: &Upstream) -> Result<Source> {
    let named = env::var_os("HITLESS_LINUX").filter(|value| !value.is_empty());
    let (path, identity, private) = match named {
        Some(path) => given(cache, upstream, Path::new(&path))?,
        None => pinned(cache, upstream)?,
    };
    upstream.check_tree(&path)?;
    Ok(Source {
        path,
        identity,
        release: upstream.release.clone(),
        private,
    })
}

fn given(cache: &Path, upstream: &Upstream, path: &Path) -> Result<(PathBuf, String, bool)> {
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
        let identity = format!("{} {}", path.display(), state(&path)?);
        // kbuild would refuse it later, and name our copy of it.
        if path.join(".config").exists() || path.join("include/config").exists() {
            return trouble(
                format!("{} has been built in", path.display()),
                "run `make mrproper` in it, or name another tree in HITLESS_LINUX",
            );
        }
        return Ok((path, identity, false));
    }
    let identity = format!("{} {}", path.display(), changed(&meta)?);
    let sum = Fingerprint::new().add("identity", &identity).finish();
    let kept = cache.join(format!("linux-given-{}", &sum[..12]));
    if !kept.exists() {
        paths::need_space(cache, SPACE, "unpacking Linux")?;
        unpack(cache, &path, &kept, upstream)?;
    }
    Ok((kept, identity, true))
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
    Ok(sum.finish())
}

fn pinned(cache: &Path, upstream: &Upstream) -> Result<(PathBuf, String, bool)> {
    let kept = cache.join(format!("linux-{}", upstream.release));
    if !kept.exists() {
        paths::need_space(cache, SPACE, "fetching and unpacking Linux")?;
        let work = work_folder(cache)?;
        let package = download(cache, upstream, work.path())?;
        let root = work.path().join("root");
        let mut dpkg = Command::new("dpkg-deb");
        command::output(dpkg.arg("--extract").arg(package).arg(&root))?;
        let tarball = root.join(&upstream.tarball);
        check_sum(&tarball, upstream)?;
        unpack(cache, &tarball, &kept, upstream)?;
    }
    Ok((kept, format!("release:{}", upstream.release), true))
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
    let codename = codename(&format!(
        "the package {package} (Linux {release}) is missing"
    ))?;
    // `7.3.4-1~bpo13+1` is a build of 7.3.4; `7.3.40-1` and `7.3.4~rc1-1` are not.
    let version = format!("{release}-*");
    let mut seen = String::new();
    for suite in SUITES {
        let found = Apt::of_suite(cache, &codename, suite)
            .and_then(|apt| apt.download(package, &version, folder));
        match found {
            Ok(file) => return Ok(file),
            // What can not be reached will not be for another suite either; yet a mirror need not carry every suite.
            Err(error) if format!("{error:#}").contains("Failed to fetch") => return Err(error),
            Err(error) => seen.push_str(&format!("\n{suite}: {error:#}")),
        }
    }
    trouble(
        format!("no suite of the Debian mirror has {package} {release}:{seen}"),
        format!("get Linux {release} elsewhere and set HITLESS_LINUX to the unpacked tree or the tarball"),
    )
}

/// Unpacks a tarball into the cache.
fn unpack(cache: &Path, tarball: &Path, kept: &Path, upstream: &Upstream) -> Result<()> {
    let work = work_folder(cache)?;
    let step = Step::begin("Unpacking Linux");
    let mut tar = Command::new("tar");
    tar.args(["--strip-components=1", "--no-same-owner", "-xf"])
        .arg(tarball)
        .arg("-C")
        .arg(work.path())
        // On all processors; the tarball in the package has blocks for that.
        .env("XZ_DEFAULTS", "-T0");
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
            release: "7.3.4".to_owned(),
            package: "linux-source-7.3".to_owned(),
            tarball: "x".to_owned(),
            sha256: vec!["00".to_owned()],
        }
    }

    #[test]
    fn an_edit_deep_in_a_given_tree_makes_it_another_source() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        let get = || given(dir.path(), &upstream(), &tree);
        let error = get().unwrap_err().to_string();
        assert!(error.contains("which is not there") && error.contains("7.3.4"));
        fs::create_dir_all(tree.join("mm")).unwrap();
        fs::write(tree.join("mm/shmem.c"), "1").unwrap();
        let first = get().unwrap();
        assert_eq!(get().unwrap(), first);
        fs::write(tree.join("mm/shmem.c"), "22").unwrap();
        assert_ne!(get().unwrap(), first);
        fs::write(tree.join(".config"), "").unwrap();
        assert!(get().unwrap_err().to_string().contains("mrproper"));
    }

    #[test]
    fn a_given_tarball_is_unpacked_once_and_a_bad_one_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("linux-7.3.4");
        fs::create_dir(&tree).unwrap();
        let makefile = "VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\n";
        fs::write(tree.join("Makefile"), makefile).unwrap();
        let tarball = dir.path().join("linux.tar.xz");
        let mut tar = Command::new("tar");
        tar.current_dir(&dir)
            .args(["-cJf", "linux.tar.xz", "linux-7.3.4"]);
        command::output(&mut tar).unwrap();
        let cache = dir.path().join("cache");
        fs::create_dir(&cache).unwrap();
        let first = given(&cache, &upstream(), &tarball).unwrap();
        assert_eq!(first, given(&cache, &upstream(), &tarball).unwrap());

        let bad = dir.path().join("bad.tar");
        fs::write(&bad, "no tarball").unwrap();
        assert!(given(&cache, &upstream(), &bad).is_err());
        assert_eq!(fs::read_dir(cache.join(WORK)).unwrap().count(), 0);
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 2);
        let error = check_sum(&bad, &upstream()).unwrap_err().to_string();
        assert!(error.contains("SHA-256") && error.contains("UPSTREAM"));
    }
}
