// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Orders that are about the machine and not about a card: drivers, memory, files.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use hitless_proto::{Answer, Bdf};
use hitless_uapi::{Iommufd, VfioDevice};
use rustix::fs::MemfdFlags;

/// How much of a file is answered.
const TEXT: u64 = 64 << 10;
/// vfio-pci makes its device file a moment after the bind.
const DEVICE_FILE: Duration = Duration::from_secs(20);

/// Binds a function to vfio-pci; nothing to do where it is bound.
pub(super) fn bind_driver(bdf: Bdf) -> Result<()> {
    let function = format!("/sys/bus/pci/devices/{bdf}");
    let function = Path::new(&function);
    ensure!(
        function.exists(),
        "there is no PCI function {bdf} in this machine"
    );
    let driver = || {
        fs::read_link(function.join("driver"))
            .ok()
            .and_then(|path| path.file_name()?.to_owned().into())
    };
    match driver() {
        Some(name) if name == "vfio-pci" => {}
        other => {
            if other.is_some() {
                write(&function.join("driver/unbind"), &bdf.to_string())?;
            }
            write(&function.join("driver_override"), "vfio-pci")?;
            write(Path::new("/sys/bus/pci/drivers_probe"), &bdf.to_string())?;
        }
    }
    let until = Instant::now() + DEVICE_FILE;
    while !VfioDevice::path(&bdf.to_string()).is_ok_and(|path| path.exists()) {
        ensure!(
            Instant::now() < until,
            "vfio-pci has not made a device file for {bdf} (driver: {:?}): the kernel log says why",
            driver()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// What of live update the kernel can do.
pub(super) fn features() -> Result<Answer> {
    let features = Iommufd::open()?.features()?;
    Ok(Answer::Features {
        preserve: features.preserve(),
        bind_first: features.bind_first(),
        mappings: features.mappings(),
    })
}

/// Memory held so that nobody else gets it.
///
/// It is the content of a memfd and not memory of this process: one write fills many pages, where touching them
/// would be a fault for each.
#[derive(Debug, Default)]
pub(super) struct Hoard(Option<File>);

impl Hoard {
    const CHUNK_MIB: u64 = 1;

    /// Takes memory until about `keep_mib` are left.
    pub(super) fn fill(&mut self, keep_mib: u64) -> Result<()> {
        // Not zero: a page of zeros need not be a page.
        let chunk = vec![0xa5; usize::try_from(Self::CHUNK_MIB << 20)?];
        let file = match &mut self.0 {
            Some(file) => file,
            none => {
                let file = rustix::fs::memfd_create("hoard", MemfdFlags::CLOEXEC)
                    .context("memfd_create")?;
                none.insert(File::from(file))
            }
        };
        // Asked again after every half of it: what the kernel itself uses meanwhile counts too.
        loop {
            let chunks = available_mib()?.saturating_sub(keep_mib) / Self::CHUNK_MIB;
            if chunks == 0 {
                return Ok(());
            }
            for _ in 0..chunks.div_ceil(2) {
                file.write_all(&chunk).context("taking free memory")?;
            }
        }
    }
}

fn available_mib() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    mem_available(&text).context("no MemAvailable in /proc/meminfo")
}

fn mem_available(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

/// Compacts memory.
pub(super) fn compact(rounds: u32) -> Result<()> {
    for _ in 0..rounds {
        write(Path::new("/proc/sys/vm/compact_memory"), "1").context("needs CONFIG_COMPACTION")?;
    }
    Ok(())
}

/// A file's content.
pub(super) fn read_file(path: &str) -> Result<Answer> {
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(|| format!("opening {path}"))?;
    file.take(TEXT)
        .read_to_end(&mut bytes)
        .with_context(|| format!("reading {path}"))?;
    Ok(Answer::Text {
        text: String::from_utf8_lossy(&bytes).into_owned(),
    })
}

/// Writes to a file that is there.
pub(super) fn write_file(path: &str, text: &str) -> Result<()> {
    write(Path::new(path), text)
}

fn write(path: &Path, text: &str) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))?;
    // One write: a file of sysfs takes each as a command.
    let count = file
        .write(text.as_bytes())
        .with_context(|| format!("writing `{text}` to {}", path.display()))?;
    ensure!(
        count == text.len(),
        "{} took {count} of {} bytes",
        path.display(),
        text.len()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_memory_is_read_in_mib() {
        assert_eq!(
            mem_available("MemTotal: 9 kB\nMemAvailable:    2048000 kB\n"),
            Some(2000)
        );
        assert_eq!(mem_available("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn a_file_that_is_not_there_is_not_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        assert!(write(&path, "1").is_err());
        assert!(!path.exists());
    }
}
