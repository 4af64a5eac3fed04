// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! May the machine sleep, and may anything be preserved while it does?
//!
//! Whoever suspends or hibernates a machine, or jumps into a kernel that comes back, puts its devices to sleep first, and
//! whoever wakes one from an image overwrites its memory. A device that goes on survives neither.

use crate::refusal::Refusal;

/// May the machine sleep, while something is preserved for the next kernel, or something that came from the previous one is
/// not finished?
///
/// # Errors
///
/// [`Refusal::SleepsUnfinished`], [`Refusal::SleepsPreserved`].
pub const fn sleep(preserved: bool, unfinished: bool) -> Result<(), Refusal> {
    match (preserved, unfinished) {
        (_, true) => Err(Refusal::SleepsUnfinished),
        (true, false) => Err(Refusal::SleepsPreserved),
        (false, false) => Ok(()),
    }
}

/// May something be preserved, while the machine goes to sleep or not?
///
/// # Errors
///
/// [`Refusal::Asleep`].
pub const fn preserve(asleep: bool) -> Result<(), Refusal> {
    match asleep {
        true => Err(Refusal::Asleep),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_machine_with_nothing_to_lose_sleeps() {
        assert_eq!(sleep(false, false), Ok(()));
        assert_eq!(sleep(true, false), Err(Refusal::SleepsPreserved));
        assert_eq!(sleep(false, true), Err(Refusal::SleepsUnfinished));
        assert_eq!(sleep(true, true), Err(Refusal::SleepsUnfinished));
        assert_eq!(preserve(false), Ok(()));
        assert_eq!(preserve(true), Err(Refusal::Asleep));
    }
}
