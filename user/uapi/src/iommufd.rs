// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `/dev/iommu` (include/uapi/linux/iommufd.h), with the calls of this project: mark, restore, mappings and what can be done.
#![expect(
    unsafe_code,
    reason = "says which structure belongs to which ioctl number"
)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use iommufd_bindings::iommufd::{
    iommu_destroy, iommu_hw_info, iommu_hw_info__bindgen_ty_1, iommu_hwpt_alloc, iommu_ioas_alloc,
    iommu_ioas_map, iommu_ioas_map_file, iommu_ioas_unmap, iommu_option,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA as FIXED_IOVA,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE as READABLE,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE as WRITEABLE,
};
use rustix::fs::{Mode, OFlags};

use crate::error::{Error, Result};
use crate::ioctl::{self, arguments, size_of, Argument};
use crate::memory::Mapping;

const TYPE: u8 = b';';

/// An I/O address space's id in its iommufd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IoasId(pub u32);

/// A page table's id in its iommufd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HwptId(pub u32);

/// A bound device's id in its iommufd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceId(pub u32);

/// Any object that [`Iommufd::destroy`] takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectId(pub u32);

impl From<IoasId> for ObjectId {
    fn from(id: IoasId) -> Self {
        Self(id.0)
    }
}

impl From<HwptId> for ObjectId {
    fn from(id: HwptId) -> Self {
        Self(id.0)
    }
}

/// Mark a HWPT, so that preserving the iommufd preserves it.
#[repr(C)]
struct HwptMarkPreserve {
    size: u32,
    hwpt_id: u32,
    hwpt_token: u64,
    flags: u32,
    __reserved: u32,
}

/// Restore a HWPT by its token.
#[repr(C)]
struct HwptRestore {
    size: u32,
    pt_id: u32,
    hwpt_token: u64,
    hwpt_alloc_flags: u32,
    __reserved: u32,
}

/// One mapping of a restored HWPT, as the kernel writes it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawMapping {
    iova: u64,
    length: u64,
    offset: u64,
    memory_token: u64,
    flags: u32,
    __reserved: u32,
}

/// List the mappings of a restored HWPT.
#[repr(C)]
struct HwptMappings {
    size: u32,
    flags: u32,
    hwpt_id: u32,
    count: u32,
    index: u64,
    mappings_uptr: u64,
    total: u64,
    entry_size: u32,
    __reserved: u32,
}

/// `IOMMU_OPTION_LIVEUPDATE`.
const OPTION_LIVEUPDATE: u32 = 0x100;
/// `IOMMU_OPTION_OP_GET`.
const OPTION_OP_GET: u16 = 1;
/// Mappings that one call lists.
const MAPPINGS: usize = 64;

/// One mapping of a memory file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMapping {
    /// First I/O virtual address.
    pub iova: u64,
    /// Length in bytes.
    pub length: u64,
    /// Where it begins in the memory file, in bytes.
    pub offset: u64,
    /// The token that the memory file has in the session; of no meaning where a mapping is made.
    pub memory_token: u64,
    /// The device may read.
    pub readable: bool,
    /// The device may write.
    pub writeable: bool,
}

/// What of live update a kernel can do for an iommufd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(u64);

impl Features {
    /// HWPTs can be preserved, and devices that run on them.
    pub const fn preserve(self) -> bool {
        self.0 & 1 != 0
    }

    /// A device can be bound before its HWPT is restored.
    pub const fn bind_first(self) -> bool {
        self.0 & 2 != 0
    }

    /// The mappings of a restored HWPT can be listed.
    pub const fn mappings(self) -> bool {
        self.0 & 4 != 0
    }
}

/// A call that [`Iommufd::raw`] makes.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawCall {
    /// `IOMMU_DESTROY`.
    Destroy,
    /// `IOMMU_OPTION`.
    Option,
    /// `IOMMU_IOAS_CHANGE_PROCESS`.
    ChangeProcess,
    /// `IOMMU_HWPT_LIVEUPDATE_MARK_PRESERVE`.
    Mark,
    /// `IOMMU_HWPT_LIVEUPDATE_RESTORE`.
    Restore,
    /// `IOMMU_HWPT_LIVEUPDATE_MAPPINGS`. The pointer is null whatever the fields say.
    Mappings,
}

