// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Devices and the bridges above them.

use core::fmt;

use super::index::Key;
use super::lender::{Grow, Lender, Take};
use super::list::{is_zero, Family, List};
use crate::abi::pci::{FunctionSer, KIND_BRIDGE, KIND_ENDPOINT, KNOWN_REQUIRED, MAGIC, VERSION};
use crate::error::Error;
use crate::refusal::{self, Refusal};

const NAME: refusal::Family = refusal::Family::Pci;
const MALFORMED: Refusal = Refusal::Malformed(NAME);
const FAMILY: Family = Family {
    name: NAME,
    magic: MAGIC,
    version: VERSION,
    known_required: KNOWN_REQUIRED,
    last_kind: KIND_BRIDGE,
};

/// Where a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceAddress {
    /// PCI segment.
    pub segment: u32,
    /// Bus, device and function.
    pub bdf: u16,
}

impl DeviceAddress {
    /// As one number, in the order of addresses.
    pub(super) fn number(self) -> u64 {
        u64::from(self.segment) << 16 | u64::from(self.bdf)
    }

    pub(super) const fn from_number(number: u64) -> Self {
        let [_, _, a, b, c, d, bus, devfn] = number.to_be_bytes();
        Self {
            segment: u32::from_be_bytes([a, b, c, d]),
            bdf: u16::from_be_bytes([bus, devfn]),
        }
    }
}

impl fmt::Display for DeviceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [bus, devfn] = self.bdf.to_be_bytes();
        let (device, function) = (devfn >> 3, devfn & 7);
        write!(f, "{:04x}:{bus:02x}:{device:02x}.{function}", self.segment)
    }
}

/// What a function is; all 0 for a bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Subsystem vendor id.
    pub subsystem_vendor: u16,
    /// Subsystem device id.
    pub subsystem_device: u16,
    /// Class code and revision.
    pub class_revision: u32,
}

/// Part that a function has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A device with a file of its own.
    Endpoint,
    /// A bridge above one or more of them.
    Bridge,
}

/// A function that takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Where it is.
    pub address: DeviceAddress,
    /// Its part.
    pub kind: Kind,
    /// What it is.
    pub identity: Identity,
}

/// A function, and where it is among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    function: Function,
    /// Key of the bridge above.
    upstream: Option<u32>,
    /// Bridges above.
    depth: u16,
}

fn place_of(ser: &FunctionSer) -> DeviceAddress {
    DeviceAddress {
        segment: ser.segment.get(),
        bdf: ser.bdf.get(),
    }
}

fn encode(entry: &Entry) -> FunctionSer {
    let Function {
        address,
        kind,
        identity,
    } = entry.function;
    FunctionSer {
        kind: match kind {
            Kind::Endpoint => KIND_ENDPOINT,
            Kind::Bridge => KIND_BRIDGE,
        },
        reserved: 0,
        bdf: address.bdf.into(),
        segment: address.segment.into(),
        upstream: entry.upstream.unwrap_or(0).into(),
        reserved_path: 0.into(),
        depth: entry.depth.into(),
        vendor: identity.vendor.into(),
        device: identity.device.into(),
        subsystem_vendor: identity.subsystem_vendor.into(),
        subsystem_device: identity.subsystem_device.into(),
        reserved_identity: 0.into(),
        class_revision: identity.class_revision.into(),
        reserved_end: [0; 32],
    }
}

fn decode(ser: &FunctionSer) -> Result<Entry, Refusal> {
    let identity = Identity {
        vendor: ser.vendor.get(),
        device: ser.device.get(),
        subsystem_vendor: ser.subsystem_vendor.get(),
        subsystem_device: ser.subsystem_device.get(),
        class_revision: ser.class_revision.get(),
    };
    let (kind, sound) = match ser.kind {
        KIND_ENDPOINT => (Kind::Endpoint, true),
        KIND_BRIDGE => (Kind::Bridge, identity == Identity::default()),
        _ => return Err(MALFORMED),
    };
    let upstream = Some(ser.upstream.get()).filter(|key| *key != 0);
    let sound = sound
        && ser.reserved == 0
        && ser.reserved_path.get() == 0
        && ser.reserved_identity.get() == 0
        && is_zero(&ser.reserved_end)
        && upstream.is_some() == (ser.depth.get() != 0);
    if !sound {
        return Err(MALFORMED);
    }
    Ok(Entry {
        function: Function {
            address: place_of(ser),
            kind,
            identity,
        },
        upstream,
        depth: ser.depth.get(),
    })
}

