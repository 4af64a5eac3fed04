// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One line of QEMU's trace: what it says, and whether that is something a preserved device may not meet.

use std::time::UNIX_EPOCH;

use crate::machine::clock::{Clock, Ns};
use crate::machine::topology::Card;

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
/// Global Command: translation enable.
const TRANSLATION_ENABLE: u32 = 1 << 31;

/// One thing that QEMU traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The VT-d unit blocked a DMA.
    Fault {
        /// Bus, device, function.
        source_id: u16,
        /// Fault reason.
        reason: u32,
    },
    /// It blocked one and did not report it, because an entry told it not to: nothing names the device.
    HiddenFault,
    /// Translation was switched on or off.
    Translation(bool),
    /// The Global Command register was written.
    GlobalCommand {
        /// Global Status before.
        status: u32,
        /// What was written.
        value: u32,
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

/// What a line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// An event.
    Event(Traced),
    /// One that should be an event and can not be read.
    Unread,
    /// Nothing to the judge.
    Other,
}

/// Reads a line such as `1234@1700000000.123456:vtd_dmar_fault sid 0x100 fault 2 addr 0x1000 write 1`.
pub(super) fn parse_line(line: &str, clock: Clock) -> Parsed {
    let Some((us, name, words)) = split(line) else {
        return match JUDGED.iter().any(|name| line.contains(name)) {
            true => Parsed::Unread,
            false => Parsed::Other,
        };
    };
    if !JUDGED.contains(&name) {
        return Parsed::Other;
    }
    match event(name, &words) {
        Some(event) => Parsed::Event(Traced {
            at: clock.of_unix_us(us),
            event,
        }),
        None => Parsed::Unread,
    }
}

/// The stamp in microseconds since 1970, the event's name, and its words.
fn split(line: &str) -> Option<(u64, &str, Vec<&str>)> {
    let (us, rest) = stamped(line)?;
    let mut words = rest.split_whitespace();
    let name = words.next()?;
    Some((us, name, words.collect()))
}

/// A stamp and what is behind it: `1234@1700000000.123456:` until QEMU 10, `2026-11-25T21:56:48.939929Z ` since 11.
fn stamped(line: &str) -> Option<(u64, &str)> {
    if let Some((date, rest)) = line.split_once("Z ") {
        if let Ok(time) = humantime::parse_rfc3339(&format!("{date}Z")) {
            let since = time.duration_since(UNIX_EPOCH).ok()?;
            return Some((u64::try_from(since.as_micros()).ok()?, rest));
        }
    }
    let (stamp, rest) = line.split_once(':')?;
    let (_, time) = stamp.split_once('@')?;
    let (seconds, micros) = time.split_once('.')?;
    let us = seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?;
    Some((us, rest))
}

/// Events of [`TRACE_EVENTS`](crate::machine::qemu::TRACE_EVENTS) that mean something to the judge.
const JUDGED: [&str; 7] = [
    "vtd_dmar_fault",
    "vtd_fault_disabled",
    "vtd_dmar_enable",
    "vtd_reg_write_gcmd",
    "pci_cfg_write",
    "e1000e_core_ctrl_sw_reset",
    "e1000e_core_ctrl_phy_reset",
];

fn event(name: &str, words: &[&str]) -> Option<Event> {
    let after = |key: &str| {
        let at = words.iter().position(|word| *word == key)?;
        number(words.get(at + 1)?)
    };
    let narrow = |value: u64| u32::try_from(value).ok();
    Some(match name {
        "vtd_dmar_fault" => Event::Fault {
            source_id: u16::try_from(after("sid")?).ok()?,
            reason: narrow(after("fault")?)?,
        },
        "vtd_fault_disabled" => Event::HiddenFault,
        "vtd_dmar_enable" => Event::Translation(after("enable")? != 0),
        "vtd_reg_write_gcmd" => Event::GlobalCommand {
            status: narrow(after("status")?)?,
            value: narrow(after("value")?)?,
        },
        "pci_cfg_write" => {
            let [_, place, offset, "<-", value] = *words else {
                return None;
            };
            Event::Config {
                source_id: source_id(place)?,
                offset: narrow(number(offset.strip_prefix('@')?)?)?,
                value: narrow(number(value)?)?,
            }
        }
        "e1000e_core_ctrl_sw_reset" | "e1000e_core_ctrl_phy_reset" => Event::CardReset,
        _ => return None,
    })
}

