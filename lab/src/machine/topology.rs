// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where a profile's cards are: the addresses that firmware and kernel give them.
//!
//! Buses are numbered depth first, in the order of slots and functions.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{ensure, Context, Result};
use hitless_proto::Bdf;
use serde::Deserialize;

/// The root bus of every machine.
const ROOT: &str = "pcie.0";

/// Offset of the PCI Express capability's Device Control in QEMU's igb; bit 15 starts a function level reset.
pub const DEVICE_CONTROL: u32 = 0xa8;
/// Offset of the power management Control/Status in QEMU's igb; bits 1:0 are the power state.
pub const POWER_CONTROL: u32 = 0x44;

/// A bridge or a card as a profile has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// What tests call it, and what the bus behind it is called.
    pub name: String,
    /// What it is, by QEMU's name.
    pub kind: String,
    /// The bus that it is on: the root, or that of a bridge before it.
    #[serde(default = "root")]
    pub on: String,
    /// Its place there.
    #[serde(default)]
    pub slot: u8,
    /// Its function in that slot.
    #[serde(default)]
    pub function: u8,
    /// A port's chassis number, which no other port may have.
    pub chassis: Option<u8>,
    /// More properties for QEMU.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// A card with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// What tests call it.
    pub name: String,
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

/// Many functions of one kind that have no wire, each behind a root port of its own and so alone in its IOMMU group.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crowd {
    /// What they are, by QEMU's name.
    pub kind: String,
    /// The first slot of the root that has their ports. Eight ports fill a slot.
    pub slot: u8,
    /// How many.
    pub count: u8,
    /// More properties of each for QEMU.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

impl Crowd {
    /// The chassis number of the first port; single ports have lower ones.
    const CHASSIS: u8 = 100;

    /// The root ports, and the functions behind them.
    pub fn devices(&self) -> (Vec<Device>, Vec<Device>) {
        let port = |index: u8| Device {
            name: format!("crowd{index}"),
            kind: "pcie-root-port".to_owned(),
            on: root(),
            slot: self.slot.saturating_add(index / 8),
            function: index % 8,
            chassis: Some(Self::CHASSIS.saturating_add(index)),
            // Nothing is plugged in later, so that firmware has no port addresses to set aside, of which there are few.
            options: BTreeMap::from([("hotplug".to_owned(), "off".to_owned())]),
        };
        let member = |index: u8| Device {
            name: format!("member{index}"),
            kind: self.kind.clone(),
            on: format!("crowd{index}"),
            slot: 0,
            function: 0,
            chassis: None,
            options: self.options.clone(),
        };
        let all = 0..self.count;
        (all.clone().map(port).collect(), all.map(member).collect())
    }
}

fn root() -> String {
    ROOT.to_owned()
}

/// Gives the cards their places.
///
/// # Errors
///
/// When two devices have one name, or one is on a bus that no bridge before it leads to.
pub fn place(bridges: &[Device], cards: &[Device]) -> Result<Vec<Card>> {
    let mut names = BTreeSet::from([ROOT]);
    for device in bridges.iter().chain(cards) {
        let Device { name, on, .. } = device;
        ensure!(
            names.contains(&**on),
            "{name} is on `{on}`, which no bridge before it leads to"
        );
        ensure!(names.insert(name), "two devices are called {name}");
    }
    let mut buses = Vec::new();
    number(ROOT, &[], bridges, &mut buses);
    let place_of = |(card, number): (&Device, u8)| {
        let mut numbered = buses.iter().zip(0..);
        let ((_, above), bus) = numbered
            .find(|((name, _), _)| *name == card.on)
            .with_context(|| format!("{} is on `{}`, which is no bridge", card.name, card.on))?;
        let source_id = source_id(bus, card);
        Ok(Card {
            name: card.name.clone(),
            number,
            bdf: Bdf::from_number(source_id.into()).to_string(),
            source_id,
            above: above.clone(),
        })
    };
    cards.iter().zip(1..).map(place_of).collect()
}