/// Words of a raw call: more than any of its structures has.
const RAW_WORDS: usize = 16;

/// Words in the place of a structure.
#[repr(C)]
struct Raw<const COMMAND: u8>([u32; RAW_WORDS]);

// SAFETY: iommufd.h pairs each structure with its number. The kernel touches at most `size` bytes, which this module
// sets to the structure's own, or less. All fields are integers; where one is a pointer, this module sets it to null,
// to a mapping or to an array that is borrowed for the call and has as many entries as the structure says.
arguments! { unsafe TYPE;
    iommu_destroy, 0x80, "IOMMU_DESTROY";
    iommu_ioas_alloc, 0x81, "IOMMU_IOAS_ALLOC";
    iommu_ioas_map, 0x85, "IOMMU_IOAS_MAP";
    iommu_ioas_unmap, 0x86, "IOMMU_IOAS_UNMAP";
    iommu_hwpt_alloc, 0x89, "IOMMU_HWPT_ALLOC";
    iommu_hw_info, 0x8a, "IOMMU_GET_HW_INFO";
    iommu_ioas_map_file, 0x8f, "IOMMU_IOAS_MAP_FILE";
    HwptMarkPreserve, 0x96, "IOMMU_HWPT_LIVEUPDATE_MARK_PRESERVE";
    HwptRestore, 0x97, "IOMMU_HWPT_LIVEUPDATE_RESTORE";
    HwptMappings, 0x98, "IOMMU_HWPT_LIVEUPDATE_MAPPINGS";
    iommu_option, 0x87, "IOMMU_OPTION";
    Raw<0x80>, 0x80, "IOMMU_DESTROY";
    Raw<0x87>, 0x87, "IOMMU_OPTION";
    Raw<0x92>, 0x92, "IOMMU_IOAS_CHANGE_PROCESS";
    Raw<0x96>, 0x96, "IOMMU_HWPT_LIVEUPDATE_MARK_PRESERVE";
    Raw<0x97>, 0x97, "IOMMU_HWPT_LIVEUPDATE_RESTORE";
    Raw<0x98>, 0x98, "IOMMU_HWPT_LIVEUPDATE_MAPPINGS";
}

/// An iommufd.
#[derive(Debug)]
pub struct Iommufd(OwnedFd);

