// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Which domain id a device's entry carries after a swap.
//!
//! With the same id on either side the entry changes in fewer words, in the scalable formats in one, and one store is
//! what a swap without a fault needs (VT-d 6.2.2: caches are tagged with the domain id, and flushed by it).

/// Who uses which domain id on a unit, when a device changes from one domain to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdUse {
    /// Attachments of the old domain under its id on this unit; 0: it has none there.
    pub users: u32,
    /// The new domain has an id on this unit.
    pub has_own: bool,
}

/// Shall the new domain get the old one's id?
///
/// Only where nobody else is left on the old one: two domains never share an id, or one's cached translations would
/// be the other's.
#[must_use]
pub fn hands_over(id_use: &IdUse) -> bool {
    id_use.users == 1 && !id_use.has_own
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
        assert!(hands_over(&LAST));
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
            assert!(!hands_over(&other), "{other:?}");
        }
    }
}