/// Index: who is at an address (`a`), by the key of the entry (`c`). Value: [`ON_RESTORED`] or [`LEFT`].
const AT: u8 = 1;
const ON_RESTORED: u32 = 0;
const LEFT: u32 = 1;
/// Index: how many entries are right below one (`a`).
const BELOW: u8 = 2;

fn at(address: DeviceAddress, entry: u32) -> Key {
    Key::new(AT, address.number(), 0, entry)
}

fn below(bridge: u32) -> Key {
    Key::new(BELOW, bridge.into(), 0, 0)
}

/// The record of all devices and bridges.
///
/// # Invariants
///
/// Every entry that nobody is to blame for decodes, is the only one at its address, and names a bridge
/// above it that has one bridge less above it; every bridge is above something.
#[derive(Debug)]
pub struct Devices<L> {
    list: List<L>,
}

impl<L: Lender> Devices<L> {
    /// Physical address of the first page: what LUO carries.
    pub fn phys(&self) -> u64 {
        self.list.phys()
    }

    /// The memory that was lent.
    pub const fn lender(&self) -> &L {
        self.list.lender()
    }

    /// Gives the memory back.
    pub fn into_lender(self) -> L {
        self.list.into_lender()
    }

    fn ser(&self, key: u32) -> Option<FunctionSer> {
        let kind = self.list.kind(key);
        (kind == KIND_ENDPOINT || kind == KIND_BRIDGE)
            .then(|| self.list.entry(key, kind))
            .flatten()
    }

    fn entry(&self, key: u32) -> Result<Entry, Refusal> {
        match self.list.blamed(key) {
            Some(refusal) => Err(refusal),
            None => decode(&self.ser(key).ok_or(Refusal::NotRecorded(NAME))?),
        }
    }

    fn key(&self, address: DeviceAddress) -> Option<u32> {
        let node = self.list.about(AT, address.number(), 0)?;
        Some(node.key.c)
    }

    /// The function at an address, or what is wrong with it or with a bridge above it. `None`: none is
    /// recorded there.
    pub fn find(&self, address: DeviceAddress) -> Option<Result<Function, Refusal>> {
        let key = self.key(address)?;
        Some(self.check_path(key).map(|entry| entry.function))
    }

    /// The entry with a key, if it and all above it are sound.
    fn check_path(&self, key: u32) -> Result<Entry, Refusal> {
        let entry = self.entry(key)?;
        // Depth falls with each bridge, so there is an end.
        let mut above = entry;
        while let Some(key) = above.upstream {
            above = self.entry(key)?;
        }
        Ok(entry)
    }

    /// The device, not bridge, at an address.
    pub fn endpoint(&self, address: DeviceAddress) -> Option<Result<Function, Refusal>> {
        let found = self.find(address)?;
        let is_bridge = |function: &Function| function.kind == Kind::Bridge;
        Some(found).filter(|found| !found.as_ref().is_ok_and(is_bridge))
    }

