// SPDX-License-Identifier: Apache-2.0 OR MIT
//! VFIO device files: `/dev/vfio/devices/vfioN` (include/uapi/linux/vfio.h).
#![expect(
    unsafe_code,
    reason = "says which structure belongs to which ioctl number"
)]

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use vfio_bindings::bindings::vfio::{
    vfio_device_attach_iommufd_pt, vfio_device_bind_iommufd, vfio_device_detach_iommufd_pt,
    vfio_device_info, vfio_region_info, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_REGION_INFO_FLAG_MMAP,
};

use crate::error::{Error, Result};
use crate::ioctl::{self, arguments, size_of, Argument};
use crate::iommufd::{DeviceId, HwptId, Iommufd};
use crate::memory::{Mapping, Registers};

const TYPE: u8 = b';';
/// The first command number of VFIO.
const BASE: u8 = 100;
/// Most interrupt vectors that one call sets: as many as MSI-X has (PCI Local Bus Specification 3.0, 6.8.2).
pub const MAX_VECTORS: usize = 2048;

/// `struct vfio_irq_set` with room for its data.
#[repr(C)]
struct IrqSet {
    argsz: u32,
    flags: u32,
    index: u32,
    start: u32,
    count: u32,
    data: [i32; MAX_VECTORS],
}

/// `VFIO_DEVICE_RESET` has no structure; the kernel ignores the pointer.
#[repr(C)]
struct Reset;

// SAFETY: vfio.h pairs each structure with its number, and no structure with that of the reset. The kernel touches at
// most `argsz` bytes, which this module sets to no more than the structure has. All fields are integers; where one is
// a pointer, this module sets it to null.
arguments! { unsafe TYPE;
    vfio_device_info, BASE + 7, "VFIO_DEVICE_GET_INFO";
    vfio_region_info, BASE + 8, "VFIO_DEVICE_GET_REGION_INFO";
    IrqSet, BASE + 10, "VFIO_DEVICE_SET_IRQS";
    Reset, BASE + 11, "VFIO_DEVICE_RESET";
    vfio_device_bind_iommufd, BASE + 18, "VFIO_DEVICE_BIND_IOMMUFD";
    vfio_device_attach_iommufd_pt, BASE + 19, "VFIO_DEVICE_ATTACH_IOMMUFD_PT";
    vfio_device_detach_iommufd_pt, BASE + 20, "VFIO_DEVICE_DETACH_IOMMUFD_PT";
}

/// One of a PCI device's regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Bytes; 0 when the device has no such region.
    pub size: u64,
    /// Where it is in the device file.
    pub offset: u64,
    /// It can be mapped.
    pub mappable: bool,
}

/// What `VFIO_DEVICE_GET_INFO` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// `VFIO_DEVICE_FLAGS_*`.
    pub flags: u32,
    /// Regions.
    pub regions: u32,
    /// Kinds of interrupts.
    pub irqs: u32,
}

/// A kind of interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Irq {
    /// The interrupt pin.
    Intx = 0,
    /// MSI.
    Msi = 1,
    /// MSI-X.
    Msix = 2,
}

/// What the host tells the user of a device, by way of an eventfd as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Notice {
    /// The device reported an error that is not corrected.
    Error = 3,
    /// The host wants the device back.
    Request = 4,
}

/// A VFIO device file. Before it is bound to an iommufd it answers no call but the bind.
#[derive(Debug)]
pub struct VfioDevice(OwnedFd);

impl VfioDevice {
    /// The device file of a PCI function (`0000:01:00.0`) that is bound to a VFIO driver.
    ///
    /// # Errors
    ///
    /// `ENOENT` when there is no such function or no VFIO driver is bound to it.
    pub fn path(bdf: &str) -> Result<PathBuf> {
        let folder = format!("/sys/bus/pci/devices/{bdf}/vfio-dev");
        let name = fs::read_dir(&folder)
            .map_err(|error| Error::from_io("readdir", &folder, &error))?
            .flatten()
            .map(|entry| entry.file_name())
            .next()
            .ok_or_else(|| Error::on("readdir", folder, Errno::NOENT))?;
        Ok(Path::new("/dev/vfio/devices").join(name))
    }

    /// Opens the device file of a PCI function.
    ///
    /// # Errors
    ///
    /// Those of [`VfioDevice::path`] and of open(2); `EBUSY` when the device is incoming, so that only its LUO
    /// session may hand it out.
    pub fn open(bdf: &str) -> Result<Self> {
        let path = Self::path(bdf)?;
        rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map(Self)
            .map_err(|errno| Error::on("open", path.display().to_string(), errno))
    }

