// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Cards that go through an update together, by the library for VMMs.

use std::collections::BTreeMap;

use anyhow::{bail, Context, Result};
use hitless_proto::Step;
use hitless_uapi::{kexec, LiveUpdate, Session};
use hitless_vmm::error::Kind;
use hitless_vmm::incoming::{Bound, Found, Rebuilt, Retrieved, Stage, Swapped};
use hitless_vmm::{Collected, Error, Incoming, Preserved, Stuck};

use crate::card::Card;
use crate::crowd::Crowd;

/// How far an update has come.
#[derive(Debug)]
pub(crate) enum Update {
    Preserved(Preserved),
    Found(Incoming<Found>),
    Retrieved(Incoming<Retrieved>),
    Bound(Incoming<Bound>),
    Rebuilt(Incoming<Rebuilt>),
    Swapped(Incoming<Swapped>),
}

/// All that there is of updates, and what is left after a step.
type Cards = BTreeMap<u8, Card>;

impl Update {
    /// Everything of some cards and crowds goes into a new session.
    pub(crate) fn preserve<'a>(
        session: &str,
        cards: &Cards,
        numbers: &[u8],
        crowds: impl Iterator<Item = &'a Crowd>,
    ) -> Result<Self> {
        let mut collected = Collected::new(session);
        for number in numbers {
            let card = cards.get(number);
            let card =
                card.with_context(|| format!("there is no card {number}: start it first"))?;
            collected = card.collect(*number, collected)?;
        }
        for crowd in crowds {
            collected = crowd.collect(collected)?;
        }
        let preserved = collected.preserve(&LiveUpdate::open()?);
        Ok(Self::Preserved(preserved.map_err(Error::from)?))
    }

    /// Finds a session, or takes one that is open already.
    pub(crate) fn find(name: &str, open: Option<Session>) -> Result<Self> {
        Ok(Self::Found(match open {
            Some(session) => Incoming::find_in(session)?,
            None => Incoming::find(&LiveUpdate::open()?, name)?,
        }))
    }

    /// The session.
    pub(crate) fn session(&self) -> &Session {
        match self {
            Self::Preserved(update) => update.session(),
            Self::Found(update) => update.session(),
            Self::Retrieved(update) => update.session(),
            Self::Bound(update) => update.session(),
            Self::Rebuilt(update) => update.session(),
            Self::Swapped(update) => update.session(),
        }
    }

    /// Goes one step further; where that fails, the update is where it was.
    pub(crate) fn step(self, step: Step, cards: &mut Cards) -> (Self, Result<()>) {
        match (self, step) {
            (Self::Found(update), Step::Retrieve) => {
                gone(update.retrieve(), Self::Retrieved, Self::Found, |update| {
                    each(update, cards, Card::retrieved)
                })
            }
            (Self::Retrieved(update), Step::Bind) => {
                gone(update.bind(), Self::Bound, Self::Retrieved, |update| {
                    each(update, cards, Card::is_bound)
                })
            }
            (Self::Bound(update), Step::Rebuild) => {
                gone(update.rebuild(), Self::Rebuilt, Self::Bound, |update| {
                    each(update, cards, Card::is_rebuilt)
                })
            }
            (Self::Bound(update), Step::RebuildOwn) => {
                gone(update.rebuild_own(), Self::Rebuilt, Self::Bound, |update| {
                    each(update, cards, Card::is_rebuilt)
                })
            }
            (Self::Rebuilt(update), Step::Swap) => {
                gone(update.swap(), Self::Swapped, Self::Rebuilt, |update| {
                    each(update, cards, Card::is_swapped)
                })
            }
            (update, step) => {
                let why = anyhow::anyhow!("{step:?} is not what comes next: {update:?}");
                (update, Err(why))
            }
        }
    }

    /// Gives a card up.
    pub(crate) fn give_up(&mut self, card: u8) -> Result<()> {
        let name = name(card);
        match self {
            Self::Preserved(_) => bail!("a card is given up after the jump"),
            Self::Found(update) => update.give_up(&name)?,
            Self::Retrieved(update) => update.give_up(&name)?,
            Self::Bound(update) => update.give_up(&name)?,
            Self::Rebuilt(update) => update.give_up(&name)?,
            Self::Swapped(update) => update.give_up(&name)?,
        }
        Ok(())
    }

    /// Closes the session: before the jump that undoes everything.
    pub(crate) fn close(self) -> Result<()> {
        if let Self::Preserved(update) = self {
            update.undo().map_err(Error::from)?;
        }
        Ok(())
    }

    /// Finishes the session; where that is refused, the update is where it was. It is tried before everything is swapped,
    /// too.
    pub(crate) fn finish(self) -> (Option<Self>, Result<()>) {
        match self {
            Self::Swapped(update) => match update.finish() {
                // What has come through can be collected for the next update.
                Ok(running) => (None, running.again().map(drop).map_err(Into::into)),
                Err(stuck) => (Some(Self::Swapped(stuck.state)), Err(stuck.error.into())),
            },
            update => match update.session().finish() {
                Ok(()) => (None, Ok(())),
                Err(error) => (Some(update), Err(error.into())),
            },
        }
    }

    /// Jumps. Returns when that is refused.
    pub(crate) fn jump<'a>(mut all: impl Iterator<Item = &'a Self>) -> anyhow::Error {
        match all.find_map(|update| match update {
            Self::Preserved(update) => Some(update.jump()),
            _ => None,
        }) {
            Some(error) => error.into(),
            None => kexec::jump().into(),
        }
    }
}

/// What comes of a step: the next state, after `look` has seen it, or the one before.
fn gone<S, N>(
    result: Result<N, Stuck<S>>,
    next: impl FnOnce(N) -> Update,
    before: impl FnOnce(S) -> Update,
    look: impl FnOnce(&N) -> Result<()>,
) -> (Update, Result<()>) {
    match result {
        Ok(state) => {
            let looked = look(&state);
            (next(state), looked)
        }
        Err(Stuck { error, state, .. }) => (before(state), Err(error.into())),
    }
}

/// Shows each card what has become of it.
fn each<S: Stage>(
    update: &Incoming<S>,
    cards: &mut Cards,
    show: impl Fn(&mut Card, u8, &str, &Incoming<S>) -> Result<()>,
) -> Result<()> {
    for name in update.names(Kind::Device) {
        // Other devices are those of a crowd, which takes them when all are swapped.
        let Some(number) = name.strip_prefix(NAME) else {
            continue;
        };
        if update.is_given_up(name)? {
            continue;
        }
        let number = number.parse().context("a card has a number")?;
        show(cards.entry(number).or_default(), number, name, update)?;
    }
    Ok(())
}

/// How the names of all that belongs to a card begin; its number follows.
const NAME: &str = "card-";

/// The name of all that belongs to a card.
pub(crate) fn name(number: u8) -> String {
    format!("{NAME}{number}")
}

#[test]
fn the_tokens_are_those_that_the_lab_knows() {
    assert_eq!(hitless_vmm::MANIFEST_TOKEN + 2, hitless_proto::FIRST_TOKEN);
}
