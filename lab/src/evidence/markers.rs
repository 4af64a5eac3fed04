// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which of the kernel's lines mark a moment of the jump: one table, to be changed where a message changes.

use crate::evidence::iommu;
use crate::machine::clock::Ns;
use crate::machine::console::Line;

/// A moment of the jump that a kernel's line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// The old kernel has shut its devices down and leaves.
    Leave,
    /// The new kernel runs.
    Entry,
    /// Its driver of the IOMMU begins.
    IommuBegin,
    /// A unit's tables are adopted.
    Adopted,
    /// A device has its restored domain.
    Restored,
}

/// Any of these, as part of a line, is the marker. Letter case does not matter.
const TABLE: [(Marker, &[&str]); 5] = [
    (Marker::Leave, &["starting new kernel"]),
    (
        Marker::Entry,
        &["early console in extract_kernel", "linux version"],
    ),
    (Marker::IommuBegin, iommu::BEGINS),
    (Marker::Adopted, &["hitless:+adopted"]),
    (Marker::Restored, &["hitless:+restored domain"]),
];

/// Whether `text` has every part of `pattern`, which are separated by `+`, in this order.
fn fits(text: &str, pattern: &str) -> bool {
    let mut rest = text;
    pattern.split('+').all(|part| {
        rest.find(part).is_some_and(|at| {
            rest = &rest[at + part.len()..];
            true
        })
    })
}

/// When a marker first shows between two moments.
pub fn first(lines: &[Line], marker: Marker, from: Ns, to: Ns) -> Option<Ns> {
    let patterns = TABLE
        .iter()
        .find(|(of, _)| *of == marker)
        .map_or(&[][..], |(_, patterns)| patterns);
    lines
        .iter()
        .filter(|line| (from..=to).contains(&line.at))
        .find(|line| {
            let text = line.text.to_lowercase();
            patterns.iter().any(|pattern| fits(&text, pattern))
        })
        .map(|line| line.at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_found_in_their_window() {
        let lines: Vec<Line> = [
            (1, "[    0.000000] Linux version 7.3.4"),
            (5, "kexec_core: Starting new kernel"),
            (9, "Linux version 7.3.4"),
            (12, "hitless: unit fed90000: tables adopted"),
            (
                13,
                "hitless: pci 0000:01:00.0: attached to its Restored Domain",
            ),
        ]
        .map(|(at, text)| Line {
            at,
            text: text.to_owned(),
        })
        .into();
        assert_eq!(first(&lines, Marker::Entry, 2, 20), Some(9));
        assert_eq!(first(&lines, Marker::Leave, 0, 20), Some(5));
        assert_eq!(first(&lines, Marker::Adopted, 0, 20), Some(12));
        assert_eq!(first(&lines, Marker::Restored, 0, 20), Some(13));
        assert_eq!(first(&lines, Marker::Restored, 0, 12), None);
        assert_eq!(first(&lines, Marker::IommuBegin, 0, 20), None);
    }
}
