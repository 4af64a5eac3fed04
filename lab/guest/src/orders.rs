// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One order after the other.

mod host;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};
use hitless_proto::{Act, Answer, Bdf, Command, Step, What};
use hitless_uapi::{kexec, LiveUpdate, Session, VfioDevice};

use crate::card::Card;
use crate::crowd::Crowd;
use crate::owner::Owner;
use crate::update::Update;

/// Physical address of what is loaded and never jumped into.
const NO_KERNEL: usize = 0x100_0000;
const NO_OWNER: &str = "there is no other process: start it first";

/// Everything that orders work on.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    cards: BTreeMap<u8, Card>,
    crowds: BTreeMap<String, Crowd>,
    /// Sessions that are worked on file by file.
    sessions: BTreeMap<String, Session>,
    /// Sessions that are worked on as a whole.
    updates: BTreeMap<String, Update>,
    hoard: Vec<File>,
    /// Who gets the orders instead, but for those about itself.
    owner: Option<Owner>,
}

impl Machine {
    /// Obeys one order.
    pub(crate) fn obey(&mut self, command: Command) -> Result<Answer> {
        match (&command, &mut self.owner) {
            (Command::OwnerStart | Command::OwnerShare { .. } | Command::OwnerKill, _) => {}
            (_, Some(owner)) => return owner.obey(command),
            (_, None) => {}
        }
        match command {
            // Another process.
            Command::OwnerStart => {
                ensure!(self.owner.is_none(), "the cards have an owner already");
                self.owner = Some(Owner::start()?);
            }
            Command::OwnerShare { session } => {
                let owner = self.owner.as_ref().context(NO_OWNER)?;
                let shared = owner.session(&session)?;
                self.sessions.insert(session, shared);
            }
            Command::OwnerKill => self.owner.take().context(NO_OWNER)?.kill()?,
            // The host.
            Command::BindDriver { bdf } => host::bind_driver(bdf.parse()?)?,
            Command::OpenDevice { bdf } => {
                VfioDevice::open(&bdf.parse::<Bdf>()?.to_string())?;
            }
            Command::Features => return host::features(),
            Command::LoadKernel { image, cmdline } => host::load(&image, &cmdline)?,
            Command::LoadEdited {
                image,
                cmdline,
                at,
                bytes,
            } => host::load_edited(&image, &cmdline, at, &bytes)?,
            Command::LoadWithoutHandover => kexec::load_page(&[0xf4; 4096], NO_KERNEL)?,
            Command::Kexec => self.jump()?,
            Command::FillMemory { keep_mib } => self.hoard.push(host::fill(keep_mib)?),
            Command::FreeMemory => self.hoard.clear(),
            Command::ReadFile { path } => return host::read(&path),
            Command::WriteFile { path, text } => host::write(&path, &text)?,
            Command::WriteAfter { words, writes } => host::write_after(words, writes)?,
            Command::Faulty { nth, command } => {
                return faulty(nth, || self.obey(*command));
            }
            Command::Run {
                program, arguments, ..
            } => return host::run(&program, &arguments),
            // Sessions.
            Command::SessionCreate { session } => self.add(session, LiveUpdate::create_session)?,
            Command::SessionRetrieve { session } => {
                self.add(session, LiveUpdate::retrieve_session)?;
            }
            Command::SessionClose { session } => {
                if let Some(update) = self.updates.remove(&session) {
                    update.close()?;
                } else {
                    self.session(&session)?;
                    self.sessions.remove(&session);
                }
            }
            Command::Finish { session } => self.finish(&session)?,
            Command::PreserveAll { session, cards } => {
                self.is_new(&session)?;
                let crowds = self
                    .crowds
                    .values()
                    .filter(|crowd| crowd.session() == session);
                let update = Update::preserve(&session, &self.cards, &cards, crowds)?;
                self.updates.insert(session, update);
            }
            Command::GiveUp { session, card } => {
                let update = self.updates.get_mut(&session);
                update
                    .context("nothing was taken of this session")?
                    .give_up(card)?;
            }
            Command::Take { session, step } => self.take(session, step)?,
            Command::Preserve {
                session,
                card,
                what,
                token,
            } => self
                .session(&session)?
                .preserve_fd(self.look(card)?.file(what)?, token)
                .with_context(|| format!("preserving the {what:?} of card {card}"))?,
            Command::Retrieve {
                session,
                card,
                what,
                token,
            } => self.retrieve(&session, card, what, token)?,
            // A card, or many functions.
            Command::Start {
                card,
                bdf,
                ring,
                iova,
            } => return self.start(card, bdf.parse()?, ring, iova),
            Command::Crowd { crowd, act } => self.crowd(&crowd, act)?,
            Command::Mark { card, token } => self.card(card)?.mark(token)?,
            Command::MapPieces { card, pieces } => self.card(card)?.map_pieces(&pieces)?,
            Command::HwptOf { card } => return self.look(card)?.hwpt(),
            Command::Raw { card, call, fields } => return self.card(card)?.raw(call, &fields),
            Command::RestoreHwpt { card, token } => self.card(card)?.restore_hwpt(token)?,
            Command::BindDevice { card } => self.card(card)?.bind()?,
            Command::BindDeviceElsewhere { card } => self.look(card)?.bind_elsewhere()?,
            Command::BindDeviceTo { card, other } => {
                self.look(card)?.bind_to(self.look(other)?)?;
            }
            Command::Adopt { card } => self.card(card)?.adopt()?,
            Command::DetachDevice { card } => self.look(card)?.detach()?,
            Command::Resume { card } => self.card(card)?.resume()?,
            Command::Rebuild { card } => self.card(card)?.rebuild()?,
            Command::Mappings { card } => return self.look(card)?.mappings(),
            Command::RebuildFromList { card, without } => {
                self.card(card)?.rebuild_from_list(without)?;
            }
            Command::Swap { card } => self.card(card)?.swap()?,
            Command::SwapBack { card } => self.look(card)?.swap_back()?,
            Command::Swaps {
                card,
                count,
                pause_us,
            } => {
                let pause = Duration::from_micros(pause_us);
                return self.card(card)?.swaps(count, pause);
            }
            Command::DestroyOld { card } => self.card(card)?.destroy_old()?,
            Command::Frames { card } => return self.look(card)?.frames(),
            Command::PunchHole { card } => self.look(card)?.punch_hole()?,
            Command::Interrupts { card, on } => self.look(card)?.interrupts(on)?,
            Command::Arm { card, vectors } => self.card(card)?.arm(vectors)?,
            Command::Signals { card } => return self.look(card)?.signals(),
            Command::ResetDevice { card } => self.look(card)?.reset()?,
            Command::PagesMoved { card } => return self.look(card)?.pages_moved(),
        }
        Ok(Answer::Ok)
    }

