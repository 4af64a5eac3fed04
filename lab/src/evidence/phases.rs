// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The timeline: named stretches of a run, one after the other, and which of the kernel's lines end one.

use crate::evidence::iommu;
use crate::evidence::witness::Landing;
use crate::machine::clock::Ns;
use crate::machine::console::Line;

/// A session is made and everything put into it.
pub const PRESERVE: &str = "preserve";
/// Everything is taken out of the session, the device bound and its ring served.
pub const RETRIEVE: &str = "retrieve";
/// A new IOAS and HWPT are made.
pub const REBUILD: &str = "rebuild";
/// The new HWPT is attached in place of the restored one, which is destroyed.
pub const SWAP: &str = "swap";
/// Attaches back and forth between two HWPTs of the new kernel.
pub const FURTHER_SWAPS: &str = "further swaps";

/// All phases that the demo has, in their order. A test may have more.
pub fn demo() -> Vec<&'static str> {
    let jump = ENDS.map(|(name, _)| name);
    let after = [RETRIEVE, "compaction", REBUILD, SWAP, FURTHER_SWAPS];
    [
        &[PRESERVE],
        &jump[..],
        &["memory filled"],
        &after,
        &["finish"],
    ]
    .concat()
}

/// The phases of a jump, and what ends each: a line of the kernel with all words of one of these patterns, between which
/// there is a `+`. Letter case does not matter. To be changed where a message changes.
const ENDS: [(&str, &[&str]); 6] = [
    // The old kernel has shut its devices down and leaves.
    ("freeze and shutdown", &["starting new kernel"]),
    // The new kernel runs.
    (
        "jump to kernel entry",
        &["early console in extract_kernel", "linux version"],
    ),
    // Its driver of the IOMMU begins.
    ("kernel boot", iommu::BEGINS),
    // A unit's tables are adopted.
    ("IOMMU adopt", &["hitless:+adopted"]),
    // A device has its restored domain.
    ("device probe", &["hitless:+restored domain"]),
    // The hello of the guest's program ends it, and no line.
    ("user space start", &[]),
];

/// A stretch of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Which update it belongs to, from 1.
    pub update: usize,
    /// What it is for.
    pub name: &'static str,
    /// When it began.
    pub from: Ns,
    /// When it ended.
    pub to: Ns,
}

/// Frames that landed between two moments, the first included.
pub fn frames_between(landings: &[Landing], (from, to): (Ns, Ns)) -> u64 {
    let within = |landing: &&Landing| (from..to).contains(&landing.at);
    landings.iter().filter(within).count() as u64
}

/// Of each update in which tables were replaced, from when to when that went on: from the start of the first swap to the
/// end of the last one.
pub fn swaps(phases: &[Phase]) -> Vec<(Ns, Ns)> {
    phases
        .chunk_by(|one, next| one.update == next.update)
        .filter_map(|update| {
            let is_swap = |phase: &&Phase| [SWAP, FURTHER_SWAPS].contains(&phase.name);
            let mut swaps = update.iter().filter(is_swap);
            let first = swaps.next()?;
            Some((first.from, swaps.next_back().unwrap_or(first).to))
        })
        .collect()
}

/// The jump of one update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// When `reboot(KEXEC)` was ordered.
    pub ordered: Ns,
    /// From when on no kernel serves the device: the old one has shut its devices down and leaves.
    pub leave: Ns,
    /// When the new kernel said its first words.
    pub entry: Option<Ns>,
    /// When the new kernel's guest program said hello.
    pub hello: Ns,
}

impl Jump {
    /// A jump and its phases, by what the kernels printed. A phase whose end is missing has no length: its time is counted
    /// in the one that follows.
    pub fn read(update: usize, ordered: Ns, hello: Ns, lines: &[Line]) -> (Self, Vec<Phase>) {
        let leave = first(lines, ENDS[0].1, ordered, hello).unwrap_or(ordered);
        let jump = Self {
            ordered,
            leave,
            entry: first(lines, ENDS[1].1, leave, hello),
            hello,
        };
        let mut from = ordered;
        let phases = ENDS.map(|(name, patterns)| {
            let end = first(lines, patterns, from, hello).unwrap_or(from);
            let to = if patterns.is_empty() { hello } else { end };
            let phase = Phase {
                update,
                name,
                from,
                to,
            };
            from = to;
            phase
        });
        (jump, phases.into())
    }
}

/// When one of the patterns first shows between two moments.
fn first(lines: &[Line], patterns: &[&str], from: Ns, to: Ns) -> Option<Ns> {
    let fits = |line: &&Line| {
        let text = line.text.to_lowercase();
        let has_all = |pattern: &&str| pattern.split('+').all(|part| text.contains(part));
        (from..=to).contains(&line.at) && patterns.iter().any(has_all)
    };
    lines.iter().find(fits).map(|line| line.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::iommu::recorded;

    #[test]
    fn the_swaps_of_an_update_are_one_stretch() {
        let phases = [
            (1, PRESERVE, 0, 1),
            (1, SWAP, 3, 4),
            (1, FURTHER_SWAPS, 4, 7),
            (1, "finish", 8, 9),
            (2, SWAP, 12, 13),
            (3, REBUILD, 20, 21),
        ]
        .map(|(update, name, from, to)| Phase {
            update,
            name,
            from,
            to,
        });
        assert_eq!(swaps(&phases), [(3, 7), (12, 13)]);
    }

    #[test]
    fn phases_follow_one_another_even_with_an_end_missing() {
        let said = [
            (1, "[    0.000000] Linux version 7.3.4"),
            (12, "kexec_core: Starting new kernel"),
            (20, "Linux version 7.3.4"),
            (30, recorded::BEGINS),
            (40, "hitless: unit fed90000: tables adopted"),
            (45, "hitless: 0000:01:00.0: has its Restored Domain"),
        ];
        for (missing, lengths, leave, entry) in [
            ("nothing", [2, 8, 10, 10, 5, 5], 12, Some(20)),
            ("adopted", [2, 8, 10, 0, 15, 5], 12, Some(20)),
            ("Starting", [0, 10, 10, 10, 5, 5], 10, Some(20)),
            ("Linux", [2, 0, 18, 10, 5, 5], 12, None),
        ] {
            let said = said.iter().filter(|(_, text)| !text.contains(missing));
            let lines: Vec<_> = said
                .map(|&(at, text)| Line {
                    at,
                    text: text.to_owned(),
                })
                .collect();
            let (jump, phases) = Jump::read(1, 10, 50, &lines);
            let seen = phases.iter().map(|phase| phase.to - phase.from);
            assert!(seen.eq(lengths), "without {missing}: {phases:?}");
            assert!(phases.windows(2).all(|pair| pair[0].to == pair[1].from));
            assert_eq!((jump.leave, jump.entry), (leave, entry));
        }
    }
}
