// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine's memory, seen from outside through the file behind it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use hitless_proto::layout::PAGE;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// q35 puts memory below 4 GiB up to here, when there is no more than this. A machine with more has it in two parts.
pub const MOST_MIB: u64 = 0xb000_0000 >> 20;

/// A machine's memory: a guest-physical address is an offset in its file. Reading does not disturb the machine.
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

    /// Reads from a guest-physical address on, within one page.
    pub fn read(&self, physical: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, physical)
    }

    /// Writes to memory that the machine has been told to leave alone.
    pub fn write(&self, physical: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, physical)
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
        self.file.read_at(bytes, offset)
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
}