/// Decimal, or hexadecimal after `0x`, a comma behind it allowed.
fn number(text: &str) -> Option<u64> {
    let text = text.trim_end_matches(',');
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Reads `01:00.0`.
fn source_id(text: &str) -> Option<u16> {
    let (bus, rest) = text.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let part = |text| u16::from_str_radix(text, 16).ok();
    Some(part(bus)? << 8 | part(device)? << 3 | part(function)?)
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
            _ if offset == card.kind.device_control() && value & FUNCTION_LEVEL_RESET != 0 => {
                Some(Harm::FunctionReset)
            }
            _ if offset == card.kind.power_control() && value & POWER_STATE != 0 => {
                Some(Harm::PowerState)
            }
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
        Event::Translation(false) => Some(Harm::TranslationOff),
        Event::GlobalCommand { status, value }
            if status & TRANSLATION_ENABLE != 0 && value & TRANSLATION_ENABLE == 0 =>
        {
            Some(Harm::TranslationOff)
        }
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

    fn event(rest: &str) -> Parsed {
        parse_line(&format!("77@1700000000.000001:{rest}"), Clock::start())
    }

    #[test]
    fn lines_are_read() {
        let cases = [
            (
                "vtd_dmar_fault sid 0x100 fault 91 addr 0x100000000 write 1",
                Event::Fault {
                    source_id: 0x100,
                    reason: 91,
                },
            ),
            (
                "vtd_fault_disabled Fault processing disabled for context entry",
                Event::HiddenFault,
            ),
            ("vtd_dmar_enable enable 0", Event::Translation(false)),
            (
                "pci_cfg_write igb 01:00.0 @0x4 <- 0x103",
                Event::Config {
                    source_id: 0x100,
                    offset: 4,
                    value: 0x103,
                },
            ),
            ("e1000e_core_ctrl_sw_reset Doing SW reset", Event::CardReset),
        ];
        for (line, expected) in cases {
            let Parsed::Event(Traced { event, .. }) = event(line) else {
                panic!("{line} is not read");
            };
            assert_eq!(event, expected);
        }
    }

    #[test]
    fn stamps_of_every_qemu_are_read() {
        let event = "vtd_dmar_enable enable 0";
        for stamp in ["77@1700000000.250001:", "2023-11-14T22:13:20.250001Z "] {
            let line = format!("{stamp}{event}");
            assert_eq!(stamped(&line), Some((1_700_000_000_250_001, event)));
        }
    }

    #[test]
    fn a_known_event_in_an_unknown_form_is_not_passed_over() {
        for line in [
            "pci_cfg_write igb",
            "pci_cfg_write igb 01:00.0 @0x4 <- 0x103 size 2",
            "vtd_dmar_fault sid 0x100",
        ] {
            assert_eq!(event(line), Parsed::Unread, "{line}");
        }
        let clock = Clock::start();
        let unstamped = "vtd_dmar_fault sid 0x100 fault 91 addr 0x0 write 1";
        assert_eq!(parse_line(unstamped, clock), Parsed::Unread);
        for line in ["vtd_reg_dmar_root addr 0x1000 scalable 0", "nonsense"] {
            assert_eq!(event(line), Parsed::Other, "{line}");
        }
        assert_eq!(
            parse_line("qemu-system-x86_64: warning", clock),
            Parsed::Other
        );
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
                Event::GlobalCommand {
                    status: 0xc700_0000,
                    value: 0x4700_0000,
                },
                Some(Harm::TranslationOff),
            ),
            (
                Event::GlobalCommand {
                    status: 0,
                    value: 0,
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
