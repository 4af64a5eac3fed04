// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bytes with descriptors over Unix sockets, within limits, and who is at the other end.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::sockopt::Timeout;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use rustix::process::{Pid, PidfdFlags};

use crate::refusal::{Error, Refusal, Result};

/// Descriptors that one message may have; the kernel allows 253.
const AT_ONCE: usize = 253;
/// How often it is looked whether somebody listens.
const KNOCK: Duration = Duration::from_millis(10);

/// Until when something has to be done, and what that is, for who is told that it was not.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    end: Instant,
    what: &'static str,
}

impl Deadline {
    /// So long from now.
    pub fn after(patience: Duration, what: &'static str) -> Self {
        Self {
            end: Instant::now() + patience,
            what,
        }
    }

    /// What is left; never zero, which would mean for ever in some calls.
    fn left(self) -> Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.missed());
        }
        Ok(left)
    }

    fn missed(self) -> Error {
        Refusal::TooLate(self.what).into()
    }

    /// Waits until there is something to read, or the other end is gone.
    fn readable(self, file: BorrowedFd<'_>) -> Result<()> {
        loop {
            if is_readable(file, self.left()?)? {
                return Ok(());
            }
        }
    }
}

/// Whether there is something to read within this time.
fn is_readable(file: BorrowedFd<'_>, patience: Duration) -> Result<bool> {
    let mut files = [PollFd::from_borrowed_fd(file, PollFlags::IN)];
    let patience = Timespec::try_from(patience).unwrap_or(Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    });
    match rustix::event::poll(&mut files, Some(&patience)) {
        Ok(count) => Ok(count > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(Error::call("poll")(errno)),
    }
}

/// Who is at the other end of a socket, or was when it connected or began to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its process.
    pub pid: Pid,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// Who owns a VM: whose QEMU gave it, and may have it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// A user.
    pub uid: u32,
    /// And the group that the QEMU ran with.
    pub gid: u32,
}

impl Peer {
    /// The user and the group.
    pub fn owner(self) -> Owner {
        let Self { uid, gid, .. } = self;
        Owner { uid, gid }
    }

    /// Asks the kernel.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    pub fn of(socket: &UnixStream) -> Result<Self> {
        let credentials =
            rustix::net::sockopt::socket_peercred(socket).map_err(Error::call("SO_PEERCRED"))?;
        Ok(Self {
            pid: credentials.pid,
            uid: credentials.uid.as_raw(),
            gid: credentials.gid.as_raw(),
        })
    }

    /// The refusal of this peer.
    pub fn may_not(self, what: &'static str) -> Refusal {
        Refusal::Peer {
            pid: self.pid.as_raw_nonzero().get(),
            uid: self.uid,
            gid: self.gid,
            what,
        }
    }
}

/// A process that is waited for, but not ours.
#[derive(Debug)]
pub(crate) struct Watch(OwnedFd);

impl Watch {
    pub(crate) fn begin(peer: Peer) -> Result<Self> {
        rustix::process::pidfd_open(peer.pid, PidfdFlags::empty())
            .map(Self)
            .map_err(Error::call("pidfd_open"))
    }

    /// Whether the process ends within this time.
    pub(crate) fn ends_within(&self, patience: Duration) -> Result<bool> {
        is_readable(self.0.as_fd(), patience)
    }
}

/// The next connection.
///
/// # Errors
///
/// [`Refusal::TooLate`], and those of accept(2).
pub fn accept(listener: &UnixListener, deadline: Deadline) -> Result<UnixStream> {
    deadline.readable(listener.as_fd())?;
    let (stream, _) = listener.accept().map_err(Error::io("accept"))?;
    Ok(stream)
}