/// Adds the bus of this name and those behind it, each with the bridges that lead there.
fn number<'a>(
    name: &'a str,
    above: &[u16],
    bridges: &'a [Device],
    buses: &mut Vec<(&'a str, Vec<u16>)>,
) {
    let bus = u16::try_from(buses.len()).unwrap_or(u16::MAX);
    buses.push((name, above.to_vec()));
    let mut here: Vec<&Device> = bridges.iter().filter(|bridge| bridge.on == name).collect();
    here.sort_by_key(|bridge| (bridge.slot, bridge.function));
    for bridge in here {
        let above = [&[source_id(bus, bridge)], above].concat();
        number(&bridge.name, &above, bridges, buses);
    }
}

fn source_id(bus: u16, device: &Device) -> u16 {
    bus << 8 | u16::from(device.slot & 31) << 3 | u16::from(device.function & 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cards(bridges: &str, cards: &str) -> Result<Vec<Card>> {
        #[derive(Deserialize)]
        struct Parts {
            bridge: Vec<Device>,
            card: Vec<Device>,
        }
        let parts: Parts = toml::from_str(&format!("bridge = [{bridges}]\ncard = [{cards}]"))?;
        place(&parts.bridge, &parts.card)
    }

    #[test]
    fn buses_are_numbered_depth_first_in_the_order_of_slots() {
        // The switch comes later in the file and earlier on the bus.
        let bridges = "
            { name = 'p2', kind = 'pcie-root-port', slot = 4, function = 1 },
            { name = 'p1', kind = 'pcie-root-port', slot = 4 },
            { name = 'up', kind = 'x3130-upstream', on = 'p1' },
            { name = 'down', kind = 'xio3130-downstream', on = 'up', slot = 3 },
        ";
        let functions = "
            { name = 'a', kind = 'igb', on = 'p2' },
            { name = 'b', kind = 'igb', on = 'down', function = 1 },
            { name = 'c', kind = 'igb', slot = 7 },
        ";
        let cards = cards(bridges, functions).expect("a topology");
        let places: Vec<_> = cards
            .iter()
            .map(|card| (card.number, card.bdf.as_str(), card.above.clone()))
            .collect();
        assert_eq!(
            places,
            [
                (1, "0000:04:00.0", vec![0x21]),
                (2, "0000:03:00.1", vec![0x218, 0x100, 0x20]),
                (3, "0000:00:07.0", vec![]),
            ]
        );
        assert_eq!(cards[1].source_id, 0x301);
    }

    #[test]
    fn a_crowd_fills_slots_with_ports() {
        let crowd = Crowd {
            kind: "virtio-rng-pci".to_owned(),
            slot: 8,
            count: 10,
            options: BTreeMap::new(),
        };
        let (ports, members) = crowd.devices();
        let last = ports.last().expect("a port");
        assert_eq!((last.slot, last.function, last.chassis), (9, 1, Some(109)));
        let places = place(&ports, &members).expect("a crowd");
        assert_eq!(places[9].bdf, "0000:0a:00.0");
    }

    #[test]
    fn what_can_not_be_is_refused() {
        let devices = |kind: &str, all: &str| {
            let all = all.split(' ').filter_map(|one| one.split_once('='));
            all.map(|(name, on)| format!("{{name='{name}',on='{on}',kind='{kind}'}},"))
                .collect::<String>()
        };
        for (bridges, functions, words) in [
            ("p=pcie.0 q=p", "a=p a=p", "are called a"),
            ("p=pcie.0 p=pcie.0", "a=p b=p", "are called p"),
            ("q=p p=pcie.0", "a=p b=p", "q is on `p`"),
            ("p=pcie.0 q=p", "a=p b=a", "is no bridge"),
        ] {
            let all = cards(
                &devices("pcie-root-port", bridges),
                &devices("igb", functions),
            );
            let error = all.expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