    /// The bridges above a function, nearest first.
    pub fn bridges(&self, address: DeviceAddress) -> impl Iterator<Item = DeviceAddress> + '_ {
        let upstream = |key: u32| self.entry(key).ok()?.upstream;
        let first = self.key(address).and_then(upstream);
        let keys = core::iter::successors(first, move |key| upstream(*key));
        keys.map_while(|key| Some(self.entry(key).ok()?.function.address))
    }

    /// All functions that nobody is to blame for, bridges too.
    pub fn iter(&self) -> impl Iterator<Item = Function> + '_ {
        let entries = self.list.keys().map(|key| self.entry(key));
        entries.filter_map(|entry| Some(entry.ok()?.function))
    }

    /// All devices, without the bridges.
    pub fn endpoints(&self) -> impl Iterator<Item = Function> + '_ {
        self.iter().filter(|device| device.kind == Kind::Endpoint)
    }

    /// Whether a device has left its restored domain: no attachment is recorded any more.
    pub(super) fn has_left(&self, address: DeviceAddress) -> bool {
        let node = self.list.about(AT, address.number(), 0);
        node.is_some_and(|node| node.value == LEFT)
    }

    /// A device has left its restored domain.
    pub(super) fn set_left(&mut self, address: DeviceAddress) {
        if let Some(key) = self.key(address) {
            self.list.set_value(&at(address, key), LEFT);
        }
    }

    /// Forgets a device, and each bridge above it that no other needs. Only what is recorded as a device
    /// is forgotten: no name takes a bridge from somebody else.
    pub fn remove(&mut self, address: DeviceAddress) {
        // Another kernel may have recorded it twice.
        while let Some(key) = self.endpoint_key(address) {
            self.remove_path(key);
        }
    }

    fn endpoint_key(&self, address: DeviceAddress) -> Option<u32> {
        let number = address.number();
        let nodes = self.list.from(Key::new(AT, number, 0, 0));
        let nodes = nodes.take_while(|node| node.key.is_about(AT, number, 0));
        let mut keys = nodes.map(|node| node.key.c);
        keys.find(|key| self.list.kind(*key) == KIND_ENDPOINT)
    }

    /// Removes an entry, and what is above it as far as nobody else is below that.
    fn remove_path(&mut self, mut key: u32) {
        while let Some(ser) = self.ser(key) {
            self.list.leave(&at(place_of(&ser), key));
            self.list.remove(key);
            self.list.forgive(key);
            let Some(upstream) = self.bridge_above(&ser) else {
                return;
            };
            self.list.leave(&below(upstream));
            if self.list.users(&below(upstream)) != 0 {
                return;
            }
            key = upstream;
        }
    }

    /// The bridge that an entry names as the one above it, if it is a bridge: it counts as used, even if
    /// something is wrong with the entry.
    fn bridge_above(&self, ser: &FunctionSer) -> Option<u32> {
        Some(ser.upstream.get()).filter(|key| self.list.kind(*key) == KIND_BRIDGE)
    }
}

impl<L: Take> Devices<L> {
    /// Takes over a record that another kernel wrote.
    pub(super) fn decode(lender: L, phys: u64) -> Result<Self, Error<L::Error>> {
        let mut this = Self {
            list: List::decode(lender, phys, FAMILY)?,
        };
        for key in this.list.keys() {
            this.take_entry(key)?;
        }
        let same = |one: &super::index::Node, other: &super::index::Node| one.key.a == other.key.a;
        let duplicate = Refusal::Duplicate(NAME);
        this.list.note_conflicts(AT, duplicate, |_| 0, same);
        for key in this.list.keys() {
            this.check_entry(key)?;
        }
        Ok(this)
    }

    fn take_entry(&mut self, key: u32) -> Result<(), Error<L::Error>> {
        let Some(ser) = self.ser(key) else {
            return Ok(());
        };
        self.list.join(at(place_of(&ser), key), ON_RESTORED)?;
        if let Some(upstream) = self.bridge_above(&ser) {
            self.list.join(below(upstream), 0)?;
        }
        match decode(&ser) {
            Ok(_) => Ok(()),
            Err(refusal) => self.list.blame(key, refusal),
        }
    }

    /// Is it the only one at its address, below a bridge, and if it is one, above something?
    fn check_entry(&mut self, key: u32) -> Result<(), Error<L::Error>> {
        let Ok(entry) = self.entry(key) else {
            return Ok(());
        };
        if let Some(refusal) = self.list.noted(&at(entry.function.address, key)) {
            return self.list.blame(key, refusal);
        }
        if entry.function.kind == Kind::Bridge && self.list.users(&below(key)) == 0 {
            return self.list.blame(key, Refusal::Contradictory(NAME));
        }
        let Some(upstream) = entry.upstream else {
            return Ok(());
        };
        let bridge: Option<FunctionSer> = self.list.entry(upstream, KIND_BRIDGE);
        let Some(bridge) = bridge else {
            return self.list.blame(key, Refusal::NotRecorded(NAME));
        };
        if bridge.segment.get() != entry.function.address.segment
            || bridge.depth.get().checked_add(1) != Some(entry.depth)
        {
            return self.list.blame(key, Refusal::Contradictory(NAME));
        }
        Ok(())
    }
}

