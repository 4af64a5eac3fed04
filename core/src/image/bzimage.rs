// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Finds the record in a bzImage (Documentation/arch/x86/boot.rst: "The Real-Mode Kernel Header", "The kernel_info").

use core::ops::RangeInclusive;

use zerocopy::FromBytes;

use crate::abi::image::{ImageSer, MAGIC, VERSION};

/// Bytes of a sector.
const SECTOR: usize = 512;
/// Where the number of sectors of set-up code stands; 0 means 4.
const SETUP_SECTS: usize = 0x1f1;
/// Where the header's magic number stands, and what it is.
const HEADER: usize = 0x202;
const HEADER_MAGIC: [u8; 4] = *b"HdrS";
/// Where the version of the boot protocol stands, and the first that has `kernel_info`.
const PROTOCOL: usize = 0x206;
const WITH_KERNEL_INFO: u16 = 0x20f;
/// Where the offset of `kernel_info` stands, counted from the end of the set-up code.
const KERNEL_INFO_OFFSET: usize = 0x268;
/// How `kernel_info` begins; the size of its fixed part and its whole size follow.
const KERNEL_INFO_MAGIC: [u8; 4] = *b"LToP";

/// What the kernel in an image can take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageRecord {
    oldest: u16,
    newest: u16,
    /// Features that it takes over (`ImageSer::takes`).
    pub takes: u64,
    /// Features that what is handed over to it must have.
    pub needs: u64,
    /// `DEFAULT_HANDOVER`, `DEFAULT_IOMMU` of [`abi::image`](crate::abi::image).
    pub defaults: u32,
}

impl ImageRecord {
    /// The handover formats that it takes over.
    pub const fn formats(&self) -> RangeInclusive<u16> {
        self.oldest..=self.newest
    }
}

/// What an image says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// Nothing: it is a kernel without hitless, or no bzImage.
    Nothing,
    /// Something that is not understood here.
    Unknown,
    /// What it can take over.
    Record(ImageRecord),
}

fn bytes<const N: usize>(image: &[u8], at: usize) -> Option<[u8; N]> {
    let field = image.get(at..at.checked_add(N)?)?;
    field.try_into().ok()
}

fn size(image: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes(image, at)?)).ok()
}

/// The variable part of `kernel_info`.
fn variable_part(image: &[u8]) -> Option<&[u8]> {
    if bytes(image, HEADER)? != HEADER_MAGIC
        || u16::from_le_bytes(bytes(image, PROTOCOL)?) < WITH_KERNEL_INFO
    {
        return None;
    }
    let sectors = match image.get(SETUP_SECTS)? {
        0 => 4,
        sectors => usize::from(*sectors),
    };
    let code = sectors.checked_add(1)?.checked_mul(SECTOR)?;
    let info = code.checked_add(size(image, KERNEL_INFO_OFFSET)?)?;
    if bytes(image, info)? != KERNEL_INFO_MAGIC {
        return None;
    }
    let fixed = size(image, info.checked_add(4)?)?;
    let whole = size(image, info.checked_add(8)?)?;
    image.get(info.checked_add(fixed)?..info.checked_add(whole)?)
}

/// Reads what an image, of which no byte is trusted, says of itself.
pub fn read(image: &[u8]) -> Says {
    let Some(mut rest) = variable_part(image) else {
        return Says::Nothing;
    };
    // Each piece begins with its own magic number and its size, these two included.
    while let (Some(magic), Some(length)) = (bytes(rest, 0), size(rest, 4)) {
        if magic == MAGIC {
            return rest.get(..length).map_or(Says::Unknown, record);
        }
        match rest.get(length..) {
            Some(next) if length >= 8 => rest = next,
            _ => return Says::Nothing,
        }
    }
    Says::Nothing
}

fn record(bytes: &[u8]) -> Says {
    match ImageSer::ref_from_prefix(bytes) {
        Ok((ser, _)) if ser.version.get() == VERSION => Says::Record(ImageRecord {
            oldest: ser.oldest.get(),
            newest: ser.newest.get(),
            takes: ser.takes.get(),
            needs: ser.needs.get(),
            defaults: ser.defaults.get(),
        }),
        _ => Says::Unknown,
    }
}
