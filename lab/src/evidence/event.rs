// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What QEMU traces, and whether it is something that a preserved device may not meet.

use crate::machine::clock::Ns;
use crate::machine::topology::{Card, DEVICE_CONTROL, POWER_CONTROL};

/// Command register, and its bus master bit.
const COMMAND: u32 = 0x04;
const BUS_MASTER: u32 = 1 << 2;
/// A bridge's control register, and its secondary bus reset bit.
const BRIDGE_CONTROL: u32 = 0x3e;
const SECONDARY_BUS_RESET: u32 = 1 << 6;
/// Device Control: initiate function level reset.
const FUNCTION_LEVEL_RESET: u32 = 1 << 15;
/// Power management Control/Status: the power state.
const POWER_STATE: u32 = 3;

/// One thing that QEMU traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The IOMMU blocked a DMA.
    Fault {
        /// Bus, device, function.
        source_id: u16,
        /// Fault reason, by the IOMMU's own numbers.
        reason: u32,
    },
    /// It blocked one and did not report it, because an entry told it not to: nothing names the device.
    HiddenFault,
    /// Translation was switched on or off.
    Translation(bool),
    /// The IOMMU's command register was written.
    Command {
        /// It translated before, and was told not to.
        stops_translation: bool,
    },
    /// A configuration register was written.
    Config {
        /// Bus, device, function.
        source_id: u16,
        /// Register.
        offset: u32,
        /// What was written.
        value: u32,
    },
    /// A card was reset through its own registers.
    CardReset,
}

/// An event and when it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traced {
    /// When.
    pub at: Ns,
    /// What.
    pub event: Event,
}

/// The words of an event behind its name.
pub(super) struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    /// The name of an event, and its words.
    pub(super) fn of(text: &'a str) -> Option<(&'a str, Self)> {
        let mut words = text.split_whitespace();
        Some((words.next()?, Self(words.collect())))
    }

    /// All of them.
    pub(super) fn all(&self) -> &[&'a str] {
        &self.0
    }

    /// The number behind this word.
    pub(super) fn after(&self, key: &str) -> Option<u64> {
        let at = self.0.iter().position(|word| *word == key)?;
        number(self.0.get(at + 1)?)
    }
}

/// A number that has to fit into a register.
pub(super) fn narrow(value: u64) -> Option<u32> {
    u32::try_from(value).ok()
}

/// Decimal, or hexadecimal after `0x`, a comma behind it allowed.
pub(super) fn number(text: &str) -> Option<u64> {
    let text = text.trim_end_matches(',');
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Something that a preserved device may not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Harm {
    /// A function level reset was started.
    FunctionReset,
    /// The bus behind a bridge above the device was reset.
    BusReset,
    /// The card was reset through its registers.
    CardReset,
    /// The device was put into another power state than D0.
    PowerState,
    /// The device's bus mastering was switched off.
    BusMasterOff,
    /// Bus mastering of a bridge above the device was switched off.
    PortBusMasterOff,
    /// Translation was switched off.
    TranslationOff,
}

impl Harm {
    /// It leaves the device without its state, or may.
    pub fn is_reset(self) -> bool {
        matches!(
            self,
            Self::FunctionReset | Self::BusReset | Self::CardReset | Self::PowerState
        )
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::FunctionReset => "function level reset",
            Self::BusReset => "secondary bus reset",
            Self::CardReset => "reset by the card's own register",
            Self::PowerState => "power state changed",
            Self::BusMasterOff => "bus mastering off",
            Self::PortBusMasterOff => "bus mastering of a bridge above it off",
            Self::TranslationOff => "translation off",
        }
    }
}

/// What an event does to a card.
pub(super) fn harm(event: Event, card: &Card) -> Option<Harm> {
    match event {
        Event::Config {
            source_id,
            offset,
            value,
        } if source_id == card.source_id => match offset {
            COMMAND if value & BUS_MASTER == 0 => Some(Harm::BusMasterOff),
            DEVICE_CONTROL if value & FUNCTION_LEVEL_RESET != 0 => Some(Harm::FunctionReset),
            POWER_CONTROL if value & POWER_STATE != 0 => Some(Harm::PowerState),
            _ => None,
        },
        Event::Config {
            source_id,
            offset,
            value,
        } if card.above.contains(&source_id) => match offset {
            COMMAND if value & BUS_MASTER == 0 => Some(Harm::PortBusMasterOff),
            BRIDGE_CONTROL if value & SECONDARY_BUS_RESET != 0 => Some(Harm::BusReset),
            _ => None,
        },
        Event::Translation(false)
        | Event::Command {
            stops_translation: true,
        } => Some(Harm::TranslationOff),
        Event::CardReset => Some(Harm::CardReset),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::profile::Profile;

    fn cards() -> [Card; 2] {
        let profile = Profile::load("legacy").expect("built in");
        profile.cards.try_into().expect("two cards")
    }

    #[test]
    fn each_harm_is_seen_and_ordinary_writes_are_not() {
        let [one, two] = cards();
        let config = |source_id, offset, value| Event::Config {
            source_id,
            offset,
            value,
        };
        let cases = [
            (config(one.source_id, 4, 0x103), Some(Harm::BusMasterOff)),
            (config(one.source_id, 4, 0x104), None),
            (
                config(one.source_id, 0xa8, 0x8010),
                Some(Harm::FunctionReset),
            ),
            (config(one.source_id, 0xa8, 0x2810), None),
            (config(one.source_id, 0x44, 3), Some(Harm::PowerState)),
            (config(one.source_id, 0x44, 8), None),
            (config(one.above[0], 4, 0x103), Some(Harm::PortBusMasterOff)),
            (config(one.above[0], 0x3e, 0x40), Some(Harm::BusReset)),
            (config(two.source_id, 4, 0), None),
            (config(two.above[0], 0x3e, 0x40), None),
            (Event::Translation(false), Some(Harm::TranslationOff)),
            (Event::Translation(true), None),
            (
                Event::Command {
                    stops_translation: true,
                },
                Some(Harm::TranslationOff),
            ),
            (
                Event::Command {
                    stops_translation: false,
                },
                None,
            ),
            (Event::CardReset, Some(Harm::CardReset)),
        ];
        for (event, expected) in cases {
            assert_eq!(harm(event, &one), expected, "{event:?}");
        }
    }
}
