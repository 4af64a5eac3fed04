// SPDX-License-Identifier: Apache-2.0 OR MIT
//! apt-get with a private configuration: its own list of sources, its own package lists, its own download folder.
//!
//! The machine's sources and lists stay as they are; suites that it does not use can be read without being enabled.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use super::lists::{self, Entry};
use super::platform::Debian;
use crate::command;
use crate::progress::Step;
use crate::trouble::Trouble;

/// A private apt set-up.
#[derive(Debug)]
pub struct Apt {
    folder: PathBuf,
    name: String,
}

impl Apt {
    /// The machine's own Debian release with its backports.
    pub fn of_release(cache: &Path, debian: &Debian) -> Result<Self> {
        let (main, mut entries) = lists::release(&lists::of_machine()?, &debian.codename)?;
        entries.push(main.with_suite(&debian.backports()));
        Self::new(cache, &debian.codename, &entries)
    }

    /// One suite of the archive which the machine's own release comes from.
    pub fn of_suite(cache: &Path, debian: &Debian, suite: &str) -> Result<Self> {
        let (main, _) = lists::release(&lists::of_machine()?, &debian.codename)?;
        Self::new(cache, suite, &[main.with_suite(suite)])
    }

    fn new(cache: &Path, name: &str, entries: &[Entry]) -> Result<Self> {
        let folder = cache.join("apt").join(name);
        for sub in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(folder.join(sub))
                .with_context(|| format!("cannot create {}", folder.join(sub).display()))?;
        }
        let text: String = entries.iter().map(Entry::line).collect();
        fs::write(folder.join("sources.list"), text)?;
        let apt = Self {
            folder,
            name: name.to_owned(),
        };
        apt.update()?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = |sub: &str| self.folder.join(sub).display().to_string();
        let options = [
            format!("Dir::Etc::SourceList={}", path("sources.list")),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={}", path("lists")),
            format!("Dir::Cache={}", self.folder.display()),
            // The cache may be where apt's own user cannot go.
            "APT::Sandbox::User=root".to_owned(),
            "APT::Update::Error-Mode=any".to_owned(),
            "Acquire::Retries=3".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled=false".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled=false".to_owned(),
            "DPkg::Lock::Timeout=300".to_owned(),
            "Dpkg::Use-Pty=0".to_owned(),
        ];
        for option in options {
            command.arg("-o").arg(option);
        }
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C");
        command
    }

    fn update(&self) -> Result<()> {
        let step = Step::begin(format!("Reading the package lists of {}", self.name));
        command::output(self.command("apt-get").args(["-q", "update"]))
            .map_err(|error| unreachable(&self.name, &error))?;
        step.done();
        Ok(())
    }

    /// Installs packages without recommended ones; `from` prefers a suite such as `bookworm-backports`.
    pub fn install(&self, packages: &[&str], from: Option<&str>) -> Result<()> {
        let step = Step::begin(format!("Installing {}", packages.join(" ")));
        let mut apt = self.command("apt-get");
        apt.args(["-q", "-y", "--no-install-recommends", "--no-remove"]);
        if let Some(suite) = from {
            apt.args(["-t", suite]);
        }
        command::output(apt.arg("install").args(packages)).map_err(|error| {
            Trouble::new(
                format!(
                    "cannot install {}: {}",
                    packages.join(" "),
                    reasons(&format!("{error:#}"))
                ),
                "see apt's own words above; mend the package system (`apt-get -f install`, `dpkg --configure -a`), or install the packages yourself",
            )
        })?;
        step.done();
        Ok(())
    }

    /// The versions of a package that the suite has; none when it has no such package.
    pub fn versions(&self, package: &str) -> Result<Vec<String>> {
        let text = command::output(self.command("apt-cache").args(["madison", package]))?;
        Ok(madison(&text))
    }

    /// Downloads `package=version` into `folder`, with progress, and returns the file.
    pub fn download(&self, package: &str, version: &str, folder: &Path) -> Result<PathBuf> {
        let wanted = format!("{package}={version}");
        let show = command::output(self.command("apt-cache").args(["show", &wanted]))?;
        let size = show
            .lines()
            .find_map(|line| line.strip_prefix("Size: ")?.trim().parse().ok())
            .unwrap_or(0);
        let mut step = Step::begin(format!("Downloading {package} {version}"));
        let mut child = self
            .command("apt-get")
            .args(["-q", "download", &wanted])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start apt-get")?;
        while child.try_wait()?.is_none() {
            step.at(size_of(folder) >> 20, size >> 20, "MiB");
            sleep(Duration::from_millis(200));
        }
        finished(child).map_err(|error| unreachable(&wanted, &error))?;
        let file = fs::read_dir(folder)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .with_context(|| {
                format!("apt-get said it had downloaded {wanted}, but there is no file")
            })?;
        step.done();
        Ok(file)
    }
}

