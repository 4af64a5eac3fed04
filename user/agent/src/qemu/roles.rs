// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What each descriptor is, that it goes with its name, and that every device has what it needs.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::FileType;

use super::state::{Entry, State};
use super::version::{Signal, SIGNALS};
use crate::refusal::{Error, Refusal};

/// What a descriptor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A memory file.
    Memory,
    /// An iommufd.
    Iommufd,
    /// The file of a VFIO device.
    Device,
    /// An eventfd.
    Eventfd,
    /// Something else, with the name that the system has for it.
    Other(String),
}

impl Kind {
    /// Asks the system. A file that came from a LUO session has another name than one that was opened, so both count.
    ///
    /// # Errors
    ///
    /// Those of readlink(2) on `/proc/self/fd`, and of fstat(2).
    pub fn of(file: impl AsFd) -> Result<Self, Error> {
        let file = file.as_fd();
        if rustix::fs::fcntl_get_seals(file).is_ok() {
            return Ok(Self::Memory);
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let link = rustix::fs::readlink(path, Vec::new()).map_err(Error::call("readlink"))?;
        let link = link.to_string_lossy().into_owned();
        let mode = rustix::fs::fstat(file)
            .map_err(Error::call("fstat"))?
            .st_mode;
        let is_device = FileType::from_raw_mode(mode) == FileType::CharacterDevice;
        // What has a path begins with a slash, so nobody can name a file like an anonymous one.
        Ok(match link.as_str() {
            "anon_inode:[eventfd]" => Self::Eventfd,
            "anon_inode:[iommufd]" => Self::Iommufd,
            "anon_inode:[vfio-device]" => Self::Device,
            "/dev/iommu" if is_device => Self::Iommufd,
            path if is_device && path.starts_with("/dev/vfio/devices/") => Self::Device,
            _ => Self::Other(link),
        })
    }
}

/// An eventfd of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// What it is for; never [`Signal::Intx`].
    pub signal: Signal,
    /// The vector, or 0 where there is only one.
    pub vector: usize,
    /// Which entry it is.
    pub entry: usize,
}

/// What one device has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceParts {
    /// The entry with its device file.
    pub file: usize,
    /// The entries with its eventfds.
    pub interrupts: Vec<Interrupt>,
}

/// Vectors of MSI-X.
const MAX_VECTORS: i32 = 2048;

impl DeviceParts {
    /// From vector 0 on, the entry with the eventfd that the device has to trigger, as QEMU itself chooses it: that of KVM,
    /// if there is one.
    pub fn triggers(&self) -> Vec<Option<usize>> {
        let mut triggers = Vec::new();
        for wanted in [Signal::Vector, Signal::KvmVector] {
            for interrupt in self.interrupts.iter().filter(|one| one.signal == wanted) {
                if triggers.len() <= interrupt.vector {
                    triggers.resize(interrupt.vector + 1, None);
                }
                triggers[interrupt.vector] = Some(interrupt.entry);
            }
        }
        triggers
    }
}

/// The entries of a state by what they are. Each is in here once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Memory files; at least one.
    pub memory: Vec<usize>,
    /// The iommufd; there is one if and only if there are devices.
    pub iommufd: Option<usize>,
    /// What each device has, in the order of the state's devices.
    pub devices: Vec<DeviceParts>,
}

impl Parts {
    /// Sorts the entries of a state, whose descriptors are of these kinds.
    ///
    /// # Errors
    ///
    /// What cannot be handed through an update, or does not go together, by its name.
    pub fn of(state: &State, kinds: &[Kind]) -> Result<Self, Refusal> {
        if kinds.len() != state.entries().len() {
            return Err(Refusal::DescriptorCount {
                named: state.entries().len(),
                sent: kinds.len(),
            });
        }
        let mut memory = Vec::new();
        let mut iommufds = Vec::new();
        let mut files = BTreeMap::new();
        let mut eventfds = Vec::new();
        for (at, (entry, kind)) in state.entries().iter().zip(kinds).enumerate() {
            let single = |kind| match entry.id {
                0 => Ok(()),
                _ => Err(misnamed(entry, kind)),
            };
            match kind {
                Kind::Memory => {
                    single("memory")?;
                    memory.push(at);
                }
                Kind::Iommufd => {
                    single("an iommufd")?;
                    iommufds.push(at);
                }
                Kind::Device => {
                    single("a device file")?;
                    files.insert(entry.name.as_str(), at);
                }
                Kind::Eventfd => eventfds.push(at),
                Kind::Other(link) => {
                    return Err(Refusal::UnknownDescriptor {
                        name: entry.name.to_string(),
                        link: link.clone(),
                    })
                }
            }
        }
        let mut devices = Vec::new();
        let mut numbers = BTreeMap::new();
        for device in state.devices() {
            let name = device.name.as_str();
            let file = files
                .remove(name)
                .ok_or_else(|| Refusal::DeviceWithoutFile(name.to_owned()))?;
            numbers.insert(name, devices.len());
            devices.push(DeviceParts {
                file,
                interrupts: Vec::new(),
            });
        }
        if let Some((name, _)) = files.first_key_value() {
            return Err(Refusal::FileWithoutIds((*name).to_owned()));
        }
        for entry in eventfds {
            let (device, interrupt) = interrupt(&state.entries()[entry], entry, &numbers)?;
            devices[device].interrupts.push(interrupt);
        }
        match (memory.len(), iommufds.len(), devices.len()) {
            (0, ..) => Err(Refusal::NoMemory),
            (_, 0, 1..) => Err(Refusal::NoIommufd),
            (_, 1, 0) => Err(Refusal::IdleIommufd),
            (_, several @ 2.., _) => Err(Refusal::SeveralIommufds(several)),
            _ => Ok(Self {
                memory,
                iommufd: iommufds.first().copied(),
                devices,
            }),
        }
    }
}

/// Which device an eventfd belongs to, and what it is for: its name is that of a device, and of what it signals.
fn interrupt(
    entry: &Entry,
    at: usize,
    devices: &BTreeMap<&str, usize>,
) -> Result<(usize, Interrupt), Refusal> {
    let name = entry.name.as_str();
    // `_kvm_interrupt` ends as `_interrupt` does: the device tells which of them it is.
    let (device, signal) = SIGNALS
        .iter()
        .find_map(|(tail, signal)| {
            let name = name.strip_suffix(tail)?;
            devices.get_key_value(name).map(|known| (known, *signal))
        })
        .ok_or_else(|| misnamed(entry, "an eventfd"))?;
    if signal == Signal::Intx {
        return Err(Refusal::Intx((*device.0).to_owned()));
    }
    let range = match signal.is_per_vector() {
        true => 0..MAX_VECTORS,
        false => 0..1,
    };
    let vector = usize::try_from(entry.id).ok();
    let vector = vector.filter(|_| range.contains(&entry.id));
    let vector = vector.ok_or_else(|| misnamed(entry, "an eventfd"))?;
    let interrupt = Interrupt {
        signal,
        vector,
        entry: at,
    };
    Ok((*device.1, interrupt))
}

fn misnamed(entry: &Entry, kind: &'static str) -> Refusal {
    Refusal::MisnamedDescriptor {
        name: entry.name.to_string(),
        id: entry.id,
        kind,
    }
}

#[cfg(test)]
mod tests;
