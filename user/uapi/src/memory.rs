// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory that a device, another process or the next kernel's user space may change at any time.
//!
//! A [`Mapping`] lends no references to its bytes: everything is copied in and out by atomic accesses of at
//! most 8 bytes, so that it makes no difference to Rust who else writes there. A device's [`Registers`] are no memory:
//! each access to them is made exactly once and as wide as it says, so it is volatile.
#![expect(unsafe_code, reason = "mmap, and accesses to what it maps")]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{fence, AtomicU32, AtomicU64, AtomicU8, Ordering};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use crate::error::{Error, Result};

/// A file that is memory.
#[derive(Debug)]
pub struct Memfd(OwnedFd);

impl Memfd {
    /// A new memfd of `length` bytes, all zero, which may be sealed.
    ///
    /// # Errors
    ///
    /// Those of memfd_create(2) and ftruncate(2).
    pub fn create(name: &str, length: u64) -> Result<Self> {
        let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
            .map_err(|errno| Error::on("memfd_create", name, errno))?;
        rustix::fs::ftruncate(&fd, length).map_err(|errno| Error::on("ftruncate", name, errno))?;
        Ok(Self(fd))
    }

    /// A new memfd that holds these bytes for good: it is sealed against writing, too.
    ///
    /// # Errors
    ///
    /// Those of memfd_create(2), write(2) and `F_ADD_SEALS`.
    pub fn with_content(name: &str, bytes: &[u8]) -> Result<Self> {
        let memfd = Self::create(name, bytes.len() as u64)?;
        let mut done = 0;
        while done < bytes.len() {
            // CAST: an index into a slice.
            done += rustix::io::pwrite(&memfd.0, &bytes[done..], done as u64)
                .map_err(|errno| Error::on("pwrite", name, errno))?;
        }
        let all = SealFlags::SEAL | SealFlags::GROW | SealFlags::SHRINK | SealFlags::WRITE;
        rustix::fs::fcntl_add_seals(&memfd.0, all)
            .map_err(|errno| Error::on("F_ADD_SEALS", name, errno))?;
        Ok(memfd)
    }

    /// A copy of the whole content.
    ///
    /// # Errors
    ///
    /// Those of fstat(2) and pread(2); `EFBIG` when there is more than `limit` bytes, `EIO` when the file ends early.
    pub fn content(&self, limit: u64) -> Result<Vec<u8>> {
        let length = self.length()?;
        let too_long = || Error::on("pread", format!("{length} bytes"), Errno::FBIG);
        let within = Some(length).filter(|length| *length <= limit);
        let size = within.and_then(|length| usize::try_from(length).ok());
        let mut bytes = vec![0; size.ok_or_else(too_long)?];
        let mut done = 0;
        while done < bytes.len() {
            // CAST: an index into a slice.
            let count = rustix::io::pread(&self.0, &mut bytes[done..], done as u64)
                .map_err(|errno| Error::new("pread", errno))?;
            if count == 0 {
                return Err(Error::on("pread", "the file ends early", Errno::IO));
            }
            done += count;
        }
        Ok(bytes)
    }

    /// Fixes the size for good and forbids further seals: what [`Memfd::map`] asks for. Preservation asks for no seals.
    ///
    /// # Errors
    ///
    /// `EPERM` when it is sealed against seals already.
    #[doc(alias = "F_ADD_SEALS")]
    pub fn seal(&self) -> Result<()> {
        rustix::fs::fcntl_add_seals(
            &self.0,
            SealFlags::SEAL | SealFlags::GROW | SealFlags::SHRINK,
        )
        .map_err(|errno| Error::new("F_ADD_SEALS", errno))
    }