    /// Binds to an iommufd, and opens the device: it is reset, unless it came through an update running.
    ///
    /// # Errors
    ///
    /// `EINVAL` when it is bound already, `EPERM` when it was preserved with another iommufd, `EBUSY` when another
    /// driver owns its group.
    #[doc(alias = "VFIO_DEVICE_BIND_IOMMUFD")]
    pub fn bind_iommufd(&self, iommufd: &Iommufd) -> Result<DeviceId> {
        let mut argument = vfio_device_bind_iommufd {
            argsz: size_of::<vfio_device_bind_iommufd>(),
            iommufd: iommufd.as_fd().as_raw_fd(),
            ..Default::default()
        };
        ioctl::call(&self.0, &mut argument)?;
        Ok(DeviceId(argument.out_devid))
    }

    /// Attaches the device to a page table; one that it was attached to is replaced.
    ///
    /// # Errors
    ///
    /// `ENOENT` when the iommufd has no such page table, `EINVAL` when the device can not use it.
    #[doc(alias = "VFIO_DEVICE_ATTACH_IOMMUFD_PT")]
    pub fn attach_pt(&self, hwpt: HwptId) -> Result<()> {
        ioctl::call(
            &self.0,
            &mut vfio_device_attach_iommufd_pt {
                argsz: size_of::<vfio_device_attach_iommufd_pt>(),
                pt_id: hwpt.0,
                ..Default::default()
            },
        )
    }

    /// Detaches the device from its page table: it reaches no memory any more.
    ///
    /// # Errors
    ///
    /// Those of the call.
    #[doc(alias = "VFIO_DEVICE_DETACH_IOMMUFD_PT")]
    pub fn detach(&self) -> Result<()> {
        let argsz = size_of::<vfio_device_detach_iommufd_pt>();
        ioctl::call(
            &self.0,
            &mut vfio_device_detach_iommufd_pt {
                argsz,
                ..Default::default()
            },
        )
    }

    /// What the device has.
    ///
    /// # Errors
    ///
    /// `EINVAL` before the bind.
    #[doc(alias = "VFIO_DEVICE_GET_INFO")]
    pub fn info(&self) -> Result<DeviceInfo> {
        let mut argument = vfio_device_info {
            argsz: size_of::<vfio_device_info>(),
            ..Default::default()
        };
        ioctl::call(&self.0, &mut argument)?;
        Ok(DeviceInfo {
            flags: argument.flags,
            regions: argument.num_regions,
            irqs: argument.num_irqs,
        })
    }

    /// One region: 0 to 5 are the BARs, 7 is config space.
    ///
    /// # Errors
    ///
    /// `EINVAL` when there is no such region, or before the bind.
    #[doc(alias = "VFIO_DEVICE_GET_REGION_INFO")]
    pub fn region(&self, index: u32) -> Result<Region> {
        let mut argument = vfio_region_info {
            argsz: size_of::<vfio_region_info>(),
            index,
            ..Default::default()
        };
        ioctl::call(&self.0, &mut argument)?;
        Ok(Region {
            size: argument.size,
            offset: argument.offset,
            mappable: argument.flags & VFIO_REGION_INFO_FLAG_MMAP != 0,
        })
    }

    /// Maps a whole BAR.
    ///
    /// # Errors
    ///
    /// `ENODEV` when the region can not be mapped, and those of mmap(2).
    pub fn map_bar(&self, index: u32) -> Result<Registers> {
        let region = self.region(index)?;
        if !region.mappable || region.size == 0 {
            return Err(Error::on(
                "mmap",
                format!("BAR {index} can not be mapped"),
                Errno::NODEV,
            ));
        }
        Mapping::shared(&self.0, region.offset, region.size, "BAR").map(Registers::of_region)
    }

    /// Reads 2 bytes of config space.
    ///
    /// # Errors
    ///
    /// Those of the region query and of pread(2).
    pub fn config_read_u16(&self, register: u64) -> Result<u16> {
        let config = self.region(VFIO_PCI_CONFIG_REGION_INDEX)?;
        let mut bytes = [0; 2];
        let count = rustix::io::pread(&self.0, &mut bytes, config.offset + register)
            .map_err(|errno| Error::on("pread", "config space", errno))?;
        whole("pread", count, bytes.len())?;
        Ok(u16::from_le_bytes(bytes))
    }

    /// Writes 2 bytes of config space.
    ///
    /// # Errors
    ///
    /// Those of the region query and of pwrite(2).
    pub fn config_write_u16(&self, register: u64, value: u16) -> Result<()> {
        let config = self.region(VFIO_PCI_CONFIG_REGION_INDEX)?;
        let bytes = value.to_le_bytes();
        let count = rustix::io::pwrite(&self.0, &bytes, config.offset + register)
            .map_err(|errno| Error::on("pwrite", "config space", errno))?;
        whole("pwrite", count, bytes.len())
    }

