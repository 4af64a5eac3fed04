// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where a profile's cards are: the addresses that firmware and kernel give them.
//!
//! Buses are numbered depth first, in the order of slots and functions; a root bus of its own has the number that its
//! profile says.

use std::collections::BTreeMap;

use anyhow::{bail, ensure, Context, Result};
use hitless_proto::Bdf;
use serde::Deserialize;

/// The root bus of every machine.
pub const ROOT: &str = "pcie.0";

/// Something that has a bus behind it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bridge {
    /// What it and its bus are called.
    pub name: String,
    /// What it is.
    pub kind: BridgeKind,
    /// The bus that it is on: the root, or another bridge's.
    #[serde(default = "root")]
    pub on: String,
    /// Its place there.
    #[serde(default)]
    pub slot: u8,
    /// Its function in that slot.
    #[serde(default)]
    pub function: u8,
    /// Its chassis number, which no other port may have.
    pub chassis: Option<u8>,
    /// Its root bus's number.
    pub bus_nr: Option<u8>,
    /// More properties for QEMU.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// The bridges that the lab knows, by QEMU's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BridgeKind {
    /// A root port.
    PcieRootPort,
    /// A switch's port to the root.
    #[serde(rename = "x3130-upstream")]
    Upstream,
    /// A switch's port to a device.
    #[serde(rename = "xio3130-downstream")]
    Downstream,
    /// A bridge to conventional PCI: what is behind it has the bridge's requester id.
    PciePciBridge,
    /// A root bus of its own.
    PxbPcie,
}

impl BridgeKind {
    /// What QEMU calls it.
    pub fn device(self) -> &'static str {
        match self {
            Self::PcieRootPort => "pcie-root-port",
            Self::Upstream => "x3130-upstream",
            Self::Downstream => "xio3130-downstream",
            Self::PciePciBridge => "pcie-pci-bridge",
            Self::PxbPcie => "pxb-pcie",
        }
    }
}

/// A card as a profile has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    /// What tests call it.
    pub name: String,
    /// What it is.
    pub kind: CardKind,
    /// The bus that it is on.
    pub on: String,
    /// Its place there.
    #[serde(default)]
    pub slot: u8,
    /// Its function in that slot.
    #[serde(default)]
    pub function: u8,
    /// More properties for QEMU.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// The cards that the lab knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CardKind {
    /// The 82576, QEMU's `igb`.
    Igb,
}

impl CardKind {
    /// What QEMU calls it.
    pub fn device(self) -> &'static str {
        match self {
            Self::Igb => "igb",
        }
    }

    /// Offset of the PCI Express capability's Device Control in QEMU's card; bit 15 starts a function level reset.
    pub fn device_control(self) -> u32 {
        match self {
            Self::Igb => 0xa8,
        }
    }

    /// Offset of the power management Control/Status in QEMU's card; bits 1:0 are the power state.
    pub fn power_control(self) -> u32 {
        match self {
            Self::Igb => 0x44,
        }
    }
}

/// A card with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// What tests call it.
    pub name: String,
    /// What it is.
    pub kind: CardKind,
    /// Its number in its frames, from 1.
    pub number: u8,
    /// Its address as the guest names it.
    pub bdf: String,
    /// Bus, device and function in one number: what the IOMMU calls the source id.
    pub source_id: u16,
    /// The same of the bridges above it, the nearest first.
    pub above: Vec<u16>,
}

impl Card {
    /// The card's MAC address.
    pub fn mac(&self) -> String {
        self.mac_bytes().map(|byte| format!("{byte:02x}")).join(":")
    }

    /// The same as it stands in a frame.
    pub fn mac_bytes(&self) -> [u8; 6] {
        [0x52, 0x54, 0x00, 0x48, 0x4c, self.number]
    }
}

/// Many plain functions of one kind, each behind a root port of its own and so alone in its IOMMU group.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crowd {
    /// What they are.
    pub kind: PlainKind,
    /// The first slot of the root that has their ports. Eight ports fill a slot.
    pub slot: u8,
    /// How many.
    pub count: u8,
    /// More properties of each for QEMU.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// Functions that have no wire, by QEMU's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlainKind {
    /// A random number generator with a function level reset.
    VirtioRngPci,
}