/// Connects to a socket on which somebody will listen soon; no longer than the process lives that is to do so, if it is
/// known.
///
/// # Errors
///
/// [`Refusal::TooLate`], [`Refusal::SuccessorEnded`], and those of connect(2).
pub(crate) fn connect(
    path: &Path,
    listener: Option<&Watch>,
    deadline: Deadline,
) -> Result<UnixStream> {
    loop {
        let error = match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::CONNREFUSED) => {}
            _ => return Err(Error::io("connect")(error)),
        }
        let pause = KNOCK.min(deadline.left()?);
        match listener {
            None => std::thread::sleep(pause),
            Some(process) if process.ends_within(pause)? => {
                return Err(Refusal::SuccessorEnded.into())
            }
            Some(_) => {}
        }
    }
}

/// What came until the other end was done.
#[derive(Debug)]
pub struct Received {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The descriptors, in the order in which they came.
    pub descriptors: Vec<OwnedFd>,
}

/// How much is taken, and how it is called where it is more.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// What it is.
    pub what: &'static str,
    /// Bytes.
    pub bytes: usize,
    /// Descriptors.
    pub descriptors: usize,
}

/// Reads until the other end is done with sending.
///
/// # Errors
///
/// What is too much or too late, or lost descriptors. What has come so far is closed then.
pub fn receive(socket: &UnixStream, limit: Limit, deadline: Deadline) -> Result<Received> {
    receive_checked(socket, limit, deadline, |_| Ok(()))
}

/// The same; `check` sees all that has come so far, each time that more has.
///
/// # Errors
///
/// As [`receive`], and those of `check`, before the other end is done.
pub fn receive_checked(
    socket: &UnixStream,
    limit: Limit,
    deadline: Deadline,
    check: impl Fn(&[u8]) -> std::result::Result<(), Refusal>,
) -> Result<Received> {
    let mut bytes = Vec::new();
    let mut descriptors = Vec::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        deadline.readable(socket.as_fd())?;
        let count = piece_of(socket, &mut piece, &mut descriptors)?;
        if descriptors.len() > limit.descriptors {
            return Err(match limit.descriptors {
                0 => Refusal::UnexpectedDescriptors(limit.what),
                limit => Refusal::TooMany {
                    what: "descriptors",
                    limit,
                },
            }
            .into());
        }
        if count == 0 {
            return Ok(Received { bytes, descriptors });
        }
        if bytes.len() + count > limit.bytes {
            return Err(Refusal::TooLong {
                what: limit.what,
                limit: limit.bytes,
            }
            .into());
        }
        bytes.extend(&piece[..count]);
        check(&bytes)?;
    }
}

/// Reads once.
fn piece_of(
    socket: &UnixStream,
    piece: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> Result<usize> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = loop {
        let mut slices = [IoSliceMut::new(piece)];
        match rustix::net::recvmsg(socket, &mut slices, &mut control, flags) {
            Err(Errno::INTR) => {}
            other => break other.map_err(Error::call("recvmsg"))?,
        }
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Refusal::DescriptorsLost.into());
    }
    Ok(received.bytes)
}

/// Sends all bytes, and with the first of them a descriptor if there is one.
///
/// # Errors
///
/// [`Refusal::TooLate`], and those of sendmsg(2).
pub fn send(
    socket: &UnixStream,
    mut bytes: &[u8],
    mut descriptor: Option<BorrowedFd<'_>>,
    deadline: Deadline,
) -> Result<()> {
    while !bytes.is_empty() {
        rustix::net::sockopt::set_socket_timeout(socket, Timeout::Send, Some(deadline.left()?))
            .map_err(Error::call("SO_SNDTIMEO"))?;
        let rights = descriptor.as_slice();
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        if !rights.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(rights));
        }
        let slices = [IoSlice::new(bytes)];
        match rustix::net::sendmsg(socket, &slices, &mut control, SendFlags::NOSIGNAL) {
            Ok(count) => {
                bytes = &bytes[count..];
                descriptor = None;
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Err(deadline.missed()),
            Err(errno) => return Err(Error::call("sendmsg")(errno)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
