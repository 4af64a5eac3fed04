// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which distribution this is, and whether packages may be installed.

use std::collections::HashMap;
use std::fs;

use crate::trouble::Trouble;

/// The Debian release this machine runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Debian {
    /// `bookworm`, `trixie`.
    pub codename: String,
}

impl Debian {
    /// The suite of newer packages for this release.
    pub fn backports(&self) -> String {
        format!("{}-backports", self.codename)
    }
}

/// Refuses distributions other than Debian 12 and 13; `wanted` says what would have been installed.
pub fn debian(wanted: &str) -> Result<Debian, Trouble> {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    recognize(&text, wanted)
}

fn recognize(os_release: &str, wanted: &str) -> Result<Debian, Trouble> {
    let values: HashMap<&str, &str> = os_release
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key, value.trim_matches('"')))
        .collect();
    let get = |key: &str| values.get(key).copied().unwrap_or_default();
    match (get("ID"), get("VERSION_ID")) {
        ("debian", "12" | "13") => Ok(Debian {
            codename: get("VERSION_CODENAME").to_owned(),
        }),
        _ => {
            let name = match get("PRETTY_NAME") {
                "" => "an unknown system",
                name => name,
            };
            Err(Trouble::new(
                format!("{wanted}: missing, and this is {name}, where `cargo lab` cannot install it"),
                "install it by the means of your system (HITLESS_LINUX=PATH takes a Linux 7.3.4 tree or tarball), or use Debian 12",
            ))
        }
    }
}

/// Refuses to install as another user than root, for this `cause`; `wanted` is what follows `apt-get install`.
pub fn need_root(cause: &str, wanted: &str) -> Result<(), Trouble> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Trouble::new(
        cause,
        format!("run `cargo lab setup` as root once, or `apt-get install {wanted}` as root"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_12_is_recognized_and_others_are_named() {
        let debian = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(recognize(debian, "x").unwrap().codename, "bookworm");
        let other = "PRETTY_NAME=\"Fedora Linux 44\"\nID=fedora\nVERSION_ID=44\n";
        let error = recognize(other, "flex").unwrap_err().to_string();
        assert!(
            error.contains("Fedora Linux 44")
                && error.contains("flex")
                && error.contains("HITLESS_LINUX"),
            "{error}"
        );
        assert!(recognize(&debian.replace("\"12\"", "\"11\""), "x").is_err());
        assert!(recognize("", "x")
            .unwrap_err()
            .cause
            .contains("unknown system"));
    }
}
