// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! How a device changes from one paging domain to another.

use crate::model::ReplaceFacts;
use crate::refusal::Refusal;

/// How to attach the new domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Rewrite the live entry: no DMA faults.
    InPlace,
    /// Clear the entry, then write the new one: DMA in between faults.
    BlockFirst,
}

/// What stands in the way of rewriting one entry in place: it is not there, it is not the only one, or the planner
/// would not know what is in it.
const OBSTACLES: u32 = ReplaceFacts::NO_ENTRY
    | ReplaceFacts::UNKNOWN_TABLE
    | ReplaceFacts::NOT_PCI
    | ReplaceFacts::ALIASES
    | ReplaceFacts::PAGE_FAULTS;

/// How may the entry be changed?
///
/// # Errors
///
/// [`Refusal::NotReplaceable`] for a device on its restored domain that would have to be blocked first.
pub fn way(facts: ReplaceFacts) -> Result<Way, Refusal> {
    let unknown = facts.0 & !ReplaceFacts::KNOWN != 0;
    match (
        facts.has(OBSTACLES) || unknown,
        facts.has(ReplaceFacts::RESTORED),
    ) {
        (false, _) => Ok(Way::InPlace),
        (true, false) => Ok(Way::BlockFirst),
        (true, true) => Err(Refusal::NotReplaceable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_stands_alone_is_rewritten_in_place() {
        for facts in [0, ReplaceFacts::RESTORED] {
            assert_eq!(way(ReplaceFacts(facts)), Ok(Way::InPlace));
        }
    }

    #[test]
    fn every_obstacle_blocks_first_but_never_a_restored_domain() {
        for bit in (0..32).map(|bit| 1 << bit) {
            if bit == ReplaceFacts::RESTORED {
                continue;
            }
            assert_eq!(way(ReplaceFacts(bit)), Ok(Way::BlockFirst), "{bit:#x}");
            assert_eq!(
                way(ReplaceFacts(bit | ReplaceFacts::RESTORED)),
                Err(Refusal::NotReplaceable),
                "{bit:#x}"
            );
        }
    }
}