fn finished(child: Child) -> Result<()> {
    let result = child.wait_with_output()?;
    if result.status.success() {
        return Ok(());
    }
    anyhow::bail!("{}", String::from_utf8_lossy(&result.stderr).trim_end())
}

fn unreachable(what: &str, error: &anyhow::Error) -> anyhow::Error {
    Trouble::new(
        format!("cannot fetch {what} from the Debian mirror: {}", reasons(&format!("{error:#}"))),
        "check the network (and a proxy's setting in /etc/apt/apt.conf.d) with `apt-get update`; what was fetched so far is kept, run again",
    )
    .into()
}

/// Whether apt could not reach the mirror at all: then it will not reach it for another suite either.
pub fn is_offline(error: &anyhow::Error) -> bool {
    const WORDS: [&str; 5] = [
        "resolving",
        "Could not resolve",
        "Could not connect",
        "onnection timed out",
        "Network is unreachable",
    ];
    let text = format!("{error:#}");
    WORDS.iter().any(|words| text.contains(words))
}

/// apt's own error lines, each once; all of its words when there are none, or when the reason is among dpkg's.
fn reasons(text: &str) -> String {
    let mut found: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(reason) = line.strip_prefix("E: ") {
            if !found.contains(&reason) {
                found.push(reason);
            }
        }
    }
    if found.is_empty() || found.iter().any(|line| line.starts_with("Sub-process")) {
        return text.to_owned();
    }
    found.join("; ")
}

fn size_of(folder: &Path) -> u64 {
    fs::read_dir(folder)
        .map(|entries| {
            entries
                .flatten()
                .filter_map(|entry| entry.metadata().ok())
                .map(|meta| meta.len())
                .sum()
        })
        .unwrap_or(0)
}

/// `apt-cache madison` prints `package | version | where`.
fn madison(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(|version| version.trim().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn madison_lines_give_versions() {
        let text = "linux-source-7.3 | 7.3.4-1~bpo13+1 | http://x trixie-backports/main amd64 Packages\nlinux-source-7.3 | 7.3.2-1 | http://x sid/main\n";
        assert_eq!(madison(text), ["7.3.4-1~bpo13+1", "7.3.2-1"]);
        assert!(madison("").is_empty());
    }

    #[test]
    fn reasons_are_apts_error_lines() {
        let text = "`apt-get -o Dir=x update` failed:\n    Ign:1 http://x\n    E: Failed to fetch http://x  Temporary failure\n    E: Failed to fetch http://x  Temporary failure\n";
        assert_eq!(reasons(text), "Failed to fetch http://x  Temporary failure");
        assert_eq!(reasons("other"), "other");
        let text = "dpkg: error processing package x\nE: Sub-process /usr/bin/dpkg returned an error code (1)";
        assert_eq!(reasons(text), text);
    }

    #[test]
    fn no_network_says_what_to_do() {
        let text = unreachable("sid", &anyhow::anyhow!("Temporary failure resolving")).to_string();
        assert!(
            text.contains("sid")
                && text.contains("resolving")
                && text.contains("check the network"),
            "{text}"
        );
    }

    #[test]
    fn a_suite_that_the_mirror_lacks_is_no_lack_of_network() {
        let of = |text: &str| is_offline(&unreachable("sid", &anyhow::anyhow!("{text}")));
        assert!(of(
            "E: Failed to fetch http://x  Temporary failure resolving 'x'"
        ));
        assert!(of(
            "E: Failed to fetch http://x  Could not connect to x:80 (::1)."
        ));
        assert!(!of(
            "E: The repository 'http://x sid Release' does not have a Release file."
        ));
    }
}
