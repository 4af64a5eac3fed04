// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Facts as the seams report them, one bit each, as `include/linux/hitless/` has them.

use crate::refusal::Refusal;

macro_rules! facts {
    ($(#[$doc:meta])* $name:ident { $($(#[$fact:meta])* $constant:ident = $bit:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub u32);

        impl $name {
            $($(#[$fact])* pub const $constant: u32 = 1 << $bit;)*
            /// Every fact that is known here.
            pub const KNOWN: u32 = $(Self::$constant)|*;

            /// Whether `fact` is reported.
            pub const fn has(self, fact: u32) -> bool {
                self.0 & fact != 0
            }
        }
    };
}

pub(crate) use facts;

/// The first of the reasons that is a fact.
pub(crate) fn first(facts: u32, reasons: &[(u32, Refusal)]) -> Result<(), Refusal> {
    match reasons.iter().find(|(fact, _)| facts & fact != 0) {
        Some((_, refusal)) => Err(*refusal),
        None => Ok(()),
    }
}
