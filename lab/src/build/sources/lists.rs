// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the machine's own Debian mirror is: apt reads its sources, whatever their format, and is asked.

use std::process::Command;

use anyhow::Result;

use crate::command::output;
use crate::trouble::Trouble;

/// What apt is to say of each of its lists of packages.
const FORMAT: &str = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(SIGNED_BY)";

/// One place to get packages from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The archive's address, as the machine has it.
    pub uri: String,
    /// `bookworm`, `bookworm-updates`, ...
    pub suite: String,
    /// The keyring its signature is checked with, when the source names a file.
    pub signed_by: Option<String>,
}

impl Entry {
    /// The entry as a line of a sources.list.
    pub fn line(&self) -> String {
        let options = match &self.signed_by {
            Some(keyring) => format!("[signed-by={keyring}] "),
            None => String::new(),
        };
        format!("deb {options}{} {} main\n", self.uri, self.suite)
    }

    /// The same archive's other suite.
    pub fn with_suite(&self, suite: &str) -> Self {
        Self {
            suite: suite.to_owned(),
            ..self.clone()
        }
    }
}

/// All entries of the machine's own apt set-up for component main.
pub fn of_machine() -> Result<Vec<Entry>> {
    let mut apt = Command::new("apt-get");
    apt.args(["indextargets", "--format", FORMAT, "Created-By: Packages"]);
    Ok(entries(&output(&mut apt)?))
}

fn entries(targets: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    for line in targets.lines() {
        let mut words = line.split(' ');
        let (Some(uri), Some(suite), Some("main")) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        // What a source does not say stays as it is in the format; a key may stand in the source itself.
        let signed_by = words.next().filter(|keyring| keyring.starts_with('/'));
        let entry = Entry {
            uri: uri.trim_end_matches('/').to_owned(),
            suite: suite.to_owned(),
            signed_by: signed_by.map(str::to_owned),
        };
        // One for each architecture; an installation disc has no other suites.
        if !found.contains(&entry) && !uri.starts_with("cdrom:") {
            found.push(entry);
        }
    }
    found
}

/// The entries of this Debian release itself: its main suite, updates and security.
pub fn release(entries: &[Entry], codename: &str) -> Result<(Entry, Vec<Entry>), Trouble> {
    let suites = ["", "-updates", "-security"].map(|tail| format!("{codename}{tail}"));
    let related: Vec<Entry> = entries
        .iter()
        .filter(|entry| suites.contains(&entry.suite))
        .cloned()
        .collect();
    let main = related
        .iter()
        .find(|entry| entry.suite == codename)
        .cloned();
    main.map(|main| (main, related)).ok_or_else(|| {
        Trouble::new(
            format!("the machine's apt sources name no mirror for {codename} main"),
            format!("put a line `deb URL {codename} main` into /etc/apt/sources.list, with the address of your Debian mirror"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_releases_own_suites_are_picked() {
        let found = entries(
            "http://a/debian/ bookworm main /k.gpg\nhttp://a/debian/ bookworm main /k.gpg\n\
             http://s/ bookworm-security main $(SIGNED_BY)\nhttp://a/debian/ bookworm contrib /k.gpg\n\
             cdrom:[x]/ bookworm main\nhttp://a/debian/ bookworm-backports main\n",
        );
        let (main, related) = release(&found, "bookworm").unwrap();
        let line = main.with_suite("sid").line();
        assert_eq!(line, "deb [signed-by=/k.gpg] http://a/debian sid main\n");
        assert_eq!(related.len(), 2);
        assert_eq!(related[1].line(), "deb http://s bookworm-security main\n");
        let error = release(&found, "trixie").unwrap_err();
        assert!(error.cause.contains("trixie"));
    }
}
