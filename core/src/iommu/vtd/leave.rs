// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! How is a unit left to the next kernel, and how does that one find it?

/// How a unit is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Translation is switched off, as in every kexec: nothing goes on.
    Off,
    /// It goes on with its own tables, in which only outgoing devices have entries.
    Scrubbed,
    /// It goes on with a root table in which there is nothing.
    Empty,
}

/// How is a unit left that translates or does not, if anything is preserved, and devices behind this unit are?
///
/// As long as anything goes on no unit stops: what the old kernel could not stop is stopped by that.
#[must_use]
pub const fn leave(translating: bool, preserved: bool, recorded: bool) -> Leave {
    match (translating && preserved, recorded) {
        (false, _) => Leave::Off,
        (true, true) => Leave::Scrubbed,
        (true, false) => Leave::Empty,
    }
}

/// How a unit is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// As after any boot: nobody runs behind it.
    Ordinary,
    /// With the root table in which there is nothing.
    Empty,
    /// With tables: somebody may be running on them.
    Translating,
}

/// How is a unit found whose root table is at `root`? `empty` is the one in which there is nothing, if the previous kernel
/// has left one.
#[must_use]
pub fn found(translating: bool, after_handover: bool, root: u64, empty: Option<u64>) -> Found {
    if !translating || !after_handover {
        Found::Ordinary
    } else if empty == Some(root) {
        Found::Empty
    } else {
        Found::Translating
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_unit_stops_while_anything_goes_on() {
        for recorded in [false, true] {
            assert_eq!(leave(true, false, recorded), Leave::Off);
            assert_eq!(leave(false, true, recorded), Leave::Off);
        }
        assert_eq!(leave(true, true, true), Leave::Scrubbed);
        assert_eq!(leave(true, true, false), Leave::Empty);
    }

    #[test]
    fn a_unit_is_empty_only_if_it_has_the_empty_table() {
        let table = 0x5000;
        for (empty, expected) in [
            (None, Found::Translating),
            (Some(0x6000), Found::Translating),
            (Some(table), Found::Empty),
        ] {
            assert_eq!(found(true, true, table, empty), expected);
            assert_eq!(found(false, true, table, empty), Found::Ordinary);
            assert_eq!(found(true, false, table, empty), Found::Ordinary);
        }
    }
}
