// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The state on the cpr channel: which descriptor is which, and by which ids QEMU knows its devices in the iommufd.
//!
//! It has no lengths and no checksums, so what is not understood cannot be skipped: it is refused. What goes out is written
//! anew from what was understood, and is the same bytes if nothing was changed.

use std::collections::BTreeSet;
use std::fmt;

use super::version::{
    CPR_MAGIC, CPR_VERSION, DESCRIPTOR, DEVICES, DEVICES_VERSION, ELEMENT, END_OF_LIST, PART,
};
use super::wire::Reader;
use crate::refusal::Refusal;

/// Descriptors of one VM. 8 devices with 128 vectors have 2,066.
pub const MAX_DESCRIPTORS: usize = 4096;
/// VFIO devices of one VM.
pub const MAX_DEVICES: usize = 64;
/// Bytes of a name. QEMU's names of memory have at most 255.
pub const MAX_NAME: usize = 255;
/// Bytes of a state that has all of this.
pub const MAX_STATE: usize = 40 + MAX_DESCRIPTORS * (MAX_NAME + 11) + MAX_DEVICES * (MAX_NAME + 18);

/// The name of a descriptor or device: not empty, not too long, and nothing but printable ASCII.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`Refusal::BadName`] when it is not one.
    pub fn new(name: &[u8]) -> Result<Self, Refusal> {
        if name.is_empty() {
            return Err(Refusal::BadName("empty"));
        }
        if name.len() > MAX_NAME {
            return Err(Refusal::BadName("too long"));
        }
        if !name.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            return Err(Refusal::BadName("not printable"));
        }
        String::from_utf8(name.to_vec())
            .map(Self)
            .map_err(|_| Refusal::BadName("not printable"))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, to)
    }
}

/// What QEMU calls a descriptor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// Its name.
    pub name: Name,
    /// Its number, where several have one name: that of the vector. Otherwise 0.
    pub id: i32,
}

/// By which ids a device is known in its iommufd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The bound device.
    pub device: i32,
    /// The IOAS.
    pub ioas: u32,
    /// The HWPT.
    pub hwpt: u32,
}

/// A VFIO device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name, which its device file has as well.
    pub name: Name,
    /// Its ids.
    pub ids: Ids,
}

/// The whole state, without the descriptors themselves.
///
/// No two entries have both name and number in common, no two devices have the same name, and there are no more of either
/// than [`MAX_DESCRIPTORS`] and [`MAX_DEVICES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    entries: Vec<Entry>,
    devices: Vec<Device>,
}

/// A state as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// All bytes.
    pub bytes: Vec<u8>,
    /// Where the byte of each descriptor is. It has to be sent alone, and with the descriptor.
    pub marks: Vec<usize>,
}

impl State {
    /// Puts a state together.
    ///
    /// # Errors
    ///
    /// What is there twice, or too often.
    pub fn new(entries: Vec<Entry>, devices: Vec<Device>) -> Result<Self, Refusal> {
        at_most(entries.len(), MAX_DESCRIPTORS, "descriptors")?;
        at_most(devices.len(), MAX_DEVICES, "devices")?;
        let mut known = BTreeSet::new();
        if let Some(entry) = entries.iter().find(|entry| !known.insert(*entry)) {
            return Err(twice(&entry.name, entry.id));
        }
        let mut known = BTreeSet::new();
        if let Some(device) = devices.iter().find(|device| !known.insert(&device.name)) {
            return Err(twice(&device.name, 0));
        }
        Ok(Self { entries, devices })
    }

