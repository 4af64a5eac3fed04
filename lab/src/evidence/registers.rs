// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The IOMMU's fault registers, read through QEMU's monitor ten times a second: a second witness beside the
//! trace, for what a kernel has not cleared yet. What it did not see says something only if it was there to see it: so
//! looks that failed, and jumps without a look on either side, are told.

use std::time::Duration;

use crate::evidence::iommu;
use crate::evidence::phases::Jump;
use crate::evidence::worker::Worker;
use crate::machine::clock::{Clock, Ns};
use crate::machine::monitor::Monitor;

/// Every look: when, and whether translation was on and of which device a fault was recorded, or why it failed.
#[derive(Debug, Default)]
pub struct Looks(Vec<(Ns, Look)>);

type Look = Result<(bool, Option<u16>), String>;

impl Looks {
    /// How many looks between two moments showed a fault of this device.
    pub fn faults(&self, source_id: u16, from: Ns, to: Ns) -> u64 {
        let faults = self.within(from, to).map(|(_, fault)| fault);
        faults.filter(|fault| *fault == Some(source_id)).count() as u64
    }

    /// How many looks between two moments showed translation off.
    pub fn untranslated(&self, from: Ns, to: Ns) -> u64 {
        let translating = self.within(from, to).map(|(translating, _)| translating);
        translating.filter(|it| !it).count() as u64
    }

    /// Why these looks prove less than they should, in sentences; nothing when they do.
    pub fn missing(&self, jumps: &[Jump], to: Ns) -> Vec<String> {
        let mut missing = Vec::new();
        let mut errors = self.0.iter().filter_map(|(_, look)| look.as_ref().err());
        if let Some(error) = errors.next() {
            missing.push(format!(
                "{} of {} looks at the IOMMU's registers failed, the first: {error}",
                1 + errors.count(),
                self.0.len()
            ));
        }
        let mut from = 0;
        for (number, jump) in jumps.iter().enumerate() {
            let next = jumps.get(number + 1).map_or(to, |next| next.ordered);
            for (side, from, to) in [("before", from, jump.ordered), ("after", jump.hello, next)] {
                if self.within(from, to).next().is_none() {
                    let update = number + 1;
                    missing.push(format!(
                        "the IOMMU's registers were not read {side} the jump of update {update}"
                    ));
                }
            }
            from = jump.hello;
        }
        missing
    }

    /// What the looks between two moments showed that did not fail.
    fn within(&self, from: Ns, to: Ns) -> impl Iterator<Item = (bool, Option<u16>)> + '_ {
        let within = move |(at, _): &&(Ns, Look)| (from..=to).contains(at);
        let looks = self.0.iter().filter(within);
        looks.filter_map(|(_, look)| look.clone().ok())
    }
}

/// A thread that looks.
pub type Registers = Worker<Looks>;

/// Begins to look.
pub fn look(monitor: Monitor, clock: Clock) -> anyhow::Result<Registers> {
    Worker::start("registers", Looks::default(), move |looks| {
        let at = clock.now();
        let look = iommu::look(&monitor).map_err(|error| format!("{error:#}"));
        looks.0.push((at, look));
        Duration::from_millis(100)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_count_for_their_device_and_in_their_time() {
        let looks = Looks(vec![(1, Ok((true, Some(0x100)))), (1, Ok((false, None)))]);
        let faults =
            [(0x100, 0), (0x200, 0), (0x100, 2)].map(|(id, from)| looks.faults(id, from, 3));
        assert_eq!(faults, [1, 0, 0]);
        assert_eq!([0, 2].map(|from| looks.untranslated(from, 3)), [1, 0]);
    }

    #[test]
    fn a_witness_that_was_not_there_is_told() {
        let jumps = [(10, 20), (30, 40)].map(|(ordered, hello)| Jump {
            ordered,
            leave: ordered,
            entry: None,
            hello,
        });
        let looked = |at| (at, Ok((true, None)));
        let mut looks = Looks([5, 25, 45].map(looked).into());
        assert_eq!(looks.missing(&jumps, 50), [""; 0]);
        looks.0[1].1 = Err("QEMU has ended".to_owned());
        looks.0.push((46, Err("again".to_owned())));
        assert_eq!(
            looks.missing(&jumps, 50),
            [
                "2 of 4 looks at the IOMMU's registers failed, the first: QEMU has ended",
                "the IOMMU's registers were not read after the jump of update 1",
                "the IOMMU's registers were not read before the jump of update 2"
            ]
        );
    }
}