impl PlainKind {
    /// What QEMU calls it.
    pub fn device(self) -> &'static str {
        match self {
            Self::VirtioRngPci => "virtio-rng-pci",
        }
    }
}

impl Crowd {
    /// The chassis number of the first port; single ports have lower ones.
    const CHASSIS: u8 = 100;

    /// The root ports, one for each function.
    pub fn ports(&self) -> impl Iterator<Item = Bridge> + '_ {
        // Nothing is plugged in later, so that firmware has no port addresses to set aside, of which there are few.
        let options = BTreeMap::from([("hotplug".to_owned(), "off".to_owned())]);
        (0..self.count).map(move |index| Bridge {
            name: format!("crowd{index}"),
            kind: BridgeKind::PcieRootPort,
            on: root(),
            slot: self.slot.saturating_add(index / 8),
            function: index % 8,
            chassis: Some(Self::CHASSIS.saturating_add(index)),
            bus_nr: None,
            options: options.clone(),
        })
    }
}

/// The addresses of the functions behind the crowd's ports, which are among `bridges`.
///
/// # Errors
///
/// As [`place`].
pub fn behind(crowd: &Crowd, bridges: &[Bridge]) -> Result<Vec<String>> {
    let buses = buses(bridges)?;
    let ports = crowd.ports();
    let numbers = ports.filter_map(|port| buses.get(&*port.name).map(|bus| bus.number));
    Ok(numbers
        .map(|bus| Bdf::from_number(source_id(bus, 0, 0).into()).to_string())
        .collect())
}

fn root() -> String {
    ROOT.to_owned()
}

/// A bus.
#[derive(Clone, Debug)]
struct Bus {
    number: u8,
    /// The bridges that lead there, the nearest first.
    above: Vec<u16>,
}

/// Gives the cards their places.
pub fn place(bridges: &[Bridge], functions: &[Function]) -> Result<Vec<Card>> {
    let buses = buses(bridges)?;
    let mut taken = BTreeMap::new();
    let mut cards: Vec<Card> = Vec::new();
    for (function, number) in functions.iter().zip(1..) {
        let name = &function.name;
        let bus = buses.get(&*function.on).with_context(|| {
            format!(
                "the card {name} is on `{}`, which is not there",
                function.on
            )
        })?;
        let source_id = source_id(bus.number, function.slot, function.function);
        if let Some(other) = taken.insert(source_id, name) {
            bail!("the cards {other} and {name} are in one place");
        }
        ensure!(
            cards.iter().all(|card| card.name != *name),
            "two cards are called {name}"
        );
        cards.push(Card {
            name: name.clone(),
            kind: function.kind,
            number,
            bdf: Bdf::from_number(source_id.into()).to_string(),
            source_id,
            above: bus.above.clone(),
        });
    }
    Ok(cards)
}

/// The root bus and those behind the bridges, numbered.
fn buses(bridges: &[Bridge]) -> Result<BTreeMap<&str, Bus>> {
    let mut buses = BTreeMap::new();
    let mut last = 0;
    number(ROOT, Vec::new(), &mut last, bridges, &mut buses)?;
    for own in bridges.iter().filter(|own| own.kind == BridgeKind::PxbPcie) {
        let at = own.bus_nr.unwrap_or(0);
        ensure!(at > last, "{} needs a bus_nr above {last}", own.name);
        last = at;
        number(&own.name, Vec::new(), &mut last, bridges, &mut buses)?;
    }
    if let Some(lost) = bridges
        .iter()
        .find(|bridge| !buses.contains_key(&*bridge.name))
    {
        bail!(
            "the bridge {} is on `{}`, which nothing leads to",
            lost.name,
            lost.on
        );
    }
    Ok(buses)
}

