// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Orders that are about the machine and not about a card: the next kernel, drivers, memory, files.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command as Program, Stdio};
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use hitless_proto::{available_mib, Answer, Bdf};
use hitless_uapi::{kexec, Iommufd, VfioDevice};
use rustix::fs::MemfdFlags;
use rustix::mount::MountFlags;

/// How what an image says of itself begins.
const RECORD: &[u8] = b"HTLS";
/// The name of an image that was changed.
const EDITED: &str = "edited";
/// How much of a file is answered.
const TEXT: u64 = 64 << 10;
/// vfio-pci makes its device file a moment after the bind.
const DEVICE_FILE: Duration = Duration::from_secs(20);
/// The archive that the running root file system was unpacked from, kept by the kernel.
const INITRAMFS: &str = "/sys/firmware/initrd";

/// Loads `/boot/<image>` with the initramfs of the running kernel.
pub(super) fn load(image: &str, cmdline: &str) -> Result<()> {
    let kernel = open(&format!("/boot/{image}"))?;
    let initramfs = open(INITRAMFS).context("the command line needs retain_initrd")?;
    kexec::load(&kernel, Some(initramfs.as_fd()), cmdline).context("loading the next kernel")
}

/// Loads it with bytes of what it says of itself changed.
pub(super) fn load_edited(image: &str, cmdline: &str, at: usize, new: &[u8]) -> Result<()> {
    let mut kernel = fs::read(format!("/boot/{image}")).context("reading the image")?;
    let mut places = kernel.windows(RECORD.len());
    let record = places.position(|bytes| bytes == RECORD);
    let record = record.context("the image says nothing of itself")?;
    let place = kernel.get_mut(record + at..record + at + new.len());
    let place = place.context("beyond the image's end")?;
    place.copy_from_slice(new);
    fs::write(format!("/boot/{EDITED}"), kernel).context("writing the image")?;
    let loaded = load(EDITED, cmdline);
    fs::remove_file(format!("/boot/{EDITED}")).context("removing the image")?;
    loaded
}

/// Binds a function to vfio-pci; nothing to do where it is bound.
pub(super) fn bind_driver(bdf: Bdf) -> Result<()> {
    let function = format!("/sys/bus/pci/devices/{bdf}");
    ensure!(
        Path::new(&function).exists(),
        "there is no PCI function {bdf} in this machine"
    );
    let driver = || fs::read_link(format!("{function}/driver")).ok();
    let before = driver();
    if !before
        .as_ref()
        .is_some_and(|path| path.ends_with("vfio-pci"))
    {
        if before.is_some() {
            write(&format!("{function}/driver/unbind"), &bdf.to_string())?;
        }
        write(&format!("{function}/driver_override"), "vfio-pci")?;
        write("/sys/bus/pci/drivers_probe", &bdf.to_string())?;
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

/// Mounts a disk, which is only read.
pub(super) fn mount(device: &str, kind: &str, path: &str) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("making {path}"))?;
    rustix::mount::mount(device, path, kind, MountFlags::RDONLY, None)
        .with_context(|| format!("mounting {device} on {path}"))
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

/// Takes memory until about `keep_mib` are left, and holds it as long as the file is open.
///
/// It is the content of a memfd and not memory of this process: one write fills many pages, where touching them
/// would be a fault for each.
pub(super) fn fill(keep_mib: u64) -> Result<File> {
    // Not zero: a page of zeros need not be a page.
    let mib = vec![0xa5; 1 << 20];
    let file = rustix::fs::memfd_create("hoard", MemfdFlags::CLOEXEC).context("memfd_create")?;
    let mut file = File::from(file);
    // Asked again after every half of it: what the kernel itself uses meanwhile counts too.
    loop {
        let meminfo = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
        let available = available_mib(&meminfo).context("no MemAvailable in /proc/meminfo")?;
        let more = available.saturating_sub(keep_mib);
        if more == 0 {
            return Ok(file);
        }
        for _ in 0..more.div_ceil(2) {
            file.write_all(&mib).context("taking free memory")?;
        }
    }
}

/// A file's content.
pub(super) fn read(path: &str) -> Result<Answer> {
    let mut bytes = Vec::new();
    open(path)?
        .take(TEXT)
        .read_to_end(&mut bytes)
        .with_context(|| format!("reading {path}"))?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Answer::Text { text })
}

/// Runs a program to its end; what it says goes into a file, so that no line of the kernel's gets between.
pub(super) fn run(program: &str, arguments: &[String]) -> Result<Answer> {
    let said = rustix::fs::memfd_create("said", MemfdFlags::CLOEXEC).context("memfd_create")?;
    let mut said = File::from(said);
    let copy = || said.try_clone().context("duplicating a descriptor");
    Program::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(copy()?)
        .stderr(copy()?)
        .status()
        .with_context(|| format!("running {program}"))?;
    said.rewind().context("what the program said")?;
    let mut bytes = Vec::new();
    said.read_to_end(&mut bytes)
        .context("what the program said")?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Answer::Text { text })
}

/// A file, for reading.
pub(super) fn open(path: &str) -> Result<File> {
    File::open(path).with_context(|| format!("opening {path}"))
}

/// Writes to a file that is there.
pub(super) fn write(path: &str, text: &str) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .open(path)
        .with_context(|| format!("opening {path}"))?;
    // One write: a file of sysfs takes each as a command.
    let count = file
        .write(text.as_bytes())
        .with_context(|| format!("writing `{text}` to {path}"))?;
    ensure!(
        count == text.len(),
        "{path} took {count} of {} bytes",
        text.len()
    );
    Ok(())
}

/// Writes all of `writes` again and again from the moment on at which the kernel says `words`.
pub(super) fn write_after(words: String, writes: Vec<hitless_proto::Write>) -> Result<()> {
    let mut log = open("/dev/kmsg")?;
    log.seek(SeekFrom::End(0)).context("the kernel's log")?;
    let files = writes.into_iter().map(|write| {
        let file = OpenOptions::new().write(true).open(&write.path);
        let file = file.with_context(|| format!("opening {}", write.path))?;
        Ok((file, write))
    });
    let files = files.collect::<Result<Vec<_>>>()?;
    std::thread::spawn(move || {
        let mut line = [0; 8192];
        // Each read gives one line.
        while let Ok(count) = log.read(&mut line) {
            if String::from_utf8_lossy(&line[..count]).contains(&words) {
                break;
            }
        }
        loop {
            for (file, write) in &files {
                // It is refused, or it is not: what comes of it shows elsewhere.
                let _ = file.write_at(&write.bytes, write.at);
            }
        }
    });
    Ok(())
}
