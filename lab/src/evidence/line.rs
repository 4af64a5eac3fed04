// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads one line of QEMU's trace.

use std::time::UNIX_EPOCH;

use crate::evidence::event::{narrow, number, Event, Traced, Words};
use crate::evidence::iommu;
use crate::machine::clock::Clock;

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

/// Reads a line such as `1234@1700000000.123456:pci_cfg_write igb 01:00.0 @0x4 <- 0x103`.
pub(super) fn parse_line(line: &str, clock: Clock) -> Parsed {
    let Some((us, name, words)) = split(line) else {
        return match judged().any(|name| line.contains(name)) {
            true => Parsed::Unread,
            false => Parsed::Other,
        };
    };
    if judged().all(|other| other != name) {
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
fn split(line: &str) -> Option<(u64, &str, Words<'_>)> {
    let (us, rest) = stamped(line)?;
    let (name, words) = Words::of(rest)?;
    Some((us, name, words))
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

/// Events that mean something to the judge, and that no IOMMU has.
const JUDGED: [&str; 3] = [
    "pci_cfg_write",
    "e1000e_core_ctrl_sw_reset",
    "e1000e_core_ctrl_phy_reset",
];

/// All that mean something to the judge.
fn judged() -> impl Iterator<Item = &'static str> {
    JUDGED.into_iter().chain(iommu::JUDGED)
}

fn event(name: &str, words: &Words<'_>) -> Option<Event> {
    Some(match name {
        "pci_cfg_write" => {
            let [_, place, offset, "<-", value] = *words.all() else {
                return None;
            };
            Event::Config {
                source_id: source_id(place)?,
                offset: narrow(number(offset.strip_prefix('@')?)?)?,
                value: narrow(number(value)?)?,
            }
        }
        "e1000e_core_ctrl_sw_reset" | "e1000e_core_ctrl_phy_reset" => Event::CardReset,
        _ => return iommu::event(name, words),
    })
}

/// Reads `01:00.0`.
fn source_id(text: &str) -> Option<u16> {
    let (bus, rest) = text.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let part = |text| u16::from_str_radix(text, 16).ok();
    Some(part(bus)? << 8 | part(device)? << 3 | part(function)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::iommu::recorded;

    fn event(rest: &str) -> Parsed {
        parse_line(&format!("77@1700000000.000001:{rest}"), Clock::start())
    }

    #[test]
    fn lines_are_read() {
        let cases = [
            (
                recorded::FIRST_FAULTS,
                Event::Fault {
                    source_id: 0x100,
                    reason: 2,
                },
            ),
            (recorded::HIDDEN, Event::HiddenFault),
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
        let event = "pci_cfg_write igb 01:00.0 @0x4 <- 0x103";
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
            recorded::TORN,
        ] {
            assert_eq!(event(line), Parsed::Unread, "{line}");
        }
        let clock = Clock::start();
        assert_eq!(parse_line(recorded::FIRST_FAULTS, clock), Parsed::Unread);
        for line in [recorded::OTHER, "nonsense"] {
            assert_eq!(event(line), Parsed::Other, "{line}");
        }
        assert_eq!(
            parse_line("qemu-system-x86_64: warning", clock),
            Parsed::Other
        );
    }
}