    /// Reads a state that is complete. The descriptors came with it, in the order of the entries.
    ///
    /// # Errors
    ///
    /// Whatever is not known, by its name.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut from = Reader::new(bytes, Refusal::CprEnds);
        let magic = from.u32("its head").map_err(|_| Refusal::NotCprState)?;
        if magic != CPR_MAGIC {
            return Err(Refusal::NotCprState);
        }
        match from.u32("its version")? {
            CPR_VERSION => {}
            other => return Err(Refusal::CprVersion(other)),
        }
        let mut entries = Vec::new();
        while another(&mut from, "a descriptor")? {
            at_most(entries.len() + 1, MAX_DESCRIPTORS, "descriptors")?;
            let name = name(&mut from)?;
            let id = from.i32("a descriptor's number")?;
            match from.u8("a descriptor")? {
                DESCRIPTOR => entries.push(Entry { name, id }),
                found => return Err(byte("a descriptor", found)),
            }
        }
        let devices = devices(&mut from)?;
        match from.rest().len() {
            0 => Self::new(entries, devices),
            _ => Err(after_the_devices(&mut from)),
        }
    }

    /// Writes it as QEMU does.
    pub fn encode(&self) -> Encoded {
        let mut bytes = Vec::new();
        let mut marks = Vec::new();
        bytes.extend(CPR_MAGIC.to_be_bytes());
        bytes.extend(CPR_VERSION.to_be_bytes());
        for Entry { name, id } in &self.entries {
            put_name(&mut bytes, name);
            bytes.extend(id.to_be_bytes());
            marks.push(bytes.len());
            bytes.push(DESCRIPTOR);
        }
        bytes.push(END_OF_LIST);
        bytes.push(PART);
        // CAST: the name is a constant of 21 bytes.
        bytes.push(DEVICES.len() as u8);
        bytes.extend(DEVICES.bytes());
        bytes.extend(DEVICES_VERSION.to_be_bytes());
        for Device { name, ids } in &self.devices {
            put_name(&mut bytes, name);
            bytes.extend(ids.device.to_be_bytes());
            bytes.extend(ids.ioas.to_be_bytes());
            bytes.extend(ids.hwpt.to_be_bytes());
        }
        bytes.push(END_OF_LIST);
        Encoded { bytes, marks }
    }

    /// The descriptors, in the order in which they come.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The devices.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// The same with other ids, which are given in the order of the devices: after an update, and for a HWPT that was made
    /// anew, they are not what they were.
    ///
    /// # Errors
    ///
    /// [`Refusal::IdCount`].
    pub fn with_ids(&self, ids: &[Ids]) -> Result<Self, Refusal> {
        if ids.len() != self.devices.len() {
            return Err(Refusal::IdCount {
                new: ids.len(),
                devices: self.devices.len(),
            });
        }
        let mut state = self.clone();
        for (device, ids) in state.devices.iter_mut().zip(ids) {
            device.ids = *ids;
        }
        Ok(state)
    }
}

fn devices(from: &mut Reader<'_>) -> Result<Vec<Device>, Refusal> {
    if from.rest().is_empty() {
        return Err(Refusal::CprWithoutDevices);
    }
    match part(from)? {
        name if name == DEVICES.as_bytes() => {}
        name => return Err(Refusal::CprPart(name.escape_ascii().to_string())),
    }
    match from.u32("the version of a part")? {
        DEVICES_VERSION => {}
        version => {
            return Err(Refusal::CprPartVersion {
                part: DEVICES,
                version,
            })
        }
    }
    let mut devices = Vec::new();
    while another(from, "a device")? {
        at_most(devices.len() + 1, MAX_DEVICES, "devices")?;
        let name = name(from)?;
        let ids = Ids {
            device: from.i32("a device's ids")?,
            ioas: from.u32("a device's ids")?,
            hwpt: from.u32("a device's ids")?,
        };
        devices.push(Device { name, ids });
    }
    Ok(devices)
}

/// A part that follows on the last known one is refused by its name, and anything else by its length.
fn after_the_devices(from: &mut Reader<'_>) -> Refusal {
    let trailing = Refusal::CprTrailing(from.rest().len());
    match part(from) {
        Ok(name) => Refusal::CprPart(name.escape_ascii().to_string()),
        Err(_) => trailing,
    }
}

/// The name of the part that begins here.
fn part<'a>(from: &mut Reader<'a>) -> Result<&'a [u8], Refusal> {
    match from.u8("a part")? {
        PART => {}
        found => return Err(byte("a part", found)),
    }
    let length = from.u8("the name of a part")?;
    from.bytes(usize::from(length), "the name of a part")
}

fn another(from: &mut Reader<'_>, place: &'static str) -> Result<bool, Refusal> {
    match from.u8(place)? {
        ELEMENT => Ok(true),
        END_OF_LIST => Ok(false),
        found => Err(byte(place, found)),
    }
}

/// The length of a name counts the zero at its end.
fn name(from: &mut Reader<'_>) -> Result<Name, Refusal> {
    let length = usize::try_from(from.u32("the length of a name")?).unwrap_or(usize::MAX);
    if length > MAX_NAME + 1 {
        return Err(Refusal::BadName("too long"));
    }
    match from.bytes(length, "a name")?.split_last() {
        Some((0, name)) => Name::new(name),
        Some(_) => Err(Refusal::BadName("without its end")),
        None => Err(Refusal::BadName("empty")),
    }
}

fn put_name(bytes: &mut Vec<u8>, name: &Name) {
    bytes.push(ELEMENT);
    // CAST: a name has at most `MAX_NAME` bytes.
    bytes.extend((name.0.len() as u32 + 1).to_be_bytes());
    bytes.extend(name.0.bytes());
    bytes.push(0);
}

fn byte(place: &'static str, found: u8) -> Refusal {
    Refusal::CprByte { place, found }
}

fn twice(name: &Name, id: i32) -> Refusal {
    Refusal::Twice {
        name: name.to_string(),
        id,
    }
}

fn at_most(count: usize, limit: usize, what: &'static str) -> Result<(), Refusal> {
    if count > limit {
        return Err(Refusal::TooMany { what, limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