    /// Gives `length` bytes from `offset` on back to the system; they read as zero then. Seals do not prevent it, and
    /// what a device was given of that range is not the file's any more.
    ///
    /// # Errors
    ///
    /// `EPERM` while the file is preserved, or between its retrieve and finish.
    #[doc(alias = "FALLOC_FL_PUNCH_HOLE")]
    pub fn punch_hole(&self, offset: u64, length: u64) -> Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&self.0, flags, offset, length)
            .map_err(|errno| Error::new("FALLOC_FL_PUNCH_HOLE", errno))
    }

    /// Whether [`Memfd::seal`]'s seals are set.
    ///
    /// # Errors
    ///
    /// `EINVAL` when the file is no memfd.
    #[doc(alias = "F_GET_SEALS")]
    pub fn is_sealed(&self) -> Result<bool> {
        rustix::fs::fcntl_get_seals(&self.0)
            .map(|seals| seals.contains(SealFlags::SEAL | SealFlags::GROW | SealFlags::SHRINK))
            .map_err(|errno| Error::new("F_GET_SEALS", errno))
    }

    /// The file's length in bytes.
    ///
    /// # Errors
    ///
    /// Those of fstat(2).
    pub fn length(&self) -> Result<u64> {
        let stat = rustix::fs::fstat(&self.0).map_err(|errno| Error::new("fstat", errno))?;
        Ok(stat.st_size.unsigned_abs())
    }

    /// Maps the whole file, shared.
    ///
    /// # Errors
    ///
    /// Those of mmap(2); `EPERM` when the file is not sealed against shrinking, because accesses behind its end
    /// would end the process.
    pub fn map(&self) -> Result<Mapping> {
        if !self.is_sealed()? {
            return Err(Error::on(
                "mmap",
                "seal the memfd before it is mapped",
                Errno::PERM,
            ));
        }
        Mapping::shared(&self.0, 0, self.length()?, "memfd")
    }
}

/// For a descriptor that came from a LUO session.
impl From<OwnedFd> for Memfd {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Memfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A shared, readable and writable mapping of a memfd.
///
/// Offsets are in bytes. Reads acquire and writes release: a device's data that is read after its "done" bit is the data
/// that the bit speaks of.
///
/// # Invariants
///
/// `start` is page-aligned and `length` bytes from it on are mapped, readable and writable, until drop.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: nothing in a mapping belongs to a thread.
unsafe impl Send for Mapping {}
// SAFETY: a shared mapping is accessed by atomic operations only, or through `Registers`, which is not memory; drop
// needs it alone.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Fresh anonymous memory.
    ///
    /// # Errors
    ///
    /// Those of mmap(2); `EINVAL` for a length of 0.
    pub fn anonymous(length: u64) -> Result<Self> {
        Memfd::create("anonymous", length).and_then(|memfd| {
            memfd.seal()?;
            memfd.map()
        })
    }

