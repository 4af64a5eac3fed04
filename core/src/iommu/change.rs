// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! How a device changes from one domain to another: what holds for any hardware.

use crate::facts::facts;

facts! {
    /// Facts about a live entry whose device is to be attached to another paging domain:
    /// `HITLESS_SWAP_*`.
    SwapFacts {
        /// It points to a restored domain.
        RESTORED = 0,
        /// There is no entry, or nothing is attached to the device.
        NO_ENTRY = 1,
        /// What it points to is not a paging domain whose table can be described.
        UNKNOWN_TABLE = 2,
        /// It is not a PCI function's own entry.
        NOT_PCI = 3,
        /// The device uses other requester ids too, each with an entry.
        ALIASES = 4,
        /// Either domain delivers page faults.
        PAGE_FAULTS = 5,
    }
}

impl SwapFacts {
    /// What stands in the way of rewriting one entry in place: it is not there, it is not the only one, or the
    /// planner would not know what is in it. A fact that is not known here is an obstacle.
    pub const fn is_in_the_way(self) -> bool {
        const OBSTACLES: u32 = SwapFacts::NO_ENTRY
            | SwapFacts::UNKNOWN_TABLE
            | SwapFacts::NOT_PCI
            | SwapFacts::ALIASES
            | SwapFacts::PAGE_FAULTS;
        self.0 & (OBSTACLES | !Self::KNOWN) != 0
    }
}

/// Who uses which domain id on a unit, when a device changes from one domain to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdUse {
    /// Devices of the old domain under its id on this unit, this one included; 0: it has none there.
    pub users: u32,
    /// Devices of the new domain are under an id of its own on this unit already.
    pub has_own: bool,
}

impl IdUse {
    /// Shall the new domain get the old one's id?
    ///
    /// With the same id on either side the entry changes in fewer words. But only where nobody else is left on
    /// the old one: two domains never share an id, or one's cached translations would be the other's.
    #[must_use]
    pub const fn hands_over(&self) -> bool {
        self.users == 1 && !self.has_own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: IdUse = IdUse {
        users: 1,
        has_own: false,
    };

    #[test]
    fn the_last_user_hands_its_id_over() {
        assert!(LAST.hands_over());
    }

    #[test]
    fn an_id_is_never_shared() {
        for other in [
            IdUse { users: 0, ..LAST },
            IdUse { users: 2, ..LAST },
            IdUse {
                has_own: true,
                ..LAST
            },
        ] {
            assert!(!other.hands_over(), "{other:?}");
        }
    }

    #[test]
    fn every_fact_but_one_is_in_the_way() {
        for bit in 0..32 {
            let facts = SwapFacts(1 << bit);
            assert_eq!(facts.is_in_the_way(), facts.0 != SwapFacts::RESTORED);
        }
        assert!(!SwapFacts(0).is_in_the_way());
    }
}
