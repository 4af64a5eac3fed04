// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What PID 1 does before anything else: file systems and panics. The kernel has opened the archive's `/dev/console`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::mount::MountFlags;
use rustix::system::RebootCommand;

const MOUNTS: [(&str, &str); 5] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("debugfs", "/sys/kernel/debug"),
    ("tmpfs", "/tmp"),
];

/// Sets the machine up.
pub(crate) fn run() -> Result<()> {
    for (kind, path) in MOUNTS {
        mount(kind, path)?;
    }
    // The lab sees the machine end, and shows these words: they are among the console's last.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("guest: {panic}");
        power_off();
    }));
    Ok(())
}

fn mount(kind: &str, path: &str) -> Result<()> {
    // A folder below an earlier mount is there already, or the kernel has no such file system.
    let _ = fs::create_dir_all(path);
    match rustix::mount::mount(kind, path, kind, MountFlags::empty(), None) {
        // The kernel has mounted it itself (CONFIG_DEVTMPFS_MOUNT).
        Ok(()) | Err(rustix::io::Errno::BUSY) => Ok(()),
        // Only the debug file system may be missing: orders that read it say so.
        Err(_) if kind == "debugfs" => Ok(()),
        Err(errno) => Err(errno).with_context(|| format!("mounting {kind} on {path}")),
    }
}

/// Switches the machine off.
pub(crate) fn power_off() -> ! {
    // The consoles' buffers empty by interrupt, and nobody waits for them at power-off.
    std::thread::sleep(Duration::from_millis(100));
    let error = rustix::system::reboot(RebootCommand::PowerOff);
    eprintln!("guest: power off: {error:?}");
    // PID 1 must not end: that would be a kernel panic, which tells less than this line.
    loop {
        std::thread::park();
    }
}
