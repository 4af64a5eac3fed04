// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What QEMU traces, and whether it is something that a preserved device may not meet.

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
pub(super) enum Event {
    /// The IOMMU blocked a DMA of this source id, for a reason by the IOMMU's own numbers.
    Fault(u16, u32),
    /// It blocked one and did not report it, because an entry told it not to: nothing names the device.
    HiddenFault,
    /// Translation was switched on or off.
    Translation(bool),
    /// Interrupt remapping was switched on or off.
    Remapping(bool),
    /// The IOMMU's command register was written.
    Command {
        /// It translated before, and was told not to.
        stops_translation: bool,
    },
    /// A configuration register of this source id was written: its offset, and what.
    Config(u16, u32, u32),
    /// A card was reset through its own registers.
    CardReset,
}

/// The number behind a word.
pub(super) fn after<T: TryFrom<u64>>(words: &[&str], key: &str) -> Option<T> {
    let at = words.iter().position(|word| *word == key)?;
    number(words.get(at + 1)?)
}

/// Decimal, or hexadecimal after `0x`, a comma behind it allowed; it has to fit.
pub(super) fn number<T: TryFrom<u64>>(text: &str) -> Option<T> {
    let text = text.trim_end_matches(',');
    let number = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => text.parse().ok()?,
    };
    number.try_into().ok()
}

/// Something that a preserved device may not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Harm {
    /// A function level reset was started.
    #[error("function level reset")]
    FunctionReset,
    /// The bus behind a bridge above the device was reset.
    #[error("secondary bus reset")]
    BusReset,
    /// The card was reset through its registers.
    #[error("reset by the card's own register")]
    CardReset,
    /// The device was put into another power state than D0.
    #[error("power state changed")]
    PowerState,
    /// The device's bus mastering was switched off.
    #[error("bus mastering off")]
    BusMasterOff,
    /// Bus mastering of a bridge above the device was switched off.
    #[error("bus mastering of a bridge above it off")]
    PortBusMasterOff,
    /// Translation was switched off.
    #[error("translation off")]
    TranslationOff,
    /// Interrupt remapping was switched off: the device may interrupt any processor.
    #[error("interrupt remapping off")]
    RemappingOff,
}

impl Harm {
    /// It leaves the device without its state, or may.
    pub fn is_reset(self) -> bool {
        matches!(
            self,
            Self::FunctionReset | Self::BusReset | Self::CardReset | Self::PowerState
        )
    }
}

/// What an event does to a card.
pub(super) fn harm(event: Event, card: &Card) -> Option<Harm> {
    let to_card = |offset, value| match offset {
        COMMAND if value & BUS_MASTER == 0 => Some(Harm::BusMasterOff),
        DEVICE_CONTROL if value & FUNCTION_LEVEL_RESET != 0 => Some(Harm::FunctionReset),
        POWER_CONTROL if value & POWER_STATE != 0 => Some(Harm::PowerState),
        _ => None,
    };
    match event {
        Event::Config(id, offset, value) if id == card.source_id => to_card(offset, value),
        Event::Config(id, offset, value) if card.above.contains(&id) => match offset {
            COMMAND if value & BUS_MASTER == 0 => Some(Harm::PortBusMasterOff),
            BRIDGE_CONTROL if value & SECONDARY_BUS_RESET != 0 => Some(Harm::BusReset),
            _ => None,
        },
        Event::Translation(on) => (!on).then_some(Harm::TranslationOff),
        Event::Remapping(on) => (!on).then_some(Harm::RemappingOff),
        Event::Command { stops_translation } => stops_translation.then_some(Harm::TranslationOff),
        Event::CardReset => Some(Harm::CardReset),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::profile::Profile;

    #[test]
    fn each_harm_is_seen_and_ordinary_writes_are_not() {
        let profile = Profile::load("legacy").expect("built in");
        let [one, two]: [Card; 2] = profile.cards.try_into().expect("two cards");
        let (id, port) = (one.source_id, one.above[0]);
        let command = |stops_translation| Event::Command { stops_translation };
        for (event, expected) in [
            (Event::Config(id, 4, 0x103), Some(Harm::BusMasterOff)),
            (Event::Config(id, 4, 0x104), None),
            (Event::Config(id, 0xa8, 0x8010), Some(Harm::FunctionReset)),
            (Event::Config(id, 0xa8, 0x2810), None),
            (Event::Config(id, 0x44, 3), Some(Harm::PowerState)),
            (Event::Config(id, 0x44, 8), None),
            (Event::Config(port, 4, 0x103), Some(Harm::PortBusMasterOff)),
            (Event::Config(port, 0x3e, 0x40), Some(Harm::BusReset)),
            (Event::Config(two.source_id, 4, 0), None),
            (Event::Config(two.above[0], 0x3e, 0x40), None),
            (Event::Translation(false), Some(Harm::TranslationOff)),
            (Event::Translation(true), None),
            (Event::Remapping(false), Some(Harm::RemappingOff)),
            (Event::Remapping(true), None),
            (command(true), Some(Harm::TranslationOff)),
            (command(false), None),
            (Event::CardReset, Some(Harm::CardReset)),
        ] {
            assert_eq!(harm(event, &one), expected, "{event:?}");
        }
    }
}
