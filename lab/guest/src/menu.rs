// SPDX-License-Identifier: Apache-2.0 OR MIT
//! For a person at the console: `cargo lab boot`.

use std::fs;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::process::Command as Program;

use anyhow::{Context, Result};
use hitless_proto::Bdf;

const SHELL: &str = "/bin/busybox";
/// Vendor and device of the machine's cards, as sysfs writes them.
const CARD: (&str, &str) = ("0x8086", "0x10c9");

/// Asks and obeys until the person has enough.
pub(crate) fn run() -> Result<()> {
    let mut lines = io::stdin().lock().lines();
    loop {
        print!(
            "\nhitless lab: [s]tatus, {}[p]ower off > ",
            if has_shell() { "s[h]ell, " } else { "" }
        );
        io::stdout().flush().context("writing to the console")?;
        let Some(line) = lines.next() else {
            return Ok(());
        };
        let done = match line.context("reading from the console")?.trim() {
            "s" => status(),
            "h" if has_shell() => shell(),
            "p" => return Ok(()),
            _ => Ok(()),
        };
        if let Err(error) = done {
            println!("{error:#}");
        }
    }
}

fn has_shell() -> bool {
    Path::new(SHELL).exists()
}

fn shell() -> Result<()> {
    Program::new(SHELL)
        .arg("sh")
        .status()
        .context("starting the shell")?;
    Ok(())
}

fn status() -> Result<()> {
    let uname = rustix::system::uname();
    println!(
        "Linux {} {}",
        uname.release().to_string_lossy(),
        uname.version().to_string_lossy()
    );
    println!(
        "command line: {}",
        fs::read_to_string("/proc/cmdline")
            .unwrap_or_default()
            .trim()
    );
    for file in ["/dev/liveupdate", "/dev/iommu", "/dev/vfio/devices"] {
        println!(
            "{file}: {}",
            if Path::new(file).exists() {
                "there"
            } else {
                "missing"
            }
        );
    }
    for card in cards()? {
        let driver = fs::read_link(format!("/sys/bus/pci/devices/{card}/driver")).ok();
        let driver = driver
            .as_ref()
            .and_then(|path| path.file_name())
            .map_or("none".into(), |name| name.to_string_lossy());
        println!("igb card {card}, driver {driver}");
    }
    Ok(())
}

fn cards() -> Result<Vec<Bdf>> {
    let mut cards = Vec::new();
    for entry in fs::read_dir("/sys/bus/pci/devices")
        .context("listing the PCI functions")?
        .flatten()
    {
        let id = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        if id("vendor").trim() == CARD.0 && id("device").trim() == CARD.1 {
            cards.push(
                entry
                    .file_name()
                    .to_string_lossy()
                    .parse::<Bdf>()
                    .context("a name in sysfs")?,
            );
        }
    }
    cards.sort_unstable();
    Ok(cards)
}
