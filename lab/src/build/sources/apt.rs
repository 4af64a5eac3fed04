// SPDX-License-Identifier: Apache-2.0 OR MIT
//! apt-get with a private configuration: its own list of sources, its own package lists, its own download folder.
//!
//! The machine's sources and lists stay as they are; suites that it does not use can be read without being enabled.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::output;
use crate::progress::Step;
use crate::trouble::{trouble, Trouble};

/// What apt is to say of each of its lists of packages, whatever the format of its sources.
const FORMAT: &str = "$(REPO_URI) $(RELEASE) $(SIGNED_BY)";

/// The code name of the Debian release that this machine runs: 12 or 13, others are refused. `lack` says what would have
/// been installed, and why.
pub fn codename(lack: &str) -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    recognize(&text, lack)
}

fn recognize(os_release: &str, lack: &str) -> Result<String> {
    let value = |name: &str| {
        let line = |line: &str| {
            let value = line.strip_prefix(name)?.strip_prefix('=')?;
            Some(value.trim_matches('"').to_owned())
        };
        os_release.lines().find_map(line).unwrap_or_default()
    };
    let codename = value("VERSION_CODENAME");
    if value("ID") == "debian" && ["bookworm", "trixie"].contains(&codename.as_str()) {
        return Ok(codename);
    }
    trouble(
        format!("{lack}, and this system ({}) is none where `cargo lab` can install it", value("PRETTY_NAME")),
        "install it by the means of your system (HITLESS_LINUX=PATH takes a Linux 7.3.4 tree or tarball), or use Debian 12",
    )
}

/// The suite of newer packages for a release.
pub fn backports(codename: &str) -> String {
    format!("{codename}-backports")
}

/// A private apt set-up.
#[derive(Debug)]
pub struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// The machine's own Debian release with its updates and its backports.
    pub fn of_release(cache: &Path, codename: &str) -> Result<Self> {
        let origins = of_machine()?;
        let own = ["", "-updates", "-security"].map(|tail| format!("{codename}{tail}"));
        let mut suites: Vec<String> = own
            .into_iter()
            .filter(|suite| origins.contains_key(suite))
            .collect();
        suites.push(backports(codename));
        Self::new(cache, codename, &sources(&origins, codename, &suites)?)
    }

    /// Suites of that archive for a system on which nothing is installed: what is downloaded is complete.
    pub fn of_no_release(cache: &Path, codename: &str, suites: &[&str]) -> Result<Self> {
        let suites: Vec<_> = suites.iter().map(|suite| (*suite).to_owned()).collect();
        let sources = sources(&of_machine()?, codename, &suites)?;
        let name = suites.join("+");
        let status = cache.join("apt").join(&name).join("status");
        Self::with_options(cache, &name, &sources, &[("Dir::State::Status", status)])
    }

    /// One suite of the archive which the machine's own release comes from.
    pub fn of_suite(cache: &Path, codename: &str, suite: &str) -> Result<Self> {
        let sources = sources(&of_machine()?, codename, &[suite.to_owned()])?;
        Self::new(cache, suite, &sources)
    }

    fn new(cache: &Path, name: &str, sources: &str) -> Result<Self> {
        Self::with_options(cache, name, sources, &[])
    }

    /// The files that options name are there, and empty.
    fn with_options(
        cache: &Path,
        name: &str,
        sources: &str,
        files: &[(&str, PathBuf)],
    ) -> Result<Self> {
        let folder = cache.join("apt").join(name);
        for sub in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(folder.join(sub))
                .with_context(|| format!("cannot create {}", folder.join(sub).display()))?;
        }
        fs::write(folder.join("sources.list"), sources)?;
        let here = folder.display();
        let options = [
            ("Dir::Etc::SourceList", format!("{here}/sources.list")),
            ("Dir::Etc::SourceParts", "/dev/null".to_owned()),
            ("Dir::State::Lists", format!("{here}/lists")),
            ("Dir::Cache", here.to_string()),
            // The cache may be where apt's own user cannot go.
            ("APT::Sandbox::User", "root".to_owned()),
            ("APT::Update::Error-Mode", "any".to_owned()),
            ("Acquire::Retries", "3".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
            ("DPkg::Lock::Timeout", "300".to_owned()),
        ];
        let text = options.map(|(name, value)| format!("{name} \"{value}\";\n"));
        let mut text = text.concat();
        for (name, file) in files {
            fs::write(file, "")?;
            text.push_str(&format!("{name} \"{}\";\n", file.display()));
        }
        fs::write(folder.join("apt.conf"), text)?;
        let apt = Self { folder };
        let step = Step::begin(format!("Reading the package lists of {name}"));
        output(apt.get().arg("update")).map_err(|error| unreachable(name, &error))?;
        step.done();
        Ok(apt)
    }

    /// apt-get that says nothing but what went wrong.
    fn get(&self) -> Command {
        let mut command = Command::new("apt-get");
        command
            .args(["-qq", "-o", "Dpkg::Use-Pty=0"])
            .env("APT_CONFIG", self.folder.join("apt.conf"))
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C");
        command
    }

    /// Installs packages without recommended ones; `from` prefers a suite such as `bookworm-backports`.
    pub fn install(&self, packages: &[&str], from: Option<&str>) -> Result<()> {
        let all = packages.join(" ");
        let step = Step::begin(format!("Installing {all}"));
        let mut apt = self.get();
        apt.args(["-y", "--no-install-recommends", "--no-remove"]);
        apt.args(from.into_iter().flat_map(|suite| ["-t", suite]));
        output(apt.arg("install").args(packages)).map_err(|error| {
            Trouble::new(
                format!("cannot install {all}: {error:#}"),
                "see apt's own words above; mend the package system (`apt-get -f install`, `dpkg --configure -a`), or install the packages yourself",
            )
        })?;
        step.done();
        Ok(())
    }

    /// Downloads packages, each `name/suite`, with all that they need, and returns the files.
    pub fn download_all(&self, packages: &[String]) -> Result<Vec<PathBuf>> {
        let all = packages.join(" ");
        let step = Step::begin(format!("Downloading {all} and what they need"));
        // What an earlier try has left is used, but for what the archive has a newer version of.
        output(self.get().arg("autoclean"))?;
        let mut apt = self.get();
        apt.args(["-y", "--no-install-recommends", "--download-only"]);
        output(apt.arg("install").args(packages)).map_err(|error| unreachable(&all, &error))?;
        let folder = self.folder.join("archives");
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            files.extend(
                path.extension()
                    .is_some_and(|end| end == "deb")
                    .then_some(path),
            );
        }
        anyhow::ensure!(!files.is_empty(), "apt-get has downloaded nothing of {all}");
        step.done();
        Ok(files)
    }

    /// Removes what was downloaded.
    pub fn clean(&self) -> Result<()> {
        output(self.get().arg("clean")).map(drop)
    }

    /// Downloads a package into a folder that is empty, and returns the file. A version may end with a `*`.
    pub fn download(&self, package: &str, version: &str, folder: &Path) -> Result<PathBuf> {
        let wanted = format!("{package}={version}");
        let step = Step::begin(format!("Downloading {package}"));
        output(self.get().args(["download", &wanted]).current_dir(folder))
            .map_err(|error| unreachable(&wanted, &error))?;
        let file = fs::read_dir(folder)?
            .next()
            .with_context(|| format!("apt-get has downloaded {wanted}, but there is no file"))??;
        step.done();
        Ok(file.path())
    }
}