impl Iommufd {
    /// Opens `/dev/iommu`.
    ///
    /// # Errors
    ///
    /// Those of open(2).
    pub fn open() -> Result<Self> {
        const PATH: &str = "/dev/iommu";
        rustix::fs::open(PATH, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map(Self)
            .map_err(|errno| Error::on("open", PATH, errno))
    }

    /// A new, empty I/O address space.
    ///
    /// # Errors
    ///
    /// Those of the call.
    #[doc(alias = "IOMMU_IOAS_ALLOC")]
    pub fn ioas_alloc(&self) -> Result<IoasId> {
        let mut argument = iommu_ioas_alloc {
            size: size_of::<iommu_ioas_alloc>(),
            ..Default::default()
        };
        ioctl::call(&self.0, &mut argument)?;
        Ok(IoasId(argument.out_ioas_id))
    }

    /// Maps `length` bytes of a file, from `start` on, at `iova`, for reading and writing. Only mappings of memfds let
    /// a HWPT of this address space be preserved.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a file that is no memfd or an address that is not page-aligned, `EEXIST` when something is
    /// mapped there.
    #[doc(alias = "IOMMU_IOAS_MAP_FILE")]
    pub fn map_file(
        &self,
        ioas: IoasId,
        file: impl AsFd,
        start: u64,
        length: u64,
        iova: u64,
    ) -> Result<()> {
        let mapping = FileMapping {
            iova,
            length,
            offset: start,
            memory_token: 0,
            readable: true,
            writeable: true,
        };
        self.map_file_as(ioas, file, &mapping)
    }

    /// Maps a part of a file as a mapping says, for example one of a restored page table.
    ///
    /// # Errors
    ///
    /// As [`Iommufd::map_file`].
    pub fn map_file_as(&self, ioas: IoasId, file: impl AsFd, mapping: &FileMapping) -> Result<()> {
        let flag = |wanted, flag| if wanted { flag } else { 0 };
        ioctl::call(
            &self.0,
            &mut iommu_ioas_map_file {
                size: size_of::<iommu_ioas_map_file>(),
                flags: FIXED_IOVA
                    | flag(mapping.readable, READABLE)
                    | flag(mapping.writeable, WRITEABLE),
                ioas_id: ioas.0,
                fd: file.as_fd().as_raw_fd(),
                start: mapping.offset,
                length: mapping.length,
                iova: mapping.iova,
            },
        )
    }

    /// Maps this process's memory at `iova`, for reading and writing. The kernel pins the pages, so a device may go
    /// on writing to them after the mapping here is gone.
    ///
    /// # Errors
    ///
    /// `EINVAL` for an address that is not page-aligned, `EEXIST` when something is mapped there.
    #[doc(alias = "IOMMU_IOAS_MAP")]
    pub fn map(&self, ioas: IoasId, memory: &Mapping, iova: u64) -> Result<()> {
        ioctl::call(
            &self.0,
            &mut iommu_ioas_map {
                size: size_of::<iommu_ioas_map>(),
                flags: FIXED_IOVA | WRITEABLE | READABLE,
                ioas_id: ioas.0,
                user_va: memory.address(),
                length: memory.length(),
                iova,
                ..Default::default()
            },
        )
    }

    /// Unmaps; returns how many bytes were mapped there.
    ///
    /// # Errors
    ///
    /// `ENOENT` when nothing is mapped there, or only a part of a mapping.
    #[doc(alias = "IOMMU_IOAS_UNMAP")]
    pub fn unmap(&self, ioas: IoasId, iova: u64, length: u64) -> Result<u64> {
        let mut argument = iommu_ioas_unmap {
            size: size_of::<iommu_ioas_unmap>(),
            ioas_id: ioas.0,
            iova,
            length,
        };
        ioctl::call(&self.0, &mut argument)?;
        Ok(argument.length)
    }

    /// A page table with the mappings of an address space, in the format that the device's IOMMU wants.
    ///
    /// # Errors
    ///
    /// `ENOENT` for ids that are not of this iommufd; and what the IOMMU driver refuses with.
    #[doc(alias = "IOMMU_HWPT_ALLOC")]
    pub fn hwpt_alloc(&self, device: DeviceId, ioas: IoasId) -> Result<HwptId> {
        let mut argument = iommu_hwpt_alloc {
            size: size_of::<iommu_hwpt_alloc>(),
            dev_id: device.0,
            pt_id: ioas.0,
            ..Default::default()
        };
        ioctl::call(&self.0, &mut argument)?;
        Ok(HwptId(argument.out_hwpt_id))
    }

    /// Whether this is the id of a device that is bound to this iommufd.
    ///
    /// # Errors
    ///
    /// Those of the call, but for the one that says that there is no such device.
    #[doc(alias = "IOMMU_GET_HW_INFO")]
    pub fn has_device(&self, device: DeviceId) -> Result<bool> {
        let mut argument = iommu_hw_info {
            size: size_of::<iommu_hw_info>(),
            flags: 0,
            dev_id: device.0,
            data_len: 0,
            data_uptr: 0,
            __bindgen_anon_1: iommu_hw_info__bindgen_ty_1 { in_data_type: 0 },
            out_max_pasid_log2: 0,
            __reserved: [0; 3],
            out_capabilities: 0,
        };
        match ioctl::call(&self.0, &mut argument) {
            Ok(()) => Ok(true),
            Err(error) if error.errno == rustix::io::Errno::NOENT => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Destroys an object.
    ///
    /// # Errors
    ///
    /// `EBUSY` while it is used, `ENOENT` when there is none.
    #[doc(alias = "IOMMU_DESTROY")]
    pub fn destroy(&self, object: impl Into<ObjectId>) -> Result<()> {
        let id = object.into().0;
        ioctl::call(
            &self.0,
            &mut iommu_destroy {
                size: size_of::<iommu_destroy>(),
                id,
            },
        )
    }

    /// Marks a page table to be preserved with this iommufd, under a token of the caller's choice.
    ///
    /// # Errors
    ///
    /// `EADDRINUSE` when the token is taken in this iommufd, `EBUSY` when the page table is marked already (a mark
    /// can not be taken back, and outlives a session that is closed), `ENOTTY` on a kernel without hitless.
    #[doc(alias = "IOMMU_HWPT_LIVEUPDATE_MARK_PRESERVE")]
    pub fn hwpt_liveupdate_mark_preserve(&self, hwpt: HwptId, token: u64) -> Result<()> {
        ioctl::call(
            &self.0,
            &mut HwptMarkPreserve {
                size: size_of::<HwptMarkPreserve>(),
                hwpt_id: hwpt.0,
                hwpt_token: token,
                flags: 0,
                __reserved: 0,
            },
        )
    }

    /// What of live update this kernel can do for an iommufd; nothing on a kernel without hitless.
    ///
    /// # Errors
    ///
    /// Those of the call, but for the one that a kernel without hitless gives.
    #[doc(alias = "IOMMU_OPTION_LIVEUPDATE")]
    pub fn features(&self) -> Result<Features> {
        let mut argument = iommu_option {
            size: size_of::<iommu_option>(),
            option_id: OPTION_LIVEUPDATE,
            op: OPTION_OP_GET,
            ..Default::default()
        };
        match ioctl::call(&self.0, &mut argument) {
            Ok(()) => Ok(Features(argument.val64)),
            Err(error) if error.errno == rustix::io::Errno::OPNOTSUPP => Ok(Features::default()),
            Err(error) => Err(error),
        }
    }

    /// What a restored page table maps, in the order of addresses: with these mappings another one can be built that
    /// takes its place.
    ///
    /// # Errors
    ///
    /// `ENOENT` when it is not a restored one.
    #[doc(alias = "IOMMU_HWPT_LIVEUPDATE_MAPPINGS")]
    pub fn hwpt_liveupdate_mappings(&self, hwpt: HwptId) -> Result<Vec<FileMapping>> {
        let mut found = Vec::new();
        loop {
            let mut page = [RawMapping::default(); MAPPINGS];
            let mut argument = HwptMappings {
                size: size_of::<HwptMappings>(),
                flags: 0,
                hwpt_id: hwpt.0,
                // CAST: a small constant.
                count: MAPPINGS as u32,
                index: found.len() as u64,
                mappings_uptr: page.as_mut_ptr().expose_provenance() as u64,
                total: 0,
                entry_size: size_of::<RawMapping>(),
                __reserved: 0,
            };
            ioctl::call(&self.0, &mut argument)?;
            let written = page.iter().take(argument.count as usize);
            found.extend(written.map(|mapping| FileMapping {
                iova: mapping.iova,
                length: mapping.length,
                offset: mapping.offset,
                memory_token: mapping.memory_token,
                readable: mapping.flags & READABLE != 0,
                writeable: mapping.flags & WRITEABLE != 0,
            }));
            if argument.count == 0 || found.len() as u64 >= argument.total {
                return Ok(found);
            }
        }
    }

    /// Makes a call field by field, to see what the kernel says of fields that no other call here sets. `fields` are
    /// the words of the structure from its second one on; how many they are makes its size. Returns the words that the
    /// kernel leaves, without the size.
    ///
    /// # Errors
    ///
    /// Those of the call.
    ///
    /// # Panics
    ///
    /// When there are more fields than any structure has: a mistake of the program.
    #[doc(hidden)]
    pub fn raw(&self, call: RawCall, fields: &[u32]) -> Result<Vec<u32>> {
        /// Where the pointer of `HwptMappings` is, in words.
        const POINTER: usize = std::mem::offset_of!(HwptMappings, mappings_uptr) / 4;

        let length = fields.len() + 1;
        let mut words = [0; RAW_WORDS];
        words[1..length].copy_from_slice(fields);
        // CAST: a small constant at most, or the line above panics.
        words[0] = 4 * length as u32;
        match call {
            RawCall::Destroy => self.raw_words::<0x80>(&mut words)?,
            RawCall::Option => self.raw_words::<0x87>(&mut words)?,
            RawCall::ChangeProcess => self.raw_words::<0x92>(&mut words)?,
            RawCall::Mark => self.raw_words::<0x96>(&mut words)?,
            RawCall::Restore => self.raw_words::<0x97>(&mut words)?,
            RawCall::Mappings => {
                words[POINTER..POINTER + 2].fill(0);
                self.raw_words::<0x98>(&mut words)?;
            }
        }
        Ok(words[1..length].to_vec())
    }

    fn raw_words<const COMMAND: u8>(&self, words: &mut [u32; RAW_WORDS]) -> Result<()>
    where
        Raw<COMMAND>: Argument,
    {
        let mut raw = Raw(*words);
        ioctl::call(&self.0, &mut raw)?;
        *words = raw.0;
        Ok(())
    }

    /// The page table that was marked with this token before the jump. It is immutable: it can only be swapped for
    /// another one and destroyed.
    ///
    /// # Errors
    ///
    /// `ENOENT` when there is no such token, `EEXIST` when it has been restored already, `ENOTTY` when this iommufd
    /// was not retrieved or on a kernel without hitless.
    #[doc(alias = "IOMMU_HWPT_LIVEUPDATE_RESTORE")]
    pub fn hwpt_liveupdate_restore(&self, token: u64) -> Result<HwptId> {
        let mut argument = HwptRestore {
            size: size_of::<HwptRestore>(),
            pt_id: 0,
            hwpt_token: token,
            hwpt_alloc_flags: 0,
            __reserved: 0,
        };
        ioctl::call(&self.0, &mut argument)?;
        Ok(HwptId(argument.pt_id))
    }
}

/// For a descriptor that came from a LUO session. One of another kind answers `ENOTTY` to every call.
impl From<OwnedFd> for Iommufd {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Iommufd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What the headers test compares.
#[cfg(test)]
pub(crate) mod layouts {
    use super::*;
    use crate::layouts::{layout, Layout};

    pub(crate) fn all() -> Vec<Layout> {
        vec![
            layout!(iommu_destroy, "iommu_destroy", "IOMMU_DESTROY", [size, id]),
            layout!(
                iommu_ioas_alloc,
                "iommu_ioas_alloc",
                "IOMMU_IOAS_ALLOC",
                [size, flags, out_ioas_id]
            ),
            layout!(
                iommu_ioas_map,
                "iommu_ioas_map",
                "IOMMU_IOAS_MAP",
                [size, flags, ioas_id, user_va, length, iova]
            ),
            layout!(
                iommu_ioas_unmap,
                "iommu_ioas_unmap",
                "IOMMU_IOAS_UNMAP",
                [size, ioas_id, iova, length]
            ),
            layout!(
                iommu_hwpt_alloc,
                "iommu_hwpt_alloc",
                "IOMMU_HWPT_ALLOC",
                [
                    size,
                    flags,
                    dev_id,
                    pt_id,
                    out_hwpt_id,
                    data_type,
                    data_len,
                    data_uptr,
                    fault_id
                ]
            ),
            layout!(
                iommu_ioas_map_file,
                "iommu_ioas_map_file",
                "IOMMU_IOAS_MAP_FILE",
                [size, flags, ioas_id, fd, start, length, iova]
            ),
            layout!(
                iommu_hw_info,
                "iommu_hw_info",
                "IOMMU_GET_HW_INFO",
                [
                    size,
                    flags,
                    dev_id,
                    data_len,
                    data_uptr,
                    out_max_pasid_log2,
                    __reserved,
                    out_capabilities
                ]
            ),
            layout!(
                HwptMarkPreserve,
                "iommu_hwpt_liveupdate_mark_preserve",
                "IOMMU_HWPT_LIVEUPDATE_MARK_PRESERVE",
                [size, hwpt_id, hwpt_token, flags, __reserved]
            ),
            layout!(
                HwptRestore,
                "iommu_hwpt_liveupdate_restore",
                "IOMMU_HWPT_LIVEUPDATE_RESTORE",
                [size, pt_id, hwpt_token, hwpt_alloc_flags, __reserved]
            ),
            layout!(
                HwptMappings,
                "iommu_hwpt_liveupdate_mappings",
                "IOMMU_HWPT_LIVEUPDATE_MAPPINGS",
                [
                    size,
                    flags,
                    hwpt_id,
                    count,
                    index,
                    mappings_uptr,
                    total,
                    entry_size,
                    __reserved
                ]
            ),
            layout!(
                iommu_option,
                "iommu_option",
                "IOMMU_OPTION",
                [size, option_id, op, __reserved, object_id, val64]
            ),
        ]
    }
}