    fn look(&self, number: u8) -> Result<&Card> {
        let card = self.cards.get(&number);
        card.with_context(|| unknown_card(number))
    }

    fn card(&mut self, number: u8) -> Result<&mut Card> {
        let card = self.cards.get_mut(&number);
        card.with_context(|| unknown_card(number))
    }

    fn session(&self, name: &str) -> Result<&Session> {
        let whole = self.updates.get(name).map(Update::session);
        let session = whole.or_else(|| self.sessions.get(name));
        session.with_context(|| {
            format!("there is no session `{name}`: create it or retrieve it first")
        })
    }

    fn is_new(&self, session: &str) -> Result<()> {
        ensure!(
            self.session(session).is_err(),
            "session `{session}` is there already: close it first"
        );
        Ok(())
    }

    fn finish(&mut self, name: &str) -> Result<()> {
        if let Some(update) = self.updates.remove(name) {
            let (left, finished) = update.finish();
            self.updates
                .extend(left.map(|update| (name.to_owned(), update)));
            return finished;
        }
        self.session(name)?.finish()?;
        self.sessions.remove(name);
        Ok(())
    }

    /// One step of an update; the first one finds the session.
    fn take(&mut self, name: String, step: Step) -> Result<()> {
        let update = match self.updates.remove(&name) {
            Some(update) => update,
            None => Update::find(&name, self.sessions.remove(&name))?,
        };
        let (update, done) = update.step(step, &mut self.cards);
        self.updates.insert(name, update);
        done
    }

