// SPDX-License-Identifier: Apache-2.0 OR MIT
//! For a person at the console: `cargo lab boot`.

use std::fs;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::process::Command as Program;
use std::time::Duration;

use anyhow::{Context, Result};
use hitless_proto::{Answer, Bdf, Command};

use crate::orders::Machine;

const SHELL: &str = "/bin/busybox";
/// Vendor and device of the card that the example drives, as sysfs writes them.
const CARD: (&str, &str) = ("0x8086", "0x10c9");

/// Asks and obeys until the person has enough.
pub(crate) fn run() -> Result<()> {
    let mut lines = io::stdin().lock().lines();
    loop {
        print!(
            "\nhitless lab: [s]tatus, [e]xample, {}[p]ower off > ",
            if has_shell() { "s[h]ell, " } else { "" }
        );
        io::stdout().flush().context("writing to the console")?;
        let Some(line) = lines.next() else {
            return Ok(());
        };
        let done = match line.context("reading from the console")?.trim() {
            "s" => status(),
            "e" => example(),
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

/// Lets the first card receive for a few seconds and says what came.
fn example() -> Result<()> {
    let card = *cards()?
        .first()
        .context("there is no igb card in this machine")?;
    let bdf = card.to_string();
    let mut machine = Machine::default();
    machine.obey(&Command::BindDriver { bdf: bdf.clone() })?;
    let started = machine.obey(&Command::Start {
        card: 1,
        bdf: bdf.clone(),
        ring: 4096,
        iova: 1 << 32,
    })?;
    if let Answer::Started { mac, .. } = started {
        println!("{bdf} receives, {mac}");
    }
    for _ in 0..5 {
        std::thread::sleep(Duration::from_secs(1));
        println!("{:?}", machine.obey(&Command::Frames { card: 1 })?);
    }
    machine.obey(&Command::Stop { card: 1 })?;
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
