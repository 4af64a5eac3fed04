// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A card in an update that the library for VMMs does: what it gives, and what it gets back.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{bail, Context, Result};
use hitless_proto::{Answer, Piece, What};
use hitless_uapi::vfio::Irq;
use hitless_vmm::incoming::{Bound, Rebuilt, Retrieved, Swapped};
use hitless_vmm::{Collected, Incoming, Mapping, Rights};

use rustix::event::{eventfd, EventfdFlags};
use rustix::io::Errno;

use super::{Card, Table};
use crate::update::name;

impl Card {
    /// Adds everything of the card to what goes through an update.
    pub(crate) fn collect(&self, number: u8, collected: Collected) -> Result<Collected> {
        let name = &*name(number);
        let mut collected = collected
            .memory(name, &self.memory()?.file)?
            .iommufd(name, self.iommufd()?)?
            .hwpt(name, name, self.attached()?.hwpt)?
            .device(name, self.device()?, name)?;
        if let Some(token) = self.attached()?.token {
            collected = collected.marked(name, token)?;
        }
        if !self.signals.is_empty() {
            collected = collected.interrupts(name, Irq::Msix, &self.signals)?;
        }
        for piece in &self.mapped {
            collected = collected.mapping(name, mapping_of(piece, name)?)?;
        }
        Ok(collected)
    }

    /// Sets interrupts up, and keeps their eventfds.
    pub(crate) fn arm(&mut self, vectors: u32) -> Result<()> {
        let signals = signals(vectors as usize)?;
        let all: Vec<_> = signals
            .iter()
            .flatten()
            .map(|one| Some(one.as_fd()))
            .collect();
        self.device()?.set_irqs(Irq::Msix, &all)?;
        self.signals = signals;
        Ok(())
    }

    /// How often each eventfd was signalled since the last time.
    pub(crate) fn signals(&self) -> Result<Answer> {
        let read = |signal: &OwnedFd| {
            let mut count = [0; 8];
            match rustix::io::read(signal, &mut count) {
                Ok(_) => Ok(u64::from_ne_bytes(count)),
                Err(Errno::AGAIN) => Ok(0),
                Err(errno) => Err(errno),
            }
        };
        let counts = self.signals.iter().flatten().map(read);
        let counts = counts
            .collect::<Result<_, _>>()
            .context("reading an eventfd")?;
        Ok(Answer::Signals { counts })
    }

    /// The card's files have come out of a session.
    pub(crate) fn retrieved(
        &mut self,
        number: u8,
        name: &str,
        update: &Incoming<Retrieved>,
    ) -> Result<()> {
        let files = [
            (What::Memory, update.memory(name)?.as_fd()),
            (What::Iommufd, update.iommufd(name)?.as_fd()),
            (What::Device, update.device(name)?.as_fd()),
        ];
        for (what, file) in files {
            let copy = file.try_clone_to_owned();
            self.take(number, what, copy.context("duplicating a descriptor")?)?;
        }
        Ok(())
    }

    /// The card is bound, and what it is attached to restored.
    pub(crate) fn is_bound(&mut self, _: u8, name: &str, update: &Incoming<Bound>) -> Result<()> {
        self.bound = Some(update.device_id(name)?);
        let restored = update.restored(name)?;
        self.attached = restored.map(|hwpt| Table::new(hwpt, None));
        Ok(())
    }

    /// There is a page table to swap to.
    pub(crate) fn is_rebuilt(
        &mut self,
        _: u8,
        name: &str,
        update: &Incoming<Rebuilt>,
    ) -> Result<()> {
        let built = update.built(name)?;
        self.pending = built.map(|built| Table::new(built.hwpt, Some(built.ioas)));
        Ok(())
    }

    /// The card is swapped, and what it was attached to destroyed.
    pub(crate) fn is_swapped(
        &mut self,
        _: u8,
        name: &str,
        update: &Incoming<Swapped>,
    ) -> Result<()> {
        self.attached = self.pending.take();
        if let Some(had) = update.interrupts(name)? {
            self.signals = signals(had.vectors)?;
            update.arm(name, had.kind, &self.signals)?;
        }
        Ok(())
    }
}

/// An eventfd for each of so many vectors.
fn signals(vectors: usize) -> Result<Vec<Option<OwnedFd>>> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let all = (0..vectors).map(|_| eventfd(0, flags).map(Some));
    all.collect::<Result<_, _>>().context("eventfd")
}

fn mapping_of(piece: &Piece, memory: &str) -> Result<Mapping> {
    let rights = match (piece.readable, piece.writeable) {
        (true, true) => Rights::ReadWrite,
        (true, false) => Rights::Read,
        (false, true) => Rights::Write,
        (false, false) => bail!("nothing may be done with {piece:x?}"),
    };
    Ok(Mapping {
        iova: piece.iova,
        length: piece.length,
        memory: memory.to_owned(),
        offset: piece.offset,
        rights,
    })
}
