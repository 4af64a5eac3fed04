// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One order after the other.

mod host;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use hitless_proto::{Act, Answer, Bdf, Command, What};
use hitless_uapi::{kexec, LiveUpdate, Session};

use crate::card::Card;
use crate::crowd::Crowd;
use crate::initramfs;

/// Physical address of what is loaded and never jumped into.
const NO_KERNEL: usize = 0x100_0000;

/// Everything that orders work on.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    cards: BTreeMap<u8, Card>,
    crowds: BTreeMap<String, Crowd>,
    sessions: BTreeMap<String, Session>,
    hoard: host::Hoard,
    loader: initramfs::Loader,
}

impl Machine {
    /// Obeys one order.
    pub(crate) fn obey(&mut self, command: &Command) -> Result<Answer> {
        match command {
            Command::Start {
                card,
                bdf,
                ring,
                iova,
            } => return self.start(*card, bdf, *ring, *iova),
            Command::BindDriver { bdf } => host::bind_driver(bdf.parse()?)?,
            Command::Crowd { crowd, act } => self.crowd(crowd, *act)?,
            Command::Mark { card, token } => self.card(*card)?.mark(*token)?,
            Command::MapPieces { card, pieces } => self.card(*card)?.map_pieces(pieces)?,
            Command::Features => return host::features(),
            Command::HwptOf { card } => return self.card(*card)?.hwpt(),
            Command::Raw { card, call, fields } => return self.card(*card)?.raw(*call, fields),
            Command::LoadKernel { image, cmdline } => self.loader.load(image, cmdline)?,
            Command::LoadEdited {
                image,
                cmdline,
                at,
                bytes,
            } => self.loader.load_edited(image, cmdline, *at, bytes)?,
            Command::LoadWithoutHandover => kexec::load_page(&[0xf4; 4096], NO_KERNEL)?,
            Command::SessionCreate { session } => self.create(session)?,
            Command::Preserve {
                session,
                card,
                what,
                token,
            } => self.preserve(session, *card, *what, *token)?,
            Command::SessionClose { session } => {
                self.sessions
                    .remove(session)
                    .with_context(|| unknown_session(session))?;
            }
            Command::Kexec => return self.jump(),
            Command::FillMemory { keep_mib } => self.hoard.fill(*keep_mib)?,
            Command::FreeMemory => self.hoard = host::Hoard::default(),
            Command::Compact { rounds } => host::compact(*rounds)?,
            Command::SessionRetrieve { session } => self.retrieve_session(session)?,
            Command::Retrieve {
                session,
                card,
                what,
                token,
            } => self.retrieve(session, *card, *what, *token)?,
            Command::RestoreHwpt { card, token } => self.card(*card)?.restore_hwpt(*token)?,
            Command::BindDevice { card } => self.card(*card)?.bind()?,
            Command::BindDeviceElsewhere { card } => self.card(*card)?.bind_elsewhere()?,
            Command::BindDeviceTo { card, other } => self.bind_to(*card, *other)?,
            Command::OpenDevice { bdf } => {
                hitless_uapi::VfioDevice::open(&bdf.parse::<Bdf>()?.to_string())?;
            }
            Command::Resume { card } => self.card(*card)?.resume()?,
            Command::Rebuild { card } => self.card(*card)?.rebuild()?,
            Command::Mappings { card } => return self.card(*card)?.mappings(),
            Command::RebuildFromList { card, without } => {
                self.card(*card)?.rebuild_from_list(*without)?;
            }
            Command::Swap { card } => self.card(*card)?.swap()?,
            Command::Swaps {
                card,
                count,
                pause_us,
            } => {
                return self
                    .card(*card)?
                    .swaps(*count, Duration::from_micros(*pause_us));
            }
            Command::DestroyOld { card } => self.card(*card)?.destroy_old()?,
            Command::Finish { session } => self.finish(session)?,
            Command::Frames { card } => return self.card(*card)?.frames(),
            Command::PunchHole { card } => self.card(*card)?.punch_hole()?,
            Command::Interrupts { card, on } => self.card(*card)?.interrupts(*on)?,
            Command::SwapBack { card } => self.card(*card)?.swap_back()?,
            Command::PagesMoved { card } => return self.card(*card)?.pages_moved(),
            Command::ReadFile { path } => return host::read_file(path),
            Command::WriteFile { path, text } => host::write_file(path, text)?,
        }
        Ok(Answer::Ok)
    }

    fn card(&mut self, number: u8) -> Result<&mut Card> {
        self.cards
            .get_mut(&number)
            .with_context(|| unknown_card(number))
    }

    fn start(&mut self, number: u8, bdf: &str, ring: u32, iova: u64) -> Result<Answer> {
        ensure!(
            !self.cards.contains_key(&number),
            "card {number} is there already"
        );
        let (card, answer) = Card::start(number, bdf.parse()?, ring, iova)?;
        self.cards.insert(number, card);
        Ok(answer)
    }