impl<L: Grow> Devices<L> {
    /// Makes an empty record.
    ///
    /// # Errors
    ///
    /// The lender's.
    pub fn create(lender: L) -> Result<Self, Error<L::Error>> {
        let list = List::create(lender, FAMILY)?;
        Ok(Self { list })
    }

    /// Records a device and the bridges above it, nearest first.
    ///
    /// # Errors
    ///
    /// [`Refusal::AlreadyRecorded`]; [`Refusal::Duplicate`] for a function that would be a bridge and a
    /// device, or two bridges; [`Refusal::Contradictory`] if a recorded bridge is below others than these;
    /// [`Refusal::TooManyBridges`] above what PCI has room for; and the lender's. Nothing has changed then.
    pub fn add(
        &mut self,
        address: DeviceAddress,
        identity: Identity,
        bridges: impl Iterator<Item = DeviceAddress> + Clone,
    ) -> Result<(), Error<L::Error>> {
        if self.key(address).is_some() {
            return Err(Refusal::AlreadyRecorded.into());
        }
        let fresh = self.check_bridges(address, bridges.clone())?;
        let count = u32::try_from(fresh).unwrap_or(u32::MAX).saturating_add(1);
        self.list.reserve(count, count.saturating_mul(2))?;
        let known = bridges
            .clone()
            .nth(fresh)
            .and_then(|bridge| self.key(bridge));
        let mut above = known.and_then(|key| Some((key, self.entry(key).ok()?.depth)));
        for number in (0..fresh).rev() {
            if let Some(address) = bridges.clone().nth(number) {
                above = self.insert(address, Kind::Bridge, Identity::default(), above)?;
            }
        }
        self.insert(address, Kind::Endpoint, identity, above)?;
        Ok(())
    }

    /// Enters a function below `above`, a key with its depth; says its own.
    fn insert(
        &mut self,
        address: DeviceAddress,
        kind: Kind,
        identity: Identity,
        above: Option<(u32, u16)>,
    ) -> Result<Option<(u32, u16)>, Error<L::Error>> {
        let depth = above.map_or(0, |(_, depth)| depth.saturating_add(1));
        let upstream = above.map(|(key, _)| key);
        let ser = encode(&Entry {
            function: Function {
                address,
                kind,
                identity,
            },
            upstream,
            depth,
        });
        let Some(key) = self.list.insert(&ser) else {
            return Ok(None);
        };
        self.list.join(at(address, key), ON_RESTORED)?;
        if let Some(upstream) = upstream {
            self.list.join(below(upstream), 0)?;
        }
        Ok(Some((key, depth)))
    }

    /// May these bridges be above the device? Says how many of them are not recorded yet: the nearest.
    fn check_bridges(
        &self,
        device: DeviceAddress,
        bridges: impl Iterator<Item = DeviceAddress> + Clone,
    ) -> Result<usize, Refusal> {
        let duplicate = Refusal::Duplicate(NAME);
        let contradictory = Refusal::Contradictory(NAME);
        // No more than there are buses.
        if bridges.clone().nth(usize::from(u8::MAX)).is_some() {
            return Err(Refusal::TooManyBridges);
        }
        for (number, bridge) in bridges.clone().enumerate() {
            let mut earlier = bridges.clone().take(number);
            if bridge == device || earlier.any(|earlier| earlier == bridge) {
                return Err(duplicate);
            }
            if bridge.segment != device.segment {
                return Err(contradictory);
            }
        }
        let is_known = |bridge: DeviceAddress| self.key(bridge).is_some();
        let fresh = bridges.clone().take_while(|bridge| !is_known(*bridge));
        let fresh = fresh.count();
        let mut known = bridges.skip(fresh);
        if let Some(first) = known.next() {
            let entry = self.key(first).map(|key| self.entry(key));
            if !entry
                .is_some_and(|entry| entry.is_ok_and(|entry| entry.function.kind == Kind::Bridge))
            {
                return Err(duplicate);
            }
            if !self.bridges(first).eq(known) {
                return Err(contradictory);
            }
        }
        Ok(fresh)
    }
}
