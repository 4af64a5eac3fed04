// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The IOMMU's fault registers, read through QEMU's monitor ten times a second: a second witness beside the
//! trace, for what a kernel has not cleared yet. What it did not see says something only if it was there to see it: so
//! looks that failed, and jumps without a look on either side, are told.

use std::time::Duration;

use anyhow::Result;

use crate::evidence::iommu;
use crate::evidence::phases::Jump;
use crate::evidence::worker::{lock, Worker};
use crate::machine::clock::{Clock, Ns};
use crate::machine::monitor::Monitor;

/// What one look showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    /// When.
    at: Ns,
    /// Translation is on.
    translating: bool,
    /// The device whose fault is recorded.
    fault: Option<u16>,
}

/// Everything that was seen, and what was not.
#[derive(Clone, Debug, Default)]
pub struct Looks {
    /// Looks that succeeded.
    done: Vec<Look>,
    /// How many failed.
    failed: u64,
    /// How the first of them did.
    error: Option<String>,
}

impl Looks {
    fn add(&mut self, look: Result<Look>) {
        match look {
            Ok(look) => self.done.push(look),
            Err(error) => {
                self.failed += 1;
                self.error.get_or_insert(format!("{error:#}"));
            }
        }
    }

    /// How many looks between two moments showed a fault of this device.
    pub fn faults(&self, source_id: u16, from: Ns, to: Ns) -> u64 {
        self.within(from, to)
            .filter(|look| look.fault == Some(source_id))
            .count() as u64
    }

    /// How many looks between two moments showed translation off.
    pub fn untranslated(&self, from: Ns, to: Ns) -> u64 {
        self.within(from, to)
            .filter(|look| !look.translating)
            .count() as u64
    }

    /// Why these looks prove less than they should, in sentences; nothing when they do.
    pub fn missing(&self, jumps: &[Jump], to: Ns) -> Vec<String> {
        let mut missing = Vec::new();
        if let Some(error) = &self.error {
            missing.push(format!(
                "{} of {} looks at the IOMMU's registers failed, the first: {error}",
                self.failed,
                self.failed + self.done.len() as u64
            ));
        }
        let mut from = 0;
        for (number, jump) in jumps.iter().enumerate() {
            let next = jumps.get(number + 1).map_or(to, |next| next.ordered);
            for (side, from, to) in [("before", from, jump.ordered), ("after", jump.hello, next)] {
                if self.within(from, to).next().is_none() {
                    let update = jump.update;
                    missing.push(format!(
                        "the IOMMU's registers were not read {side} the jump of update {update}"
                    ));
                }
            }
            from = jump.hello;
        }
        missing
    }

    fn within(&self, from: Ns, to: Ns) -> impl Iterator<Item = &Look> {
        self.done
            .iter()
            .filter(move |look| (from..=to).contains(&look.at))
    }
}

/// A thread that looks.
pub type Registers = Worker<Looks>;

/// Begins to look.
pub fn look(monitor: Monitor, clock: Clock) -> Result<Registers> {
    Worker::start("registers", Looks::default(), move |looks| {
        let at = clock.now();
        let look = iommu::look(&monitor).map(|(translating, fault)| Look {
            at,
            translating,
            fault,
        });
        lock(looks).add(look);
        std::thread::sleep(Duration::from_millis(100));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_count_for_their_device_and_in_their_time() {
        let look = |translating, fault| Look {
            at: 1,
            translating,
            fault,
        };
        let looks = Looks {
            done: vec![look(true, Some(0x100)), look(false, None)],
            ..Looks::default()
        };
        assert_eq!(looks.faults(0x100, 0, 2), 1);
        assert_eq!(looks.faults(0x200, 0, 2), 0);
        assert_eq!(looks.faults(0x100, 2, 3), 0);
        assert_eq!(looks.untranslated(0, 2), 1);
        assert_eq!(looks.untranslated(2, 3), 0);
    }

    #[test]
    fn a_witness_that_was_not_there_is_told() {
        let jumps = [(1, 10, 20), (2, 30, 40)].map(|(update, ordered, hello)| Jump {
            update,
            ordered,
            leave: ordered,
            entry: None,
            hello,
        });
        let mut looks = Looks::default();
        for at in [5, 25, 45] {
            looks.add(Ok(Look {
                at,
                translating: true,
                fault: None,
            }));
        }
        assert_eq!(looks.missing(&jumps, 50), [""; 0]);
        looks.done.remove(1);
        let missing = looks.missing(&jumps, 50).join("; ");
        assert!(missing.contains("after the jump of update 1"), "{missing}");
        assert!(missing.contains("before the jump of update 2"), "{missing}");
        looks.add(Err(anyhow::anyhow!("QEMU has ended")));
        looks.add(Err(anyhow::anyhow!("again")));
        let missing = looks.missing(&[], 50).join("; ");
        assert!(missing.starts_with("2 of 4 looks") && missing.ends_with("QEMU has ended"));
    }
}
