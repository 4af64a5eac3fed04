// SPDX-License-Identifier: Apache-2.0 OR MIT
//! For a person at the console: `cargo lab boot`.

use std::fs;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::process::Command as Program;

use anyhow::{Context, Result};

const SHELL: &str = "/bin/busybox";
/// Word of the kernel's command line that asks for the menu.
const WORD: &str = "lab=menu";

/// Whether a person is to be asked, and not the lab.
pub(crate) fn is_wanted() -> bool {
    let words = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    words.split_whitespace().any(|word| word == WORD)
}

/// Asks and obeys until the person has enough.
pub(crate) fn run() -> Result<()> {
    let has_shell = Path::new(SHELL).exists();
    let shell = if has_shell { "s[h]ell, " } else { "" };
    let mut lines = io::stdin().lock().lines();
    loop {
        print!("\nhitless lab: [s]tatus, {shell}[p]ower off > ");
        io::stdout().flush().context("writing to the console")?;
        let Some(line) = lines.next() else {
            return Ok(());
        };
        match line.context("reading from the console")?.trim() {
            "s" => status(),
            "h" if has_shell => {
                if let Err(error) = Program::new(SHELL).arg("sh").status() {
                    println!("the shell does not start: {error}");
                }
            }
            "p" => return Ok(()),
            _ => {}
        }
    }
}

fn status() {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    print!("{}", text("/proc/version"));
    print!("command line: {}", text("/proc/cmdline"));
    for file in ["/dev/liveupdate", "/dev/iommu", "/dev/vfio/devices"] {
        let there = Path::new(file).exists();
        println!("{file}: {}", if there { "there" } else { "missing" });
    }
    let functions = fs::read_dir("/sys/bus/pci/devices").into_iter().flatten();
    let mut functions: Vec<_> = functions.flatten().map(|entry| entry.path()).collect();
    functions.sort_unstable();
    for path in functions {
        let driver = fs::read_link(path.join("driver")).unwrap_or_else(|_| "none".into());
        let name = |path: &Path| {
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        println!("PCI function {}, driver {}", name(&path), name(&driver));
    }
}