    fn start(&mut self, number: u8, bdf: Bdf, ring: u32, iova: u64) -> Result<Answer> {
        let is_new = !self.cards.contains_key(&number);
        ensure!(is_new, "card {number} is there already");
        let (card, answer) = Card::start(number, bdf, ring, iova)?;
        self.cards.insert(number, card);
        Ok(answer)
    }

    fn crowd(&mut self, plan: &hitless_proto::Crowd, act: Act) -> Result<()> {
        let (name, session) = (&plan.name, &plan.session);
        ensure!(
            !self.crowds.contains_key(name),
            "the crowd `{name}` is there already"
        );
        let crowd = match act {
            Act::Start => {
                for function in &plan.functions {
                    host::bind_driver(function.parse()?)?;
                }
                Crowd::start(plan)?
            }
            Act::Adopt => match self.updates.get(session) {
                Some(Update::Swapped(update)) => Crowd::adopt(plan, update)?,
                other => bail!("session `{session}` is not swapped: {other:?}"),
            },
        };
        self.crowds.insert(name.clone(), crowd);
        Ok(())
    }

    fn add(
        &mut self,
        name: String,
        open: impl FnOnce(&LiveUpdate, &str) -> hitless_uapi::Result<Session>,
    ) -> Result<()> {
        self.is_new(&name)?;
        // The device file is exclusive, so it is open no longer than for the call.
        let session = open(&LiveUpdate::open()?, &name)?;
        self.sessions.insert(name, session);
        Ok(())
    }

    fn retrieve(&mut self, session: &str, number: u8, what: What, token: u64) -> Result<()> {
        let file = self.session(session)?.retrieve_fd(token);
        let file = file.with_context(|| format!("retrieving the {what:?} of card {number}"))?;
        let card = self.cards.entry(number).or_default();
        card.take(number, what, file)
    }

    /// Jumps. The harvesters stop before, so that no ring is half-way through something; the cards go on.
    fn jump(&mut self) -> Result<()> {
        let cards = self.cards.values_mut();
        let paused: Vec<&mut Card> = cards.filter_map(Card::pause).collect();
        let error = Update::jump(self.updates.values());
        for card in paused {
            card.harvest()?;
        }
        Err(error).context("jumping into the next kernel")
    }
}

/// Obeys an order with an allocation of the kernel's failing.
fn faulty(nth: u32, obey: impl FnOnce() -> Result<Answer>) -> Result<Answer> {
    let path = "/proc/thread-self/fail-nth";
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    file.write_all(nth.to_string().as_bytes())
        .context("fail-nth")?;
    let result = obey();
    let mut left = String::new();
    file.read_to_string(&mut left).context("fail-nth")?;
    file.write_all(b"0").context("fail-nth")?;
    Ok(Answer::Faulty {
        injected: left.trim() == "0",
        error: result.err().map(|error| format!("{error:#}")),
    })
}

fn unknown_card(number: u8) -> String {
    format!("there is no card {number}: start it or retrieve it first")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named() {
        let mut machine = Machine::default();
        machine.cards.insert(1, Card::default());
        let (session, bdf) = ("vm".to_owned(), "0000:01:00.0".to_owned());
        let start = Command::Start {
            card: 2,
            bdf,
            ring: 65,
            iova: 0,
        };
        for (command, words) in [
            (Command::Frames { card: 3 }, "no card 3"),
            (Command::Finish { session }, "no session `vm`"),
            (
                Command::OpenDevice {
                    bdf: "01:00".into(),
                },
                "01:00",
            ),
            (Command::BindDevice { card: 1 }, "no device file"),
            (start, "not 65"),
        ] {
            let refused = format!("{:#}", machine.obey(command).unwrap_err());
            assert!(refused.contains(words), "{refused}");
        }
    }
}
