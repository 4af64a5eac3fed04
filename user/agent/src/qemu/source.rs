// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Being the QEMU from which a new one gets its VM.

use std::net::Shutdown;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::state::State;
use super::stream::Stream;
use super::target::SOCKETS;
use crate::refusal::{Error, Refusal, Result};
use crate::socket::{connect, receive, send, Deadline, Limit, Peer, Watch};

/// A QEMU that does not accept the stream closes its channel and ends. It has this long for it.
const GRACE: Duration = Duration::from_millis(500);

/// QEMU answers nothing on either channel.
const NOTHING: Limit = Limit {
    what: "an answer",
    bytes: 1 << 10,
    descriptors: 0,
};

/// A VM could not be handed on.
#[derive(Debug)]
pub struct NotTaken {
    /// Why.
    pub error: Error,
    /// Who may have some of its descriptors all the same: nobody else may get it before this one has ended.
    pub(crate) taker: Option<Watch>,
}

impl From<Error> for NotTaken {
    fn from(error: Error) -> Self {
        Self { error, taker: None }
    }
}

impl From<Refusal> for NotTaken {
    fn from(refusal: Refusal) -> Self {
        Error::from(refusal).into()
    }
}

/// A VM that can be handed on. Nothing of it is used up by that: if the new QEMU fails, another one can have it.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// The names of the descriptors, and the ids as they are now.
    pub state: &'a State,
    /// The descriptors, in the order of the state's entries.
    pub descriptors: &'a [BorrowedFd<'a>],
    /// Everything else.
    pub stream: &'a Stream,
}

impl Offer<'_> {
    /// Hands the VM to the QEMU that listens, or will listen, in this folder, if `may_take` says that it may.
    ///
    /// Returns who has it. The VM runs then, unless that QEMU was told to wait with it.
    ///
    /// # Errors
    ///
    /// [`Refusal::SuccessorEnded`] when that QEMU ends, [`Refusal::TooLate`] when it does not listen within `wait`, or
    /// needs more than `patience` for either channel.
    pub fn hand_on(
        self,
        folder: &Path,
        may_take: impl Fn(Peer) -> bool,
        wait: Duration,
        patience: Duration,
    ) -> std::result::Result<Peer, NotTaken> {
        let (named, sent) = (self.state.entries().len(), self.descriptors.len());
        if named != sent {
            return Err(Refusal::DescriptorCount { named, sent }.into());
        }
        let [cpr, main] = SOCKETS.map(|name| folder.join(name));
        let channel = connect(&cpr, None, Deadline::after(wait, "the new QEMU's start"))?;
        let taker = Peer::of(&channel)?;
        if !may_take(taker) {
            return Err(taker.may_not("take this VM").into());
        }
        let watch = Watch::begin(taker)?;
        match self.send_all(&channel, &main, taker, &watch, patience) {
            Ok(()) => Ok(taker),
            Err(error) => Err(NotTaken {
                error,
                taker: Some(watch),
            }),
        }
    }

    fn send_all(
        self,
        channel: &UnixStream,
        main: &Path,
        taker: Peer,
        watch: &Watch,
        patience: Duration,
    ) -> Result<()> {
        let deadline = Deadline::after(patience, "to hand on the cpr state");
        self.send_state(channel, deadline)
            .and_then(|()| done(channel, deadline))
            .map_err(|error| ended(watch, error))?;
        let deadline = Deadline::after(patience, "to hand on the migration stream");
        let channel = connect(main, Some(watch), deadline)?;
        let other = Peer::of(&channel)?;
        if other != taker {
            let [cpr, main] = [taker, other].map(|peer| peer.pid.as_raw_nonzero().get());
            return Err(Refusal::TwoPeers { cpr, main }.into());
        }
        send(&channel, self.stream.bytes(), None, deadline)
            .and_then(|()| done(&channel, deadline))
            .map_err(|error| ended(watch, error))?;
        if watch.ends_within(GRACE)? {
            return Err(Refusal::SuccessorEnded.into());
        }
        Ok(())
    }

    /// Each descriptor goes with one byte that is sent alone: QEMU takes the descriptor that has come by then.
    fn send_state(self, channel: &UnixStream, deadline: Deadline) -> Result<()> {
        let encoded = self.state.encode();
        let mut rest = encoded.bytes.as_slice();
        let mut begin = 0;
        for (&mark, &descriptor) in encoded.marks.iter().zip(self.descriptors) {
            let (before, marked) = rest.split_at(mark - begin);
            send(channel, before, None, deadline)?;
            send(channel, &marked[..1], Some(descriptor), deadline)?;
            rest = &marked[1..];
            begin = mark + 1;
        }
        send(channel, rest, None, deadline)
    }
}

/// Says that nothing more comes, and waits until the other end closes the channel.
fn done(channel: &UnixStream, deadline: Deadline) -> Result<()> {
    channel
        .shutdown(Shutdown::Write)
        .map_err(Error::io("shutdown"))?;
    receive(channel, NOTHING, deadline).map(|_| ())
}

/// A broken channel is what is seen of a QEMU that ends.
fn ended(watch: &Watch, error: Error) -> Error {
    match watch.ends_within(GRACE) {
        Ok(true) => Refusal::SuccessorEnded.into(),
        _ => error,
    }
}
