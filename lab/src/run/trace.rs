// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU's trace: what the emulated VT-d and the PCI configuration space say of a run.

use std::collections::BTreeSet;

use crate::run::clock::{Clock, Ns};
use crate::run::qemu::{Slot, IGB_DEVICE_CONTROL, IGB_POWER_CONTROL};

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
pub(crate) enum Event {
    /// The VT-d unit blocked a DMA.
    Fault {
        /// Bus, device, function.
        source_id: u16,
        /// Fault reason.
        reason: u32,
        /// The address that the device used.
        address: u64,
    },
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
    /// A card can not take a frame.
    CannotReceive {
        /// Bus mastering is off.
        master_off: bool,
    },
    /// A card was reset through its own registers.
    CardReset,
}

/// An event and when it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Traced {
    /// When.
    pub(crate) at: Ns,
    /// What.
    pub(crate) event: Event,
}

/// Reads a trace; lines that mean nothing to the judge are left out.
pub(crate) fn parse(text: &str, clock: Clock) -> Vec<Traced> {
    text.lines()
        .filter_map(|line| parse_line(line, clock))
        .collect()
}

/// Reads a line such as `1234@1700000000.123456:vtd_dmar_fault sid 0x100 fault 2 addr 0x1000 write 1`.
fn parse_line(line: &str, clock: Clock) -> Option<Traced> {
    let (stamp, rest) = line.split_once(':')?;
    let (_, time) = stamp.split_once('@')?;
    let (seconds, micros) = time.split_once('.')?;
    let us = seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?;
    let mut words = rest.split_whitespace();
    let name = words.next()?;
    let words: Vec<&str> = words.collect();
    let after = |key: &str| {
        let at = words.iter().position(|word| *word == key)?;
        number(words.get(at + 1)?)
    };
    let narrow = |value: u64| u32::try_from(value).ok();
    let event = match name {
        "vtd_dmar_fault" => Event::Fault {
            source_id: u16::try_from(after("sid")?).ok()?,
            reason: narrow(after("fault")?)?,
            address: after("addr")?,
        },
        "vtd_dmar_enable" => Event::Translation(after("enable")? != 0),
        "vtd_reg_write_gcmd" => Event::GlobalCommand {
            status: narrow(after("status")?)?,
            value: narrow(after("value")?)?,
        },
        "pci_cfg_write" => {
            let [_, place, offset, "<-", value] = words[..] else {
                return None;
            };
            Event::Config {
                source_id: source_id(place)?,
                offset: narrow(number(offset.strip_prefix('@')?)?)?,
                value: narrow(number(value)?)?,
            }
        }
        "e1000x_rx_can_recv_disabled" => Event::CannotReceive {
            master_off: after("pci_master")? == 0,
        },
        "e1000e_core_ctrl_sw_reset" | "e1000e_core_ctrl_phy_reset" => Event::CardReset,
        _ => return None,
    };
    Some(Traced {
        at: clock.of_unix_us(us),
        event,
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
pub(crate) enum Harm {
    /// A function level reset was started.
    FunctionReset,
    /// The bus behind the root port was reset.
    BusReset,
    /// The card was reset through its registers.
    CardReset,
    /// The device was put into another power state than D0.
    PowerState,
    /// The device's bus mastering was switched off.
    BusMasterOff,
    /// The root port's bus mastering was switched off.
    PortBusMasterOff,
    /// Translation was switched off.
    TranslationOff,
}

impl Harm {
    /// It leaves the device without its state, or may.
    pub(crate) fn is_reset(self) -> bool {
        matches!(
            self,
            Self::FunctionReset | Self::BusReset | Self::CardReset | Self::PowerState
        )
    }

    /// In words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::FunctionReset => "function level reset",
            Self::BusReset => "secondary bus reset",
            Self::CardReset => "reset by the card's own register",
            Self::PowerState => "power state changed",
            Self::BusMasterOff => "bus mastering off",
            Self::PortBusMasterOff => "bus mastering of the root port off",
            Self::TranslationOff => "translation off",
        }
    }
}

/// What was done to the card in `slot` between two moments.
pub(crate) fn harms(trace: &[Traced], slot: Slot, from: Ns, to: Ns) -> Vec<(Ns, Harm)> {
    within(trace, from, to)
        .filter_map(|traced| Some((traced.at, harm(traced.event, slot)?)))
        .collect()
}

fn harm(event: Event, slot: Slot) -> Option<Harm> {
    match event {
        Event::Config {
            source_id,
            offset,
            value,
        } if source_id == slot.source_id => match offset {
            COMMAND if value & BUS_MASTER == 0 => Some(Harm::BusMasterOff),
            IGB_DEVICE_CONTROL if value & FUNCTION_LEVEL_RESET != 0 => Some(Harm::FunctionReset),
            IGB_POWER_CONTROL if value & POWER_STATE != 0 => Some(Harm::PowerState),
            _ => None,
        },
        Event::Config {
            source_id,
            offset,
            value,
        } if source_id == slot.port_source_id => match offset {
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

/// How many of a device's DMAs were blocked between two moments.
pub(crate) fn faults(trace: &[Traced], source: u16, from: Ns, to: Ns) -> Faults {
    let mut faults = Faults::default();
    for traced in within(trace, from, to) {
        match traced.event {
            Event::Fault {
                source_id, reason, ..
            } if source_id == source => faults.add(traced.at, reason),
            _ => {}
        }
    }
    faults
}

/// The blocked DMAs of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// How many.
    pub(crate) count: u64,
    /// When the first was.
    pub(crate) first: Option<Ns>,
    /// Their reasons (VT-d 7.1.3).
    pub(crate) reasons: BTreeSet<u32>,
}

impl Faults {
    fn add(&mut self, at: Ns, reason: u32) {
        self.count += 1;
        self.first.get_or_insert(at);
        self.reasons.insert(reason);
    }
}

fn within(trace: &[Traced], from: Ns, to: Ns) -> impl Iterator<Item = &Traced> {
    trace
        .iter()
        .filter(move |traced| (from..=to).contains(&traced.at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::qemu::SLOTS;

    fn event(rest: &str) -> Option<Event> {
        parse_line(&format!("77@1700000000.000001:{rest}"), Clock::start())
            .map(|traced| traced.event)
    }

    #[test]
    fn lines_are_read() {
        assert_eq!(
            event("vtd_dmar_fault sid 0x100 fault 91 addr 0x100000000 write 1"),
            Some(Event::Fault {
                source_id: 0x100,
                reason: 91,
                address: 1 << 32
            })
        );
        assert_eq!(
            event("vtd_dmar_enable enable 0"),
            Some(Event::Translation(false))
        );
        assert_eq!(
            event("pci_cfg_write igb 01:00.0 @0x4 <- 0x103"),
            Some(Event::Config {
                source_id: 0x100,
                offset: 4,
                value: 0x103
            })
        );
        assert_eq!(
            event("e1000x_rx_can_recv_disabled link_up: 1, rx_enabled 1, pci_master 0"),
            Some(Event::CannotReceive { master_off: true })
        );
        assert_eq!(
            event("e1000e_core_ctrl_sw_reset Doing SW reset"),
            Some(Event::CardReset)
        );
        assert_eq!(event("vtd_reg_dmar_root addr 0x1000 scalable 0"), None);
        assert_eq!(event("pci_cfg_write igb"), None);
    }

    #[test]
    fn each_harm_is_seen_and_ordinary_writes_are_not() {
        let [one, two] = SLOTS;
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
            (
                config(one.port_source_id, 4, 0x103),
                Some(Harm::PortBusMasterOff),
            ),
            (config(one.port_source_id, 0x3e, 0x40), Some(Harm::BusReset)),
            (config(two.source_id, 4, 0), None),
            (config(two.port_source_id, 0x3e, 0x40), None),
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
            assert_eq!(harm(event, one), expected, "{event:?}");
        }
    }

    #[test]
    fn only_the_devices_own_faults_in_the_window_count() {
        let fault = |at, source_id| Traced {
            at,
            event: Event::Fault {
                source_id,
                reason: 2,
                address: 0,
            },
        };
        let trace = [
            fault(1, 0x100),
            fault(5, 0x100),
            fault(6, 0x200),
            fault(9, 0x100),
        ];
        let seen = faults(&trace, 0x100, 2, 8);
        assert_eq!((seen.count, seen.first), (1, Some(5)));
        assert!(seen.reasons.contains(&2));
    }
}