    /// Maps a part of a file that can not shrink: a sealed memfd, or a VFIO region.
    pub(crate) fn shared(file: impl AsFd, offset: u64, length: u64, subject: &str) -> Result<Self> {
        let length =
            usize::try_from(length).map_err(|_| Error::on("mmap", subject, Errno::NOMEM))?;
        // SAFETY: a null address without MAP_FIXED replaces no mapping of this process.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                offset,
            )
        }
        .map_err(|errno| Error::on("mmap", subject, errno))?;
        let start =
            NonNull::new(start.cast()).ok_or_else(|| Error::on("mmap", subject, Errno::NOMEM))?;
        // INVARIANT: mmap has just mapped it so, page-aligned, and its owner unmaps it in drop only.
        Ok(Self { start, length })
    }

    /// Bytes mapped.
    pub fn length(&self) -> u64 {
        self.length as u64
    }

    /// Where it is in this process's address space.
    pub fn address(&self) -> u64 {
        self.start.as_ptr().addr() as u64
    }

    /// The place of a `T`.
    ///
    /// # Panics
    ///
    /// When the offset is not aligned or the value not within the mapping: a mistake of the program.
    fn place<T>(&self, offset: u64) -> NonNull<T> {
        let size = std::mem::size_of::<T>() as u64;
        let within = offset
            .checked_add(size)
            .is_some_and(|end| end <= self.length());
        assert!(
            within,
            "{size} bytes at {offset:#x} are not within a mapping of {:#x}",
            self.length
        );
        assert!(offset % size == 0, "{offset:#x} is not aligned to {size}");
        // CAST: less than `length`, which is a usize.
        // SAFETY: the offset is within the mapping, so the result is within one allocation.
        unsafe { self.start.add(offset as usize) }.cast()
    }

    fn u64_at(&self, offset: u64) -> &AtomicU64 {
        // SAFETY: `place` has checked bounds and alignment; the type's invariant says that it is mapped for as long as
        // `self` is borrowed. Rust code accesses it by atomics of the same or smaller width; devices, the kernel and
        // other processes are outside of Rust's memory model and see single accesses that do not tear (x86-64).
        unsafe { AtomicU64::from_ptr(self.place(offset).as_ptr()) }
    }

    fn u32_at(&self, offset: u64) -> &AtomicU32 {
        // SAFETY: as in `u64_at`.
        unsafe { AtomicU32::from_ptr(self.place(offset).as_ptr()) }
    }

    fn u8_at(&self, offset: u64) -> &AtomicU8 {
        // SAFETY: as in `u64_at`.
        unsafe { AtomicU8::from_ptr(self.place(offset).as_ptr()) }
    }

    /// Reads 8 bytes.
    ///
    /// # Panics
    ///
    /// When `offset` is not aligned or not within the mapping; this holds for all accessors.
    pub fn read_u64(&self, offset: u64) -> u64 {
        self.u64_at(offset).load(Ordering::Acquire)
    }

    /// Writes 8 bytes.
    pub fn write_u64(&self, offset: u64, value: u64) {
        self.u64_at(offset).store(value, Ordering::Release);
    }

    /// Reads 4 bytes.
    pub fn read_u32(&self, offset: u64) -> u32 {
        self.u32_at(offset).load(Ordering::Acquire)
    }

    /// Writes 4 bytes.
    pub fn write_u32(&self, offset: u64, value: u32) {
        self.u32_at(offset).store(value, Ordering::Release);
    }

    /// Copies out, by words where the offset is aligned.
    pub fn copy_out(&self, offset: u64, bytes: &mut [u8]) {
        let mut at = offset;
        let words = if offset % 8 == 0 {
            bytes.len() / 8 * 8
        } else {
            0
        };
        let (words, rest) = bytes.split_at_mut(words);
        for word in words.chunks_exact_mut(8) {
            word.copy_from_slice(&self.read_u64(at).to_ne_bytes());
            at += 8;
        }
        for byte in rest {
            *byte = self.u8_at(at).load(Ordering::Acquire);
            at += 1;
        }
    }

    /// Copies in, by words where the offset is aligned.
    pub fn copy_in(&self, offset: u64, bytes: &[u8]) {
        let mut at = offset;
        let words = if offset % 8 == 0 {
            bytes.len() / 8 * 8
        } else {
            0
        };
        let (words, rest) = bytes.split_at(words);
        for chunk in words.chunks_exact(8) {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            self.write_u64(at, u64::from_ne_bytes(word));
            at += 8;
        }
        for byte in rest {
            self.u8_at(at).store(*byte, Ordering::Release);
            at += 1;
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the type's invariant: this is exactly what was mapped, and no reference to it was ever lent.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.length) };
        debug_assert!(
            unmapped.is_ok(),
            "munmap of what mmap has mapped: {unmapped:?}"
        );
    }
}

/// A device's registers: the mapping of a region, 4 bytes at a time, in the order of the program with accesses to a
/// [`Mapping`].
///
/// # Invariants
///
/// `mapping` is reached through this alone. It is a device's region if `device` is set, else memory.
#[derive(Debug)]
pub struct Registers {
    mapping: Mapping,
    device: bool,
}

impl Registers {
    /// The registers of a device's region.
    pub(crate) fn of_region(mapping: Mapping) -> Self {
        // INVARIANT: moved in, and lent to nobody.
        Self {
            mapping,
            device: true,
        }
    }

