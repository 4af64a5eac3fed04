// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The timeline: named stretches of a run, one after the other.

use crate::run::clock::Ns;
use crate::run::console::Line;
use crate::run::markers::{first, Marker};
use crate::run::witness::Landing;

/// A stretch of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Phase {
    /// Which update it belongs to, from 1.
    pub(crate) update: u32,
    /// Its name, as in the output.
    pub(crate) name: &'static str,
    /// When it began.
    pub(crate) from: Ns,
    /// When it ended.
    pub(crate) to: Ns,
}

impl Phase {
    /// Frames that landed in it.
    pub(crate) fn frames(&self, landings: &[Landing]) -> u64 {
        frames_between(landings, self.from, self.to)
    }
}

/// Frames that landed between two moments, the first included.
pub(crate) fn frames_between(landings: &[Landing], from: Ns, to: Ns) -> u64 {
    landings
        .iter()
        .filter(|landing| (from..to).contains(&landing.at))
        .count() as u64
}

/// The jump of one update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Jump {
    /// Which update, from 1.
    pub(crate) update: u32,
    /// When `reboot(KEXEC)` was ordered.
    pub(crate) ordered: Ns,
    /// When the new kernel's guest program said hello.
    pub(crate) hello: Ns,
}

impl Jump {
    /// From when on no kernel serves the device: the old one has shut its devices down and leaves.
    pub(crate) fn leave(&self, lines: &[Line]) -> Ns {
        first(lines, Marker::Leave, self.ordered, self.hello).unwrap_or(self.ordered)
    }

    /// When the new kernel said its first words.
    pub(crate) fn entry(&self, lines: &[Line]) -> Ns {
        first(lines, Marker::Entry, self.leave(lines), self.hello).unwrap_or(self.hello)
    }

    /// The jump's phases, by what the kernels printed. A phase whose marker is missing has no length: its time is
    /// counted in the one that follows.
    pub(crate) fn phases(&self, lines: &[Line]) -> Vec<Phase> {
        let marks = [
            ("freeze and shutdown", Some(Marker::Leave)),
            ("jump to kernel entry", Some(Marker::Entry)),
            ("kernel boot", Some(Marker::IommuBegin)),
            ("IOMMU adopt", Some(Marker::Adopted)),
            ("device probe", Some(Marker::Restored)),
            ("user space start", None),
        ];
        let mut from = self.ordered;
        marks
            .into_iter()
            .map(|(name, marker)| {
                let to = match marker {
                    Some(marker) => first(lines, marker, from, self.hello).unwrap_or(from),
                    None => self.hello,
                };
                let phase = Phase {
                    update: self.update,
                    name,
                    from,
                    to,
                };
                from = to;
                phase
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_follow_one_another_even_with_a_marker_missing() {
        let lines: Vec<Line> = [
            (12, "kexec_core: Starting new kernel"),
            (20, "Linux version"),
            (30, "DMAR: No RMRR found"),
            (45, "hitless: restored domain"),
        ]
        .map(|(at, text)| Line {
            at,
            text: text.to_owned(),
        })
        .into();
        let jump = Jump {
            update: 1,
            ordered: 10,
            hello: 50,
        };
        let phases = jump.phases(&lines);
        let lengths: Vec<_> = phases.iter().map(|phase| phase.to - phase.from).collect();
        assert_eq!(lengths, [2, 8, 10, 0, 15, 5]);
        assert!(phases.windows(2).all(|pair| pair[0].to == pair[1].from));
        assert_eq!(jump.leave(&lines), 12);
        assert_eq!(jump.entry(&lines), 20);
    }

    #[test]
    fn a_frame_belongs_to_one_phase() {
        let landing = |at| Landing {
            at,
            sequence: 0,
            sent: 0,
        };
        let landings = [landing(1), landing(2), landing(3)];
        assert_eq!(frames_between(&landings, 1, 2), 1);
        assert_eq!(frames_between(&landings, 2, 4), 2);
    }
}
