// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU's trace: what the emulated IOMMU and the PCI configuration space say of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead};
use std::time::UNIX_EPOCH;

use crate::evidence::event::{harm, number, Event, Harm};
use crate::evidence::iommu;
use crate::machine::clock::{Clock, Ns};
use crate::machine::topology::Card;
use crate::trouble::Trouble;

/// What a trace says.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The card's blocked DMAs, and those that an entry kept the unit from naming a device for.
    pub faults: Often,
    /// The reasons of the card's blocked DMAs, by the IOMMU's own numbers.
    pub reasons: BTreeSet<u32>,
    /// The other card's blocked DMAs from the jump on.
    pub other_faults: u64,
    /// What was done to the card.
    pub harms: BTreeMap<Harm, Often>,
    /// Configuration writes to the card at any time, and writes to the IOMMU's command register.
    config_writes: u64,
    commands: u64,
    /// Lines of an event that is known, in a form that is not: how many, and the first.
    unread: u64,
    first_unread: String,
}

/// How often something was seen, and when first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Often {
    /// How often.
    pub count: u64,
    /// When first.
    pub first: Option<Ns>,
}

impl Often {
    fn add(&mut self, at: Ns) {
        self.count += 1;
        self.first.get_or_insert(at);
    }
}

impl Findings {
    /// What a trace says of the card that is preserved, between the first and the last of three moments, and of the other
    /// one, which may reach nothing from the second on. It is read line by line: a card that faults all the time leaves a
    /// gigabyte.
    pub fn read(
        mut trace: impl BufRead,
        clock: Clock,
        cards: [&Card; 2],
        times: [Ns; 3],
    ) -> io::Result<Self> {
        let mut findings = Self::default();
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            trace.read_until(b'\n', &mut bytes)?;
            // QEMU was killed: what is behind the last newline is not a whole line.
            if bytes.last() != Some(&b'\n') {
                return Ok(findings);
            }
            let line = String::from_utf8_lossy(&bytes);
            let line = line.trim_end();
            if !judged().any(|name| line.contains(name)) {
                continue;
            }
            if let Some((us, event)) = parse(line) {
                findings.add(clock.of_unix_us(us), event, cards, times);
            } else {
                findings.unread += 1;
                if findings.unread == 1 {
                    line.clone_into(&mut findings.first_unread);
                }
            }
        }
    }

    fn add(&mut self, at: Ns, event: Event, cards: [&Card; 2], times: [Ns; 3]) {
        let ([card, other], [from, jumped, to]) = (cards, times);
        match event {
            Event::Config(id, ..) if id == card.source_id => self.config_writes += 1,
            Event::Command { .. } => self.commands += 1,
            _ => {}
        }
        if !(from..=to).contains(&at) {
            return;
        }
        match event {
            Event::Fault(id, reason) if id == card.source_id => {
                self.faults.add(at);
                self.reasons.insert(reason);
            }
            Event::Fault(id, _) if id == other.source_id && at >= jumped => {
                self.other_faults += 1;
            }
            Event::HiddenFault => self.faults.add(at),
            _ => {}
        }
        if let Some(harm) = harm(event, card) {
            self.harms.entry(harm).or_default().add(at);
        }
    }

    /// Why this trace proves less than it should; nothing when it does not.
    pub fn missing(&self) -> Vec<Trouble> {
        let mut missing = Vec::new();
        if self.unread > 0 {
            missing.push(Trouble::new(
                format!(
                    "{} lines of QEMU's trace are of a known event and can not be read, the first: {}",
                    self.unread, self.first_unread
                ),
                "use the QEMU that `cargo lab setup` installs, or teach lab/src/evidence/trace.rs this one's form",
            ));
        }
        // Every kernel writes both at boot: a trace without them is no witness.
        for (count, what) in [
            (self.commands, "the IOMMU's command register"),
            (
                self.config_writes,
                "the first card's configuration registers",
            ),
        ] {
            if count == 0 {
                missing.push(Trouble::new(
                    format!("QEMU's trace has no write to {what}: it would not show a reset either"),
                    "use the QEMU that `cargo lab setup` installs; `qemu-system-x86_64 -trace help` has to name the \
                     events that `cargo lab` traces",
                ));
            }
        }
        missing
    }
}

/// All events that mean something to the judge.
fn judged() -> impl Iterator<Item = &'static str> {
    let of_no_iommu = [
        "pci_cfg_write",
        "e1000e_core_ctrl_sw_reset",
        "e1000e_core_ctrl_phy_reset",
    ];
    of_no_iommu.into_iter().chain(iommu::JUDGED)
}

