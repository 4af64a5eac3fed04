// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Loading the next kernel, and the jump.
#![expect(
    unsafe_code,
    reason = "kexec_load(2) and kexec_file_load(2) are not in rustix"
)]

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::system::RebootCommand;

use crate::error::{Error, Result};

/// `KEXEC_FILE_UNLOAD` (include/uapi/linux/kexec.h).
const UNLOAD: u64 = 0x1;
/// `KEXEC_FILE_NO_INITRAMFS`.
const NO_INITRAMFS: u64 = 0x4;

/// Loads a kernel image with an initramfs and a command line; one that was loaded before is dropped.
///
/// # Errors
///
/// `EINVAL` for a command line with a zero byte, `ENOEXEC` for a file that is no kernel, `EBUSY` while another
/// load runs, `EPERM` without the right.
#[doc(alias = "kexec_file_load")]
pub fn load(kernel: impl AsFd, initramfs: Option<BorrowedFd<'_>>, cmdline: &str) -> Result<()> {
    let cmdline = CString::new(cmdline).map_err(|_| {
        Error::on(
            "kexec_file_load",
            "zero byte in the command line",
            Errno::INVAL,
        )
    })?;
    let flags = if initramfs.is_some() { 0 } else { NO_INITRAMFS };
    let initramfs = initramfs.map_or(-1, |fd| fd.as_raw_fd());
    call(kernel.as_fd().as_raw_fd(), initramfs, Some(&cmdline), flags)
}

/// Drops the loaded kernel.
///
/// # Errors
///
/// `EBUSY` while a load runs, `EPERM` without the right.
pub fn unload() -> Result<()> {
    call(-1, -1, None, UNLOAD)
}

fn call(kernel: i32, initramfs: i32, cmdline: Option<&CString>, flags: u64) -> Result<()> {
    let bytes = cmdline.map_or(&[][..], |cmdline| cmdline.as_bytes_with_nul());
    // SAFETY: kexec_file_load(2) only reads: `bytes.len()` bytes from the pointer, the terminating zero included.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel,
            initramfs,
            bytes.len(),
            bytes.as_ptr(),
            flags,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(Error::from_io(
            "kexec_file_load",
            "",
            &std::io::Error::last_os_error(),
        ))
    }
}

/// One piece of an image, as kexec_load(2) has it (include/uapi/linux/kexec.h).
#[repr(C)]
struct Segment {
    buffer: *const u8,
    buffer_size: usize,
    memory: usize,
    memory_size: usize,
}

/// `KEXEC_PRESERVE_CONTEXT`.
const PRESERVE_CONTEXT: u64 = 0x2;

/// Loads one page to `physical`, a multiple of the page size, by kexec_load(2): an image that gets nothing of what is
/// handed over. One that `returns` comes back to this kernel. For those who want to see it refused.
///
/// # Errors
///
/// `EADDRNOTAVAIL` for an address that is no page's, `EBUSY` while another load runs, `EPERM` without the right,
/// `ENOSYS` in a kernel without the call.
#[doc(alias = "kexec_load")]
pub fn load_page(page: &[u8; 4096], physical: usize, returns: bool) -> Result<()> {
    let flags = if returns { PRESERVE_CONTEXT } else { 0 };
    let segment = Segment {
        buffer: page.as_ptr(),
        buffer_size: page.len(),
        memory: physical,
        memory_size: page.len(),
    };
    // SAFETY: kexec_load(2) only reads: the one segment that it is told of, and the `buffer_size` bytes that this one
    // names, which `page` is borrowed for.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_load,
            physical,
            1_usize,
            &raw const segment,
            flags,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(Error::from_io(
            "kexec_load",
            "",
            &std::io::Error::last_os_error(),
        ))
    }
}

/// Jumps into the loaded kernel. Returns only when that fails.
///
/// # Errors
///
/// `EINVAL` when no kernel is loaded, `EIO` when the image has come back; and what a preserved file refuses to freeze with.
#[doc(alias = "LINUX_REBOOT_CMD_KEXEC")]
pub fn jump() -> Error {
    let errno = rustix::system::reboot(RebootCommand::Kexec)
        .err()
        .unwrap_or(Errno::IO);
    Error::new("reboot(LINUX_REBOOT_CMD_KEXEC)", errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_kernel_is_refused() {
        // Without the right it is EPERM, on a kernel without it ENOSYS; with both it is ENOEXEC. Never a success.
        let file = tempfile::tempfile().expect("a file");
        assert_eq!(
            load(&file, None, "quiet").unwrap_err().call,
            "kexec_file_load"
        );
        assert_eq!(load(&file, None, "a\0b").unwrap_err().errno, Errno::INVAL);
    }
}