fn unreachable(what: &str, error: &anyhow::Error) -> Trouble {
    Trouble::new(
        format!("cannot fetch {what} from the Debian mirror: {error:#}"),
        "check the network (and a proxy's setting in /etc/apt/apt.conf.d) with `apt-get update`; what was fetched so far is kept, run again",
    )
}

/// Where the machine's own packages of component main are from: of each suite, how a line for it begins.
fn of_machine() -> Result<BTreeMap<String, String>> {
    let filters = ["Created-By: Packages", "Component: main"];
    let mut apt = Command::new("apt-get");
    apt.args(["indextargets", "--format", FORMAT]).args(filters);
    Ok(origins(&output(&mut apt)?))
}

fn origins(targets: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for line in targets.lines() {
        let mut words = line.split(' ');
        // An installation disc has no other suites.
        if let (Some(uri), Some(suite), false) =
            (words.next(), words.next(), line.starts_with("cdrom:"))
        {
            // What a source does not say stays as it is in the format; a key may stand in the source itself.
            let keyring = words.next().filter(|keyring| keyring.starts_with('/'));
            let signed = keyring.map_or(String::new(), |file| format!("[signed-by={file}] "));
            found
                .entry(suite.to_owned())
                .or_insert(format!("deb {signed}{uri}"));
        }
    }
    found
}

/// A sources.list of these suites. Those that the machine does not know come from where its release does.
fn sources(
    origins: &BTreeMap<String, String>,
    codename: &str,
    suites: &[String],
) -> Result<String> {
    let Some(main) = origins.get(codename) else {
        return trouble(
            format!("the machine's apt sources name no mirror for {codename} main"),
            format!("put a line `deb URL {codename} main` into /etc/apt/sources.list, with the address of your Debian mirror"),
        );
    };
    let line = |suite| format!("{} {suite} main\n", origins.get(suite).unwrap_or(main));
    Ok(suites.iter().map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_suites_come_from_the_releases_own_mirror() {
        let found = origins(
            "cdrom:[x]/ bookworm\nhttp://a/debian/ bookworm /k.gpg\nhttp://b/other bookworm\n\
             http://s/ bookworm-security $(SIGNED_BY)\n",
        );
        let suites = ["bookworm-security", "sid"].map(str::to_owned);
        assert_eq!(
            sources(&found, "bookworm", &suites).unwrap(),
            "deb http://s/ bookworm-security main\ndeb [signed-by=/k.gpg] http://a/debian/ sid main\n"
        );
        let error = sources(&found, "trixie", &suites).unwrap_err().to_string();
        assert!(error.contains("deb URL trixie main"), "{error}");
    }

    #[test]
    fn debian_is_recognized_and_others_are_named() {
        let debian = "PRETTY_NAME=\"Debian GNU/Linux 12\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(recognize(debian, "no flex").unwrap(), "bookworm");
        for other in [
            debian.replace("bookworm", "bullseye"),
            debian.replace("=debian", "=fedora"),
            String::new(),
        ] {
            let error = recognize(&other, "no flex").unwrap_err().to_string();
            assert!(error.contains("no flex, and") && error.contains("HITLESS_LINUX"));
        }
    }
}