/// Reads a line such as `1234@1700000000.123456:pci_cfg_write igb 01:00.0 @0x4 <- 0x103`: microseconds since 1970, and the
/// event.
fn parse(line: &str) -> Option<(u64, Event)> {
    let (us, rest) = stamped(line)?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let event = match words[..] {
        ["pci_cfg_write", _, place, offset, "<-", value] => Event::Config(
            source_id(place)?,
            number(offset.strip_prefix('@')?)?,
            number(value)?,
        ),
        ["e1000e_core_ctrl_sw_reset" | "e1000e_core_ctrl_phy_reset", ..] => Event::CardReset,
        _ => iommu::event(&words)?,
    };
    Some((us, event))
}

/// A stamp and what is behind it: `1234@1700000000.123456:` until QEMU 10, `2026-11-25T21:56:48.939929Z ` since 11.
pub(super) fn stamped(line: &str) -> Option<(u64, &str)> {
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
    use crate::evidence::iommu::recorded::{COMMAND, FIRST_FAULTS, HIDDEN, SECOND_FAULTS, TORN};
    use crate::machine::clock::MS;
    use crate::machine::profile::Profile;

    const CONFIG: &str = "pci_cfg_write igb 01:00.0 @0x4 <- 0x103";
    const OTHER_CONFIG: &str = "pci_cfg_write igb 02:00.0 @0x4 <- 0x103";
    const RESET: &str = "e1000e_core_ctrl_sw_reset Doing SW reset";

    /// A trace whose stamps are so many milliseconds after the start of the run, with a line that is not whole.
    fn read(lines: &[(u64, &str)]) -> Findings {
        let clock = Clock::start();
        let unix = UNIX_EPOCH.elapsed().expect("after 1970");
        let mut text = String::new();
        for (ms, line) in lines {
            let us = unix.as_micros() + u128::from(*ms) * 1000;
            text += &format!("77@{}.{:06}:{line}\n", us / 1_000_000, us % 1_000_000);
        }
        text += "77@17.1:pci_cfg_wri";
        let profile = Profile::load("legacy").expect("built in");
        let [card, other] = &profile.cards[..] else {
            panic!("two cards");
        };
        let times = [2000, 5000, 8000].map(|ms| ms * MS);
        Findings::read(text.as_bytes(), clock, [card, other], times).expect("readable")
    }

    #[test]
    fn only_what_the_device_met_in_the_window_counts() {
        let findings = read(&[
            (1000, FIRST_FAULTS),
            (1001, RESET),
            (4000, FIRST_FAULTS),
            (4500, SECOND_FAULTS),
            (6000, SECOND_FAULTS),
            (7000, HIDDEN),
            (7001, RESET),
            (7002, RESET),
            (9000, FIRST_FAULTS),
        ]);
        assert_eq!((findings.faults.count, findings.other_faults), (2, 1));
        let first = findings.faults.first.expect("one");
        assert!(first.abs_diff(4000 * MS) < 1000 * MS);
        assert!(findings.reasons.iter().eq([&2]));
        assert_eq!(findings.harms.len(), 1);
        assert_eq!(findings.harms[&Harm::CardReset].count, 2);
    }

    #[test]
    fn a_trace_that_is_no_witness_is_told() {
        let all = [COMMAND, CONFIG];
        let words = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| (1, *line)).collect();
            let missing = read(&lines).missing();
            missing.iter().map(Trouble::to_string).collect::<String>()
        };
        assert_eq!(words(&all), "");
        assert_eq!(words(&[&all[..], &["nonsense"]].concat()), "");
        assert!(words(&[COMMAND]).contains("configuration registers"));
        assert!(words(&[COMMAND, OTHER_CONFIG]).contains("configuration registers"));
        assert!(words(&[CONFIG]).contains("command register"));
        // A known event in an unknown form is not passed over.
        for strange in [
            "pci_cfg_write igb at 01:00.0",
            "pci_cfg_write igb 01:00.0 @0x4 <- 0x103 size 2",
            "pci_cfg_write igb 01:00.0 @0x4 <- 0x100000000",
            TORN,
        ] {
            let said = words(&[&all[..], &[strange, strange]].concat());
            assert!(said.starts_with("2 lines") && said.contains(strange));
        }
    }

    #[test]
    fn stamps_of_every_qemu_are_read() {
        for stamp in ["77@1700000000.250001:", "2023-11-14T22:13:20.250001Z "] {
            let config = Event::Config(0x100, 4, 0x103);
            let line = format!("{stamp}{CONFIG}");
            assert_eq!(parse(&line), Some((1_700_000_000_250_001, config)));
        }
        assert_eq!(parse(CONFIG), None);
    }
}
