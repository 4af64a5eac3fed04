// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The timeline: named stretches of a run, one after the other.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::evidence::markers::{first, Marker};
use crate::evidence::witness::Landing;
use crate::machine::clock::Ns;
use crate::machine::console::Line;

/// What a stretch of a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Name {
    /// A session is made and everything put into it.
    Preserve,
    /// From the order to jump until the old kernel leaves.
    FreezeAndShutdown,
    /// Until the new kernel's first words.
    JumpToEntry,
    /// Until its VT-d driver begins.
    KernelBoot,
    /// Until the unit's tables are adopted.
    IommuAdopt,
    /// Until the device has its restored domain.
    DeviceProbe,
    /// Until the guest program's hello.
    UserSpaceStart,
    /// Free memory is overwritten and given back.
    MemoryFilled,
    /// Everything is taken out of the session, the device bound and its ring served.
    Retrieve,
    /// Compaction is forced.
    Compaction,
    /// A new IOAS and HWPT are made.
    Rebuild,
    /// The new HWPT is attached in place of the restored one, which is destroyed.
    Swap,
    /// Attaches back and forth between two HWPTs of the new kernel.
    FurtherSwaps,
    /// The session is finished.
    Finish,
    /// Something that only one test does.
    Other(&'static str),
}

impl Name {
    /// All that the demo has, in their order.
    pub const DEMO: [Self; 14] = [
        Self::Preserve,
        Self::FreezeAndShutdown,
        Self::JumpToEntry,
        Self::KernelBoot,
        Self::IommuAdopt,
        Self::DeviceProbe,
        Self::UserSpaceStart,
        Self::MemoryFilled,
        Self::Retrieve,
        Self::Compaction,
        Self::Rebuild,
        Self::Swap,
        Self::FurtherSwaps,
        Self::Finish,
    ];

    /// As in the output.
    pub fn words(self) -> &'static str {
        match self {
            Self::Preserve => "preserve",
            Self::FreezeAndShutdown => "freeze and shutdown",
            Self::JumpToEntry => "jump to kernel entry",
            Self::KernelBoot => "kernel boot",
            Self::IommuAdopt => "IOMMU adopt",
            Self::DeviceProbe => "device probe",
            Self::UserSpaceStart => "user space start",
            Self::MemoryFilled => "memory filled",
            Self::Retrieve => "retrieve",
            Self::Compaction => "compaction",
            Self::Rebuild => "rebuild",
            Self::Swap => "swap",
            Self::FurtherSwaps => "further swaps",
            Self::Finish => "finish",
            Self::Other(words) => words,
        }
    }

    /// The device's tables are replaced in it.
    fn is_swap(self) -> bool {
        matches!(self, Self::Swap | Self::FurtherSwaps)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.words())
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.words())
    }
}

/// A stretch of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Which update it belongs to, from 1.
    pub update: u32,
    /// Its name.
    pub name: Name,
    /// When it began.
    pub from: Ns,
    /// When it ended.
    pub to: Ns,
}

impl Phase {
    /// Frames that landed in it.
    pub fn frames(&self, landings: &[Landing]) -> u64 {
        frames_between(landings, self.from, self.to)
    }
}

/// Frames that landed between two moments, the first included.
pub fn frames_between(landings: &[Landing], from: Ns, to: Ns) -> u64 {
    landings
        .iter()
        .filter(|landing| (from..to).contains(&landing.at))
        .count() as u64
}

/// Of each update in which tables were replaced, from when to when that went on: from the start of the first swap to the
/// end of the last one.
pub fn swaps(phases: &[Phase]) -> Vec<(Ns, Ns)> {
    phases
        .chunk_by(|one, next| one.update == next.update)
        .filter_map(|update| {
            let mut swaps = update.iter().filter(|phase| phase.name.is_swap());
            let first = swaps.next()?;
            Some((first.from, swaps.next_back().unwrap_or(first).to))
        })
        .collect()
}

/// The jump of one update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// Which update, from 1.
    pub update: u32,
    /// When `reboot(KEXEC)` was ordered.
    pub ordered: Ns,
    /// When the new kernel's guest program said hello.
    pub hello: Ns,
}

impl Jump {
    /// From when on no kernel serves the device: the old one has shut its devices down and leaves.
    pub fn leave(&self, lines: &[Line]) -> Ns {
        first(lines, Marker::Leave, self.ordered, self.hello).unwrap_or(self.ordered)
    }

    /// When the new kernel said its first words.
    pub fn entry(&self, lines: &[Line]) -> Ns {
        first(lines, Marker::Entry, self.leave(lines), self.hello).unwrap_or(self.hello)
    }

    /// The jump's phases, by what the kernels printed. A phase whose marker is missing has no length: its time is
    /// counted in the one that follows.
    pub fn phases(&self, lines: &[Line]) -> Vec<Phase> {
        let marks = [
            (Name::FreezeAndShutdown, Some(Marker::Leave)),
            (Name::JumpToEntry, Some(Marker::Entry)),
            (Name::KernelBoot, Some(Marker::IommuBegin)),
            (Name::IommuAdopt, Some(Marker::Adopted)),
            (Name::DeviceProbe, Some(Marker::Restored)),
            (Name::UserSpaceStart, None),
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
    use crate::evidence::iommu::recorded;

    #[test]
    fn the_swaps_of_an_update_are_one_stretch() {
        let phase = |update, name, from, to| Phase {
            update,
            name,
            from,
            to,
        };
        let phases = [
            phase(1, Name::Preserve, 0, 1),
            phase(1, Name::Swap, 3, 4),
            phase(1, Name::FurtherSwaps, 4, 7),
            phase(1, Name::Finish, 8, 9),
            phase(2, Name::Swap, 12, 13),
            phase(3, Name::Rebuild, 20, 21),
        ];
        assert_eq!(swaps(&phases), [(3, 7), (12, 13)]);
    }

    #[test]
    fn a_name_is_written_everywhere_in_the_same_way() {
        for name in Name::DEMO.into_iter().chain([Name::Other("leak scan")]) {
            let json = serde_json::to_string(&name).expect("JSON");
            assert_eq!(json, format!("\"{name}\""));
        }
        assert_eq!(format!("{:8}|", Name::Swap), "swap    |");
    }

    #[test]
    fn phases_follow_one_another_even_with_a_marker_missing() {
        let lines: Vec<Line> = [
            (12, "kexec_core: Starting new kernel"),
            (20, "Linux version"),
            (30, recorded::BEGINS),
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
