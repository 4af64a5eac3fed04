// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine's memory, read from outside through the file behind it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// q35 puts memory below 4 GiB up to here, when there is no more than this.
const LOW_LIMIT: u64 = 0xb000_0000;
/// With more memory than that, only so much is below 4 GiB.
const LOW_SPLIT: u64 = 0x8000_0000;
/// Where the rest goes on.
const HIGH: u64 = 1 << 32;

/// A machine's memory. Reading does not disturb the machine.
#[derive(Clone, Debug)]
pub(crate) struct Ram {
    file: Arc<File>,
    size: u64,
}

impl Ram {
    /// The memory of `size` bytes in `file`.
    pub(crate) fn new(file: File, size: u64) -> Self {
        Self {
            file: Arc::new(file),
            size,
        }
    }

    /// Bytes.
    pub(crate) fn size(&self) -> u64 {
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
    pub(crate) fn physical(&self, offset: u64) -> u64 {
        if self.size >= LOW_LIMIT && offset >= LOW_SPLIT {
            offset - LOW_SPLIT + HIGH
        } else {
            offset
        }
    }

    /// Reads from a guest-physical address on, within one page.
    ///
    /// # Errors
    ///
    /// The address is not memory, or the file can not be read.
    pub(crate) fn read(&self, physical: u64, bytes: &mut [u8]) -> io::Result<()> {
        let offset = self.offset(physical).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{physical:#x} is not an address in the machine's memory"),
            )
        })?;
        self.file.read_exact_at(bytes, offset)
    }

    /// Reads a piece of the file for a search; returns fewer bytes only at the end.
    ///
    /// # Errors
    ///
    /// The file can not be read.
    pub(crate) fn piece(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
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