    /// Lets interrupt vectors, from 0 on, signal eventfds. A vector with none stays silent; with no vectors at all this
    /// kind of interrupts is switched off.
    ///
    /// # Errors
    ///
    /// `EINVAL` for more vectors than the device has, `E2BIG` for more than [`MAX_VECTORS`].
    #[doc(alias = "VFIO_DEVICE_SET_IRQS")]
    pub fn set_irqs(&self, kind: Irq, eventfds: &[Option<BorrowedFd<'_>>]) -> Result<()> {
        self.set_triggers(kind as u32, eventfds)
    }

    /// Lets a notice of the host signal an eventfd; with none it is switched off.
    ///
    /// # Errors
    ///
    /// `EINVAL` when the device has no such notice.
    #[doc(alias = "VFIO_DEVICE_SET_IRQS")]
    pub fn set_notice(&self, notice: Notice, eventfd: Option<BorrowedFd<'_>>) -> Result<()> {
        self.set_triggers(notice as u32, eventfd.map(Some).as_slice())
    }

    fn set_triggers(&self, index: u32, eventfds: &[Option<BorrowedFd<'_>>]) -> Result<()> {
        if eventfds.len() > MAX_VECTORS {
            return Err(Error::new(IrqSet::NAME, Errno::TOOBIG));
        }
        let data_kind = if eventfds.is_empty() {
            VFIO_IRQ_SET_DATA_NONE
        } else {
            VFIO_IRQ_SET_DATA_EVENTFD
        };
        let mut argument = IrqSet {
            // CAST: at most `MAX_VECTORS`.
            argsz: size_of::<[u32; 5]>() + 4 * eventfds.len() as u32,
            flags: data_kind | VFIO_IRQ_SET_ACTION_TRIGGER,
            index,
            start: 0,
            // CAST: as above.
            count: eventfds.len() as u32,
            data: [-1; MAX_VECTORS],
        };
        for (number, eventfd) in argument.data.iter_mut().zip(eventfds) {
            *number = eventfd.map_or(-1, |eventfd| eventfd.as_raw_fd());
        }
        ioctl::call(&self.0, &mut argument)
    }

    /// Resets the device.
    ///
    /// # Errors
    ///
    /// `EINVAL` when it can not be reset.
    #[doc(alias = "VFIO_DEVICE_RESET")]
    pub fn reset(&self) -> Result<()> {
        ioctl::call(&self.0, &mut Reset)
    }
}

fn whole(call: &'static str, count: usize, wanted: usize) -> Result<()> {
    if count == wanted {
        Ok(())
    } else {
        Err(Error::on(
            call,
            format!("{count} of {wanted} bytes of config space"),
            Errno::IO,
        ))
    }
}

/// For a descriptor that came from a LUO session.
impl From<OwnedFd> for VfioDevice {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for VfioDevice {
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
            layout!(
                vfio_device_info,
                "vfio_device_info",
                "VFIO_DEVICE_GET_INFO",
                [argsz, flags, num_regions, num_irqs, cap_offset]
            ),
            layout!(
                vfio_region_info,
                "vfio_region_info",
                "VFIO_DEVICE_GET_REGION_INFO",
                [argsz, flags, index, cap_offset, size, offset]
            ),
            Layout {
                // The structure of the header ends where the data begins.
                size: std::mem::offset_of!(IrqSet, data),
                ..layout!(
                    IrqSet,
                    "vfio_irq_set",
                    "VFIO_DEVICE_SET_IRQS",
                    [argsz, flags, index, start, count, data]
                )
            },
            layout!(
                vfio_device_bind_iommufd,
                "vfio_device_bind_iommufd",
                "VFIO_DEVICE_BIND_IOMMUFD",
                [argsz, flags, iommufd, out_devid, token_uuid_ptr]
            ),
            layout!(
                vfio_device_attach_iommufd_pt,
                "vfio_device_attach_iommufd_pt",
                "VFIO_DEVICE_ATTACH_IOMMUFD_PT",
                [argsz, flags, pt_id, pasid]
            ),
            layout!(
                vfio_device_detach_iommufd_pt,
                "vfio_device_detach_iommufd_pt",
                "VFIO_DEVICE_DETACH_IOMMUFD_PT",
                [argsz, flags, pasid]
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_that_is_not_there_is_named() {
        let error = VfioDevice::open("ffff:ff:1f.7").unwrap_err();
        assert_eq!(error.errno, Errno::NOENT);
        assert!(error.subject.contains("ffff:ff:1f.7"), "{error}");
    }
}