    /// Memory in place of registers, all zero: what a driver's tests write to and look at.
    ///
    /// # Errors
    ///
    /// As [`Mapping::anonymous`].
    pub fn pretend(length: u64) -> Result<Self> {
        // INVARIANT: as in `of_region`.
        Ok(Self {
            mapping: Mapping::anonymous(length)?,
            device: false,
        })
    }

    /// Bytes mapped.
    pub fn length(&self) -> u64 {
        self.mapping.length()
    }

    /// Reads a register.
    ///
    /// # Panics
    ///
    /// When `offset` is not aligned or not within the region.
    pub fn read(&self, offset: u64) -> u32 {
        if !self.device {
            return self.mapping.read_u32(offset);
        }
        // SAFETY: `place` has checked bounds and alignment, it is mapped for as long as `self` is there, and by the
        // invariant it is outside of Rust's memory model.
        let value = unsafe { self.mapping.place::<u32>(offset).read_volatile() };
        // What the register tells about memory is read after it.
        fence(Ordering::Acquire);
        value
    }

    /// Writes a register.
    ///
    /// # Panics
    ///
    /// As [`Registers::read`].
    pub fn write(&self, offset: u64, value: u32) {
        if !self.device {
            return self.mapping.write_u32(offset, value);
        }
        // What the device is told to look at has been written before.
        fence(Ordering::Release);
        // SAFETY: as in `read`.
        unsafe { self.mapping.place::<u32>(offset).write_volatile(value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(length: u64) -> Mapping {
        Mapping::anonymous(length).expect("memory")
    }

    #[test]
    fn what_is_copied_in_is_copied_out_at_any_offset() {
        let mapping = memory(4096);
        let bytes: Vec<u8> = (0..41).collect();
        for offset in [0, 1, 7, 8, 13, 4096 - 41] {
            mapping.copy_in(offset, &bytes);
            let mut back = vec![0; bytes.len()];
            mapping.copy_out(offset, &mut back);
            assert_eq!(back, bytes);
        }
    }

    #[test]
    fn two_mappings_of_a_memfd_see_one_another() {
        let memfd = Memfd::create("test", 8192).expect("a memfd");
        memfd.seal().expect("seals");
        let (one, other) = (
            memfd.map().expect("a mapping"),
            memfd.map().expect("another"),
        );
        one.write_u32(4096, 7);
        assert_eq!(other.read_u64(4096), 7);
        assert_eq!((one.length(), memfd.length()), (8192, Ok(8192)));
    }

    #[test]
    fn content_is_read_back_and_cannot_be_changed() {
        let bytes: Vec<u8> = (0..=255).cycle().take(9001).collect();
        let memfd = Memfd::with_content("test", &bytes).expect("a memfd");
        assert_eq!(memfd.content(9001).expect("the content"), bytes);
        assert_eq!(memfd.content(9000).unwrap_err().errno, Errno::FBIG);
        assert_eq!(rustix::io::pwrite(&memfd, b"x", 0), Err(Errno::PERM));
        assert_eq!(memfd.is_sealed(), Ok(true));
    }

    #[test]
    fn a_sealed_memfd_keeps_its_size_and_its_seals() {
        let memfd = Memfd::create("test", 4096).expect("a memfd");
        assert_eq!(memfd.is_sealed(), Ok(false));
        assert_eq!(memfd.map().map(|_| ()).unwrap_err().errno, Errno::PERM);
        memfd.seal().expect("seals");
        assert_eq!(memfd.is_sealed(), Ok(true));
        assert_eq!(rustix::fs::ftruncate(&memfd, 0), Err(Errno::PERM));
        assert_eq!(memfd.seal().unwrap_err().errno, Errno::PERM);
    }

    #[test]
    #[should_panic(expected = "not within")]
    fn the_end_is_checked() {
        memory(4096).read_u64(4096);
    }

    #[test]
    #[should_panic(expected = "not within")]
    fn an_offset_that_wraps_is_checked() {
        memory(4096).read_u64(u64::MAX - 7);
    }

    #[test]
    #[should_panic(expected = "not aligned")]
    fn the_alignment_is_checked() {
        memory(4096).read_u32(2);
    }
}