    fn bind_to(&self, number: u8, other: u8) -> Result<()> {
        let find = |number| {
            let card = self.cards.get(&number);
            card.with_context(|| unknown_card(number))
        };
        find(number)?.bind_to(find(other)?)
    }

    fn crowd(&mut self, plan: &hitless_proto::Crowd, act: Act) -> Result<()> {
        let name = &plan.name;
        if matches!(act, Act::Start | Act::Retrieve) {
            ensure!(
                !self.crowds.contains_key(name),
                "the crowd `{name}` is there already"
            );
            for function in &plan.functions {
                host::bind_driver(function.parse()?)?;
            }
            let crowd = match act {
                Act::Start => Crowd::start(plan)?,
                _ => Crowd::retrieve(plan, self.session(&plan.session)?)?,
            };
            self.crowds.insert(name.clone(), crowd);
            return Ok(());
        }
        let session = self.sessions.get(&plan.session);
        let crowd = self.crowds.get_mut(name).with_context(|| {
            format!("there is no crowd `{name}`: start it or retrieve it first")
        })?;
        match act {
            Act::Preserve => crowd.preserve(
                plan,
                session.with_context(|| unknown_session(&plan.session))?,
            ),
            Act::Rebuild => crowd.rebuild(plan),
            _ => crowd.swap(),
        }
    }

    fn create(&mut self, name: &str) -> Result<()> {
        ensure!(
            !self.sessions.contains_key(name),
            "session `{name}` is there already: close it first"
        );
        // The device file is exclusive, so it is open no longer than for the call.
        let session = LiveUpdate::open()?.create_session(name)?;
        self.sessions.insert(name.to_owned(), session);
        Ok(())
    }

    fn session(&self, name: &str) -> Result<&Session> {
        self.sessions
            .get(name)
            .with_context(|| unknown_session(name))
    }

    fn preserve(&self, session: &str, number: u8, what: What, token: u64) -> Result<()> {
        let card = self
            .cards
            .get(&number)
            .with_context(|| unknown_card(number))?;
        self.session(session)?
            .preserve_fd(card.file(what)?, token)
            .with_context(|| format!("preserving the {what:?} of card {number}"))
    }

    fn retrieve(&mut self, session: &str, number: u8, what: What, token: u64) -> Result<()> {
        let card = self.cards.entry(number).or_default();
        card.expect_missing(what)?;
        let file = self
            .session(session)?
            .retrieve_fd(token)
            .with_context(|| format!("retrieving the {what:?} of card {number}"))?;
        self.card(number)?.take(number, what, file, token)
    }

    fn finish(&mut self, session: &str) -> Result<()> {
        self.session(session)?.finish()?;
        self.sessions.remove(session);
        Ok(())
    }

    fn retrieve_session(&mut self, name: &str) -> Result<()> {
        ensure!(
            !self.sessions.contains_key(name),
            "session `{name}` is there already: close it first"
        );
        let session = LiveUpdate::open()?.retrieve_session(name)?;
        self.sessions.insert(name.to_owned(), session);
        Ok(())
    }

    /// Jumps. The harvesters stop before, so that no ring is half-way through something; the cards go on.
    fn jump(&mut self) -> Result<Answer> {
        let paused: Vec<u8> = self
            .cards
            .iter_mut()
            .filter_map(|(number, card)| card.pause().then_some(*number))
            .collect();
        let error = kexec::jump();
        for number in paused {
            self.card(number)?.harvest()?;
        }
        Err(error).context("jumping into the next kernel")
    }
}

fn unknown_card(number: u8) -> String {
    format!("there is no card {number}: start it or retrieve it first")
}

fn unknown_session(name: &str) -> String {
    format!("there is no session `{name}`: create it or retrieve it first")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(command: &Command) -> String {
        format!("{:#}", Machine::default().obey(command).unwrap_err())
    }

    #[test]
    fn what_is_not_there_is_named() {
        assert!(refusal(&Command::Frames { card: 3 }).contains("no card 3"));
        assert!(refusal(&Command::Finish {
            session: "vm".to_owned()
        })
        .contains("no session `vm`"));
        assert!(refusal(&Command::BindDriver {
            bdf: "01:00".to_owned()
        })
        .contains("01:00"));
    }

    #[test]
    fn a_ring_that_no_card_has_is_refused_before_anything_is_opened() {
        let command = Command::Start {
            card: 1,
            bdf: "0000:01:00.0".to_owned(),
            ring: 65,
            iova: 0,
        };
        assert!(refusal(&command).contains("65"));
    }

    #[test]
    fn a_failed_retrieve_says_what_is_missing() {
        let mut machine = Machine::default();
        let command = Command::BindDevice { card: 1 };
        machine.cards.insert(1, Card::default());
        let refused = format!("{:#}", machine.obey(&command).unwrap_err());
        assert!(refused.contains("no device file"), "{refused}");
    }
}
