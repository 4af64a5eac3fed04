// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU's trace: what the emulated IOMMU and the PCI configuration space say of a run.

use std::collections::BTreeSet;
use std::io::{self, BufRead};

use crate::evidence::event::{harm, Event, Harm, Traced};
use crate::evidence::line::{parse_line, Parsed};
use crate::machine::clock::{Clock, Ns};
use crate::machine::topology::Card;
use crate::trouble::Trouble;

/// What a trace is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// The card that is preserved.
    pub card: Card,
    /// What the IOMMU calls the other card.
    pub other: u16,
    /// From when.
    pub from: Ns,
    /// From when on the other card may reach nothing.
    pub jumped: Ns,
    /// Until when.
    pub to: Ns,
}

/// What a trace says.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The card's blocked DMAs, and those that an entry kept the unit from naming a device for.
    pub faults: Faults,
    /// The other card's from the jump on.
    pub other_faults: u64,
    /// What was done to the card, the first [`KEPT`] of them.
    pub harms: Vec<(Ns, Harm)>,
    /// How many more there were.
    more_harms: u64,
    /// Configuration writes to the card at any time, and writes to the IOMMU's command register.
    config_writes: u64,
    commands: u64,
    /// Lines of an event that is known, in a form that is not: how many, and the first.
    unread: u64,
    first_unread: Option<String>,
}

/// So many harms are kept one by one.
const KEPT: usize = 10_000;

impl Findings {
    /// Reads a trace line by line: a card that faults all the time leaves a gigabyte.
    pub fn read(mut trace: impl BufRead, clock: Clock, question: &Question) -> io::Result<Self> {
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
            match parse_line(line.trim_end(), clock) {
                Parsed::Event(traced) => findings.add(traced, question),
                Parsed::Unread => {
                    findings.unread += 1;
                    findings
                        .first_unread
                        .get_or_insert_with(|| line.trim_end().to_owned());
                }
                Parsed::Other => {}
            }
        }
    }

    fn add(&mut self, Traced { at, event }: Traced, question: &Question) {
        let card = &question.card;
        match event {
            Event::Config { source_id, .. } if source_id == card.source_id => {
                self.config_writes += 1;
            }
            Event::Command { .. } => self.commands += 1,
            _ => {}
        }
        if !(question.from..=question.to).contains(&at) {
            return;
        }
        match event {
            Event::Fault { source_id, reason } if source_id == card.source_id => {
                self.faults.add(at, Some(reason));
            }
            Event::Fault { source_id, .. }
                if source_id == question.other && at >= question.jumped =>
            {
                self.other_faults += 1;
            }
            Event::HiddenFault => self.faults.add(at, None),
            _ => {}
        }
        match harm(event, card) {
            Some(harm) if self.harms.len() < KEPT => self.harms.push((at, harm)),
            Some(_) => self.more_harms += 1,
            None => {}
        }
    }

    /// Why this trace proves less than it should; nothing when it does not.
    pub fn missing(&self) -> Vec<Trouble> {
        let mut missing = Vec::new();
        if let Some(line) = &self.first_unread {
            missing.push(Trouble::new(
                format!(
                    "{} lines of QEMU's trace are of a known event and can not be read, the first: {line}",
                    self.unread
                ),
                "use the QEMU that `cargo lab setup` installs, or teach lab/src/evidence/line.rs this one's form",
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
        if self.more_harms > 0 {
            missing.push(Trouble::new(
                format!("{} more things were done to the device", self.more_harms),
                "look at QEMU's trace in the logs",
            ));
        }
        missing
    }
}

/// The blocked DMAs of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// How many.
    pub count: u64,
    /// When the first was.
    pub first: Option<Ns>,
    /// Their reasons, by the IOMMU's own numbers.
    pub reasons: BTreeSet<u32>,
}

impl Faults {
    fn add(&mut self, at: Ns, reason: Option<u32>) {
        self.count += 1;
        self.first.get_or_insert(at);
        self.reasons.extend(reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::iommu::recorded::{COMMAND, FIRST_FAULTS, HIDDEN, SECOND_FAULTS};
    use crate::machine::clock::{MS, SECOND};
    use crate::machine::profile::Profile;

    fn cards() -> [Card; 2] {
        let profile = Profile::load("legacy").expect("built in");
        profile.cards.try_into().expect("two cards")
    }

    /// A trace whose stamps are so many milliseconds after the start of the run.
    fn read(lines: &[(u64, &str)], end: &str) -> Findings {
        let clock = Clock::start();
        let unix = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970");
        let mut text = String::new();
        for (ms, line) in lines {
            let us = unix.as_micros() + u128::from(*ms) * 1000;
            text += &format!("77@{}.{:06}:{line}\n", us / 1_000_000, us % 1_000_000);
        }
        text += end;
        let [card, other] = cards();
        let question = Question {
            card,
            other: other.source_id,
            from: 2000 * MS,
            jumped: 5000 * MS,
            to: 8000 * MS,
        };
        Findings::read(text.as_bytes(), clock, &question).expect("readable")
    }

    #[test]
    fn only_the_devices_own_faults_in_the_window_count() {
        let (own, other) = (FIRST_FAULTS, SECOND_FAULTS);
        let findings = read(
            &[
                (1000, own),
                (4000, own),
                (4500, other),
                (6000, other),
                (7000, HIDDEN),
                (9000, own),
            ],
            "",
        );
        assert_eq!((findings.faults.count, findings.other_faults), (2, 1));
        assert!(findings.faults.first.expect("one") / SECOND <= 4);
        assert!(findings.faults.reasons.iter().eq([&2]));
    }

    #[test]
    fn a_trace_that_is_no_witness_is_told() {
        let config = "pci_cfg_write igb 01:00.0 @0x4 <- 0x103";
        let torn = "77@17.1:pci_cfg_wri";
        assert!(read(&[(1, COMMAND), (2, config)], torn)
            .missing()
            .is_empty());
        let words = |lines: &[(u64, &str)]| -> String {
            let missing = read(lines, "").missing();
            missing.iter().map(Trouble::to_string).collect()
        };
        assert!(words(&[(1, COMMAND)]).contains("configuration registers"));
        assert!(words(&[(1, config)]).contains("command register"));
        let other = "pci_cfg_write igb 02:00.0 @0x4 <- 0x103";
        assert!(words(&[(1, COMMAND), (2, other)]).contains("configuration registers"));
        let strange = "pci_cfg_write igb at 01:00.0";
        let said = words(&[(1, COMMAND), (2, config), (3, strange)]);
        assert!(
            said.starts_with("1 lines") && said.contains(strange),
            "{said}"
        );
    }

    #[test]
    fn harms_beyond_count_are_counted() {
        let mut findings = Findings::default();
        let [card, _] = cards();
        let question = Question {
            card,
            other: 0,
            from: 0,
            jumped: 0,
            to: 10,
        };
        for _ in 0..KEPT + 3 {
            let event = Event::CardReset;
            findings.add(Traced { at: 5, event }, &question);
        }
        assert_eq!((findings.harms.len(), findings.more_harms), (KEPT, 3));
    }
}
