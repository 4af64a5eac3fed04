// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads the machine's own apt sources, in both of their formats, to learn where its Debian mirror is.
//!
//! See sources.list(5). Only what a private configuration needs is kept: binary packages, component main.

use std::fs;
use std::path::Path;

use crate::trouble::Trouble;

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
pub fn of_machine() -> Vec<Entry> {
    let mut found = read(Path::new("/etc/apt/sources.list"));
    let mut parts: Vec<_> = fs::read_dir("/etc/apt/sources.list.d")
        .map(|folder| folder.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    parts.sort();
    for path in parts {
        found.extend(read(&path));
    }
    found
}

fn read(path: &Path) -> Vec<Entry> {
    let text = fs::read_to_string(path).unwrap_or_default();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("list") => one_line(&text),
        Some("sources") => deb822(&text),
        _ => Vec::new(),
    }
}

/// The entries of this Debian release itself: its main suite, updates and security.
///
/// # Errors
///
/// When the machine has no source for its own release, there is no mirror to derive other suites from.
pub fn release(entries: &[Entry], codename: &str) -> Result<(Entry, Vec<Entry>), Trouble> {
    let related: Vec<Entry> = ["", "-updates", "-security"]
        .iter()
        .flat_map(|tail| {
            let suite = format!("{codename}{tail}");
            entries
                .iter()
                .filter(move |entry| entry.suite == suite)
                .cloned()
        })
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

fn one_line(text: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line
            .strip_prefix("deb ")
            .or_else(|| line.strip_prefix("deb\t"))
        else {
            continue;
        };
        let rest = rest.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(bracketed) => match bracketed.split_once(']') {
                Some(parts) => parts,
                None => continue,
            },
            None => ("", rest),
        };
        let signed_by = options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .map(str::to_owned);
        let mut words = rest.split_whitespace();
        let (Some(uri), Some(suite)) = (words.next(), words.next()) else {
            continue;
        };
        if words.any(|component| component == "main") {
            push(&mut found, uri, suite, signed_by.as_deref());
        }
    }
    found
}

fn deb822(text: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    for stanza in text.split("\n\n") {
        let field = |wanted: &str| field(stanza, wanted);
        let has =
            |name: &str, word: &str| field(name).split_whitespace().any(|value| value == word);
        if field("Enabled").trim() == "no" || !has("Types", "deb") || !has("Components", "main") {
            continue;
        }
        let keyring = field("Signed-By");
        // A key may stand in the field itself; such a source is used without naming it.
        let keyring =
            Some(keyring.trim()).filter(|text| text.starts_with('/') && !text.contains('\n'));
        for uri in field("URIs").split_whitespace() {
            for suite in field("Suites").split_whitespace() {
                push(&mut found, uri, suite, keyring);
            }
        }
    }
    found
}

/// A field's value with its continuation lines.
fn field(stanza: &str, wanted: &str) -> String {
    let mut value = String::new();
    let mut inside = false;
    for line in stanza.lines().filter(|line| !line.starts_with('#')) {
        if line.starts_with([' ', '\t']) {
            if inside {
                value.push('\n');
                value.push_str(line.trim());
            }
            continue;
        }
        inside = false;
        if let Some((name, rest)) = line.split_once(':') {
            if name.eq_ignore_ascii_case(wanted) {
                inside = true;
                value = rest.trim().to_owned();
            }
        }
    }
    value
}

fn push(found: &mut Vec<Entry>, uri: &str, suite: &str, signed_by: Option<&str>) {
    // An installation disc has no other suites; a source of a single package has no suite at all.
    if uri.starts_with("cdrom:") || suite.ends_with('/') {
        return;
    }
    found.push(Entry {
        uri: uri.to_owned(),
        suite: suite.to_owned(),
        signed_by: signed_by.map(str::to_owned),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_format() {
        let text = "# deb http://no.example/debian bookworm main\n\
                    deb cdrom:[Debian]/ bookworm main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://a.example/debian bookworm main contrib # x\n\
                    deb-src http://a.example/debian bookworm main\n\
                    deb http://b.example/x bookworm contrib\n\
                    deb http://a.example/debian bookworm-updates main\n\
                    deb http://c.example/flat ./\n";
        let found = one_line(text);
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[0].line(),
            "deb [signed-by=/k.gpg] http://a.example/debian bookworm main\n"
        );
        assert_eq!(
            found[1].line(),
            "deb http://a.example/debian bookworm-updates main\n"
        );
    }

    #[test]
    fn deb822_format() {
        let text = "Types: deb deb-src\n# snapshot\nURIs: http://a.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: /k.gpg\n\n\
                    Types: deb\nURIs: http://s.example/sec\nSuites: bookworm-security\nComponents:\n contrib\n main\nSigned-By:\n -----BEGIN PGP\n .\n x\n\n\
                    Enabled: no\nTypes: deb\nURIs: http://n.example\nSuites: bookworm\nComponents: main\n\n\
                    Types: deb-src\nURIs: http://n.example\nSuites: bookworm\nComponents: main\n";
        let lines: Vec<String> = deb822(text).iter().map(Entry::line).collect();
        assert_eq!(
            lines,
            [
                "deb [signed-by=/k.gpg] http://a.example/debian bookworm main\n",
                "deb [signed-by=/k.gpg] http://a.example/debian bookworm-updates main\n",
                "deb http://s.example/sec bookworm-security main\n",
            ]
        );
    }

    #[test]
    fn release_picks_its_own_suites_only() {
        let entries = one_line("deb http://z/ nodistro main\ndeb http://a/ bookworm main\ndeb http://s/ bookworm-security main\ndeb http://a/ bookworm-backports main\n");
        let (main, related) = release(&entries, "bookworm").unwrap();
        assert_eq!(main.with_suite("sid").line(), "deb http://a/ sid main\n");
        assert_eq!(related.len(), 2);
        assert!(release(&entries, "trixie")
            .unwrap_err()
            .cause
            .contains("trixie"));
    }
}