/// Numbers the bus of this name and those behind it.
fn number<'a>(
    name: &'a str,
    above: Vec<u16>,
    last: &mut u8,
    bridges: &'a [Bridge],
    buses: &mut BTreeMap<&'a str, Bus>,
) -> Result<()> {
    let bus = Bus {
        number: *last,
        above,
    };
    let mut here: Vec<&Bridge> = bridges
        .iter()
        .filter(|bridge| bridge.on == name && bridge.kind != BridgeKind::PxbPcie)
        .collect();
    here.sort_by_key(|bridge| (bridge.slot, bridge.function));
    ensure!(
        buses.insert(name, bus.clone()).is_none(),
        "two bridges are called {name}"
    );
    for bridge in here {
        *last = last.checked_add(1).context("there are too many buses")?;
        let mut above = vec![source_id(bus.number, bridge.slot, bridge.function)];
        above.extend(&bus.above);
        number(&bridge.name, above, last, bridges, buses)?;
    }
    Ok(())
}

fn source_id(bus: u8, slot: u8, function: u8) -> u16 {
    u16::from(bus) << 8 | u16::from(slot & 31) << 3 | u16::from(function & 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cards(text: &str) -> Result<Vec<Card>> {
        #[derive(Deserialize)]
        struct Parts {
            #[serde(default)]
            bridge: Vec<Bridge>,
            card: Vec<Function>,
        }
        let parts: Parts = toml::from_str(text)?;
        place(&parts.bridge, &parts.card)
    }

    #[test]
    fn buses_are_numbered_depth_first_in_the_order_of_slots() {
        // The switch comes later in the file and earlier on the bus.
        let text = "bridge = [
            { name = 'p2', kind = 'pcie-root-port', slot = 4, function = 1 },
            { name = 'p1', kind = 'pcie-root-port', slot = 4 },
            { name = 'up', kind = 'x3130-upstream', on = 'p1' },
            { name = 'down', kind = 'xio3130-downstream', on = 'up', slot = 3 },
            { name = 'own', kind = 'pxb-pcie', slot = 9, bus_nr = 0x20 },
            { name = 'p3', kind = 'pcie-root-port', on = 'own', slot = 1 },
        ]
        card = [
            { name = 'a', kind = 'igb', on = 'p2' },
            { name = 'b', kind = 'igb', on = 'down', function = 1 },
            { name = 'c', kind = 'igb', on = 'p3' },
            { name = 'd', kind = 'igb', on = 'pcie.0', slot = 7 },
        ]";
        let cards = cards(text).expect("a topology");
        let places: Vec<_> = cards
            .iter()
            .map(|card| (card.number, card.bdf.as_str(), card.above.clone()))
            .collect();
        assert_eq!(
            places,
            [
                (1, "0000:04:00.0", vec![0x21]),
                (2, "0000:03:00.1", vec![0x218, 0x100, 0x20]),
                (3, "0000:21:00.0", vec![0x2008]),
                (4, "0000:00:07.0", vec![]),
            ]
        );
        assert_eq!(cards[1].source_id, 0x301);
    }

    #[test]
    fn a_crowd_fills_slots_with_ports() {
        let crowd = Crowd {
            kind: PlainKind::VirtioRngPci,
            slot: 8,
            count: 10,
            options: BTreeMap::new(),
        };
        let ports: Vec<_> = crowd.ports().collect();
        let last = ports.last().expect("a port");
        assert_eq!((last.slot, last.function, last.chassis), (9, 1, Some(109)));
        let places = behind(&crowd, &ports).expect("a crowd");
        assert_eq!(places.len(), 10);
        assert_eq!(places[9], "0000:0a:00.0");
    }

    #[test]
    fn what_can_not_be_is_refused() {
        let port = "{ name = 'p', kind = 'pcie-root-port' }";
        for (bridges, names, words) in [
            (port.to_owned(), ["a", "a"], "two cards are called a"),
            (port.to_owned(), ["a", "b"], "in one place"),
            (format!("{port}, {port}"), ["a", "b"], "two bridges"),
            (port.replace("'p'", "'q'"), ["a", "b"], "is not there"),
            (
                format!("{port}, {{ name = 'x', kind = 'x3130-upstream', on = 'y' }}"),
                ["a", "b"],
                "nothing leads to",
            ),
        ] {
            let card = |(name, function)| {
                format!("{{ name = '{name}', kind = 'igb', on = 'p', function = {function} }}")
            };
            let function = u8::from(words.starts_with("two cards"));
            let both = [card((names[0], 0)), card((names[1], function))].join(", ");
            let text = format!("bridge = [{bridges}]\ncard = [{both}]");
            let error = cards(&text).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
