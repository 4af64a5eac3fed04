// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Being the QEMU to which an old one gives its VM.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};

use super::roles::{Kind, Parts};
use super::state::{State, MAX_DESCRIPTORS, MAX_STATE};
use super::stream::{Stream, MAX_STREAM};
use crate::manifest::Manifest;
use crate::refusal::{Error, Refusal, Result};
use crate::socket::{accept, receive, receive_checked, Deadline, Limit, Peer, Watch};

/// The file names of the two sockets, in the folder of a VM.
pub const SOCKETS: [&str; 2] = ["cpr.sock", "main.sock"];

const CPR: Limit = Limit {
    what: "the cpr state",
    bytes: MAX_STATE,
    descriptors: MAX_DESCRIPTORS,
};
const MAIN: Limit = Limit {
    what: "the migration stream",
    bytes: MAX_STREAM,
    descriptors: 0,
};

/// All that an old QEMU has handed over. It has stopped the VM, and cannot go on with it.
#[derive(Debug)]
pub struct Given {
    /// Who gave it.
    pub peer: Peer,
    /// Its process, which may still be there.
    pub(crate) giver: Watch,
    /// What is known of it.
    pub manifest: Manifest,
    /// The descriptors, in the order of the state's entries.
    pub descriptors: Vec<OwnedFd>,
}

/// Two sockets that wait for a QEMU. They are removed from their folder when this is dropped.
#[derive(Debug)]
pub struct Target {
    cpr: Listener,
    main: Listener,
    /// The folder, locked. It is let go when both files are gone.
    folder: OwnedFd,
}

/// A socket with its file.
#[derive(Debug)]
struct Listener {
    socket: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// A file that is left of a process before is replaced: who holds the folder's lock knows that it is one.
    fn bind(path: PathBuf) -> Result<Self> {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("unlink")(error));
            }
            _ => {}
        }
        let socket = UnixListener::bind(&path).map_err(Error::io("bind"))?;
        Ok(Self { socket, path })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Somebody else may have removed it; that is what is wanted.
        let _ = fs::remove_file(&self.path);
    }
}

impl Target {
    /// Listens in a folder.
    ///
    /// # Errors
    ///
    /// Those of bind(2); `EAGAIN` when somebody listens there already.
    pub fn listen(folder: &Path) -> Result<Self> {
        let lock = rustix::fs::open(folder, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(Error::call("open"))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(Error::call("flock"))?;
        let [cpr, main] = SOCKETS.map(|name| Listener::bind(folder.join(name)));
        Ok(Self {
            cpr: cpr?,
            main: main?,
            folder: lock,
        })
    }

    /// Takes a VM from the QEMU that connects, if `may_give` says that it may.
    ///
    /// `patience` is for each of the two channels, from when it is connected.
    ///
    /// # Errors
    ///
    /// Until the cpr state is accepted, the VM runs on in its QEMU, which reports a migration that failed. The same
    /// holds if the main stream is too long, or breaks off.
    pub fn receive(
        self,
        may_give: impl Fn(Peer) -> bool,
        wait: Duration,
        patience: Duration,
    ) -> Result<Given> {
        let Self {
            cpr,
            main,
            folder: _lock,
        } = self;
        let connected = accept(&cpr.socket, Deadline::after(wait, "to connect"))?;
        // When the cpr channel is closed, QEMU goes on with the main one: where something is refused, nobody may
        // listen there any more by then.
        let state = Peer::of(&connected).and_then(|giver| {
            let watch = Watch::begin(giver)?;
            if !may_give(giver) {
                return Err(giver.may_not("give a VM").into());
            }
            let came = receive(&connected, CPR, Deadline::after(patience, CPR.what))?;
            let state = State::parse(&came.bytes)?;
            let kinds: Result<Vec<Kind>> = came.descriptors.iter().map(Kind::of).collect();
            let kinds = kinds?;
            Parts::of(&state, &kinds)?;
            Ok((giver, watch, state, kinds, came.descriptors))
        });
        let (giver, watch, state, kinds, descriptors) = match state {
            Ok(state) => state,
            Err(error) => {
                drop(main);
                return Err(error);
            }
        };
        drop(cpr);
        drop(connected);
        let connected = accept(&main.socket, Deadline::after(patience, MAIN.what))?;
        let other = Peer::of(&connected)?;
        if other != giver {
            let [cpr, main] = [giver, other].map(|peer| peer.pid.as_raw_nonzero().get());
            return Err(Refusal::TwoPeers { cpr, main }.into());
        }
        let deadline = Deadline::after(patience, MAIN.what);
        let came = receive_checked(&connected, MAIN, deadline, Stream::check_head)?;
        let stream = Stream::new(came.bytes)?;
        Ok(Given {
            peer: giver,
            giver: watch,
            manifest: Manifest::new(giver.owner(), state, kinds, stream)?,
            descriptors,
        })
    }
}
