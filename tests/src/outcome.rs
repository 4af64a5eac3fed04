// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a test runs, and what its run has to be.

use anyhow::{bail, Result};
use hitless_lab::machine::pace::{Rate, TooSlow};
use hitless_lab::machine::profile::Profile;
use hitless_lab::play::end::Outcome;
use hitless_lab::play::scene::{Plan, CARDS, SECOND_IOVA};

use crate::test::{Bench, End};

/// Frames per second unless a test wants another rate.
pub(crate) const RATE: u32 = 2000;
/// What a test runs on a machine of this profile.
pub(crate) fn plan(name: &str, profile: &str, words: &str) -> Result<Plan> {
    Ok(Plan {
        name: format!("{name}-{profile}"),
        profile: Profile::load(profile)?,
        rate: Rate::AtMost(RATE),
        words: words.to_owned(),
        second_goes_on: false,
        second_iova: SECOND_IOVA,
        cards: CARDS,
        talk: false,
    })
}

/// The run has to be good.
pub(crate) fn good(mut outcome: Outcome, bench: &Bench) -> Result<End> {
    if !outcome.verdict.is_good() {
        return bad(&outcome, &outcome.verdict.words());
    }
    done(&mut outcome, bench);
    Ok(End::Passed)
}

/// The run is not what it should be. Where the host was too slow, that may be why.
pub(crate) fn bad(outcome: &Outcome, why: &str) -> Result<End> {
    let logs = outcome.directory.path().display();
    let why = format!("{why}; the logs are in {logs}");
    if outcome.verdict.is_slow() {
        return Err(TooSlow::new(why).into());
    }
    bail!(why)
}

/// The run is what it should be: nobody needs its logs.
pub(crate) fn done(outcome: &mut Outcome, bench: &Bench) {
    if !bench.keep {
        outcome.directory.discard();
    }
}
