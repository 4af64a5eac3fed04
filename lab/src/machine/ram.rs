// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine's memory, seen from outside through the file behind it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use hitless_proto::layout::PAGE;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// q35 puts memory below 4 GiB up to here, when there is no more than this.
const LOW_LIMIT: u64 = 0xb000_0000;
/// With more memory than that, only so much is below 4 GiB.
const LOW_SPLIT: u64 = 0x8000_0000;
/// Where the rest goes on.
const HIGH: u64 = 1 << 32;

/// A machine's memory. Reading does not disturb the machine.
#[derive(Clone, Debug)]
pub struct Ram {
    file: Arc<File>,
    size: u64,
}

impl Ram {
    /// The memory of `size` bytes in `file`.
    pub fn new(file: File, size: u64) -> Self {
        Self {
            file: Arc::new(file),
            size,
        }
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where the byte at a guest-physical address is in the file.
    fn offset(&self, physical: u64) -> Option<u64> {
        let low = if self.size >= LOW_LIMIT {
            LOW_SPLIT
        } else {
            self.size
        };
        if physical < low {
            return Some(physical);
        }
        let high = physical.checked_sub(HIGH)?;
        (high < self.size - low).then(|| low + high)
    }

    /// Guest-physical address of a byte of the file.
    pub fn physical(&self, offset: u64) -> u64 {
        if self.size >= LOW_LIMIT && offset >= LOW_SPLIT {
            offset - LOW_SPLIT + HIGH
        } else {
            offset
        }
    }

    fn known(&self, physical: u64) -> io::Result<u64> {
        self.offset(physical).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{physical:#x} is not an address in the machine's memory"),
            )
        })
    }

    /// Reads from a guest-physical address on, within one page.
    pub fn read(&self, physical: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, self.known(physical)?)
    }

    /// Writes to memory that the machine has been told to leave alone.
    pub fn write(&self, physical: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.known(physical)?)
    }

    /// The first byte of the file from `offset` on that was ever written, rounded down to a page: before it there are only
    /// zeros that take no memory. The end of the file where there is none.
    pub fn written_from(&self, offset: u64) -> io::Result<u64> {
        match rustix::fs::seek(&*self.file, SeekFrom::Data(offset)) {
            Ok(data) => Ok(data / PAGE * PAGE),
            Err(Errno::NXIO) => Ok(self.size),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reads a piece of the file for a search; returns fewer bytes only at the end.
    pub fn piece(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = left.min(bytes.len());
        self.file.read_exact_at(&mut bytes[..count], offset)?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_written_is_passed_over() {
        let file = tempfile::tempfile_in("/dev/shm").expect("a file");
        file.set_len(8 << 20).expect("a size");
        file.write_all_at(&[1], (5 << 20) + 7).expect("written");
        let ram = Ram::new(file, 8 << 20);
        assert_eq!(ram.written_from(0).expect("asked"), 5 << 20);
        let end = ram.written_from((5 << 20) + PAGE).expect("asked");
        assert_eq!(end, 8 << 20);
    }

    #[test]
    fn the_hole_below_four_gib_is_left_out() {
        let file = || tempfile::tempfile().expect("a file");
        let small = Ram::new(file(), 2 << 30);
        assert_eq!(small.offset((2 << 30) - 1), Some((2 << 30) - 1));
        assert_eq!(small.offset(2 << 30), None);
        assert_eq!(small.offset(4 << 30), None);
        let big = Ram::new(file(), 4 << 30);
        assert_eq!(big.offset(LOW_SPLIT), None);
        assert_eq!(big.offset(HIGH + 5), Some(LOW_SPLIT + 5));
        assert_eq!(big.physical(LOW_SPLIT + 5), HIGH + 5);
        assert_eq!(big.offset(6 << 30), None);
    }
}
