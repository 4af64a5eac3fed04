// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The live update orchestrator: `/dev/liveupdate` and its sessions (include/uapi/linux/liveupdate.h).
#![expect(
    unsafe_code,
    reason = "says which structure belongs to which ioctl number"
)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::descriptor::{self, Answers};
use crate::error::{Error, Result};
use crate::ioctl::{self, arguments, size_of, Argument};

/// Longest session name, its terminating zero included.
pub const NAME_LENGTH: usize = 64;

const TYPE: u8 = 0xba;

/// `struct liveupdate_ioctl_create_session` and, with the same fields, `..._retrieve_session`.
#[repr(C)]
struct Named<const COMMAND: u8> {
    size: u32,
    fd: i32,
    name: [u8; NAME_LENGTH],
}

const CREATE_SESSION: u8 = 0x00;
const RETRIEVE_SESSION: u8 = 0x01;

/// `struct liveupdate_session_preserve_fd` and, with the same fields, `..._retrieve_fd`.
#[repr(C)]
struct File<const COMMAND: u8> {
    size: u32,
    fd: i32,
    token: u64,
}

const PRESERVE_FD: u8 = 0x40;
const RETRIEVE_FD: u8 = 0x41;

/// `struct liveupdate_session_finish`.
#[repr(C)]
struct Finish {
    size: u32,
    reserved: u32,
}

/// `struct liveupdate_session_get_name`.
#[repr(C)]
struct GetName {
    size: u32,
    reserved: u32,
    name: [u8; NAME_LENGTH],
}

// SAFETY: liveupdate.h pairs each structure with its number. The kernel touches at most `size` bytes, which this module
// sets to the structure's own. All fields are integers or arrays of them, and none is a pointer.
arguments! { unsafe TYPE;
    Named<CREATE_SESSION>, CREATE_SESSION, "LIVEUPDATE_IOCTL_CREATE_SESSION";
    Named<RETRIEVE_SESSION>, RETRIEVE_SESSION, "LIVEUPDATE_IOCTL_RETRIEVE_SESSION";
    File<PRESERVE_FD>, PRESERVE_FD, "LIVEUPDATE_SESSION_PRESERVE_FD";
    File<RETRIEVE_FD>, RETRIEVE_FD, "LIVEUPDATE_SESSION_RETRIEVE_FD";
    Finish, 0x42, "LIVEUPDATE_SESSION_FINISH";
    GetName, 0x43, "LIVEUPDATE_SESSION_GET_NAME";
}

/// Structures in which the kernel answers a descriptor.
macro_rules! answers {
    (unsafe $($structure:ty),*) => {$(
        // SAFETY: promised, with reasons, where the structures are named.
        unsafe impl Answers for $structure {
            fn descriptor(&self) -> i32 {
                self.fd
            }
        }
    )*};
}

// SAFETY: liveupdate.h: on success the kernel has installed a new descriptor and written it to `fd`, which this module
// sets to -1 before.
answers! { unsafe Named<CREATE_SESSION>, Named<RETRIEVE_SESSION>, File<RETRIEVE_FD> }

/// `/dev/liveupdate`. One process at a time may have it open.
#[derive(Debug)]
pub struct LiveUpdate(OwnedFd);

impl LiveUpdate {
    /// Opens `/dev/liveupdate`.
    ///
    /// # Errors
    ///
    /// `EBUSY` when another process has it open, `ENOENT` without `liveupdate=on` on the kernel's command line,
    /// `EIO` when what the previous kernel left can not be read.
    pub fn open() -> Result<Self> {
        const PATH: &str = "/dev/liveupdate";
        rustix::fs::open(PATH, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map(Self)
            .map_err(|errno| Error::on("open", PATH, errno))
    }

    /// A new session; closing it before the jump unpreserves everything in it.
    ///
    /// # Errors
    ///
    /// `EEXIST` when there is one of this name, `ENAMETOOLONG` for 64 bytes and more, `EINVAL` for none.
    #[doc(alias = "LIVEUPDATE_IOCTL_CREATE_SESSION")]
    pub fn create_session(&self, name: &str) -> Result<Session> {
        self.session::<CREATE_SESSION>(name)
    }

    /// The session of this name that the previous kernel left.
    ///
    /// # Errors
    ///
    /// `ENOENT` when there is none, `EINVAL` when it has been retrieved already.
    #[doc(alias = "LIVEUPDATE_IOCTL_RETRIEVE_SESSION")]
    pub fn retrieve_session(&self, name: &str) -> Result<Session> {
        self.session::<RETRIEVE_SESSION>(name)
    }

    fn session<const COMMAND: u8>(&self, name: &str) -> Result<Session>
    where
        Named<COMMAND>: Answers,
    {
        let argument = Named::<COMMAND> {
            size: size_of::<Named<COMMAND>>(),
            fd: -1,
            name: name_bytes(Named::<COMMAND>::NAME, name)?,
        };
        descriptor::call(&self.0, argument)
            .map(Session)
            .map_err(|error| Error {
                subject: name.to_owned(),
                ..error
            })
    }
}

fn name_bytes(call: &'static str, name: &str) -> Result<[u8; NAME_LENGTH]> {
    let mut bytes = [0; NAME_LENGTH];
    if name.is_empty() || name.bytes().any(|byte| byte == 0) {
        return Err(Error::on(
            call,
            "a session's name has at least one byte and no zero",
            Errno::INVAL,
        ));
    }
    if name.len() >= NAME_LENGTH {
        return Err(Error::on(call, name, Errno::NAMETOOLONG));
    }
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    Ok(bytes)
}

/// A LUO session.
#[derive(Debug)]
pub struct Session(OwnedFd);

impl Session {
    /// Preserves a file under a token.
    ///
    /// # Errors
    ///
    /// `ENOENT` when no handler takes such a file, `EEXIST` when the token is taken, `EBUSY` when the file is
    /// preserved already; and what the file's handler refuses with.
    #[doc(alias = "LIVEUPDATE_SESSION_PRESERVE_FD")]
    pub fn preserve_fd(&self, file: impl AsFd, token: u64) -> Result<()> {
        let fd = file.as_fd().as_raw_fd();
        ioctl::call(
            &self.0,
            &mut File::<PRESERVE_FD> {
                size: size_of::<File<PRESERVE_FD>>(),
                fd,
                token,
            },
        )
    }

    /// The file that was preserved under a token. The kernel tries once: a failed retrieve
    /// fails again the same way, but for `EAGAIN`, which says that it is too early.
    ///
    /// # Errors
    ///
    /// `ENOENT` when there is no such token; `EAGAIN` for a device whose driver is not bound yet; and what the file's
    /// handler refuses with.
    #[doc(alias = "LIVEUPDATE_SESSION_RETRIEVE_FD")]
    pub fn retrieve_fd(&self, token: u64) -> Result<OwnedFd> {
        let argument = File::<RETRIEVE_FD> {
            size: size_of::<File<RETRIEVE_FD>>(),
            fd: -1,
            token,
        };
        descriptor::call(&self.0, argument)
    }

    /// Says that all is restored, so that the kernel lets go of what it kept.
    ///
    /// # Errors
    ///
    /// `EBUSY` when a file is not ready for it: a restored domain is still attached.
    #[doc(alias = "LIVEUPDATE_SESSION_FINISH")]
    pub fn finish(&self) -> Result<()> {
        ioctl::call(
            &self.0,
            &mut Finish {
                size: size_of::<Finish>(),
                reserved: 0,
            },
        )
    }

    /// The session's name.
    ///
    /// # Errors
    ///
    /// Those of the call; `EILSEQ` when the name is not UTF-8.
    #[doc(alias = "LIVEUPDATE_SESSION_GET_NAME")]
    pub fn name(&self) -> Result<String> {
        let mut argument = GetName {
            size: size_of::<GetName>(),
            reserved: 0,
            name: [0; NAME_LENGTH],
        };
        ioctl::call(&self.0, &mut argument)?;
        let end = argument
            .name
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(NAME_LENGTH);
        String::from_utf8(argument.name[..end].to_vec())
            .map_err(|_| Error::new(GetName::NAME, Errno::ILSEQ))
    }
}

/// For a descriptor of a session that another process has. One of another kind answers `ENOTTY` to every call.
impl From<OwnedFd> for Session {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What the headers test compares.
#[cfg(test)]
pub(crate) mod layouts {
    use super::*;
    use crate::layouts::{layout, Layout};

    pub(crate) fn all() -> Vec<Layout> {
        vec![
            layout!(
                Named<CREATE_SESSION>,
                "liveupdate_ioctl_create_session",
                "LIVEUPDATE_IOCTL_CREATE_SESSION",
                [size, fd, name]
            ),
            layout!(
                Named<RETRIEVE_SESSION>,
                "liveupdate_ioctl_retrieve_session",
                "LIVEUPDATE_IOCTL_RETRIEVE_SESSION",
                [size, fd, name]
            ),
            layout!(
                File<PRESERVE_FD>,
                "liveupdate_session_preserve_fd",
                "LIVEUPDATE_SESSION_PRESERVE_FD",
                [size, fd, token]
            ),
            layout!(
                File<RETRIEVE_FD>,
                "liveupdate_session_retrieve_fd",
                "LIVEUPDATE_SESSION_RETRIEVE_FD",
                [size, fd, token]
            ),
            layout!(
                Finish,
                "liveupdate_session_finish",
                "LIVEUPDATE_SESSION_FINISH",
                [size, reserved]
            ),
            layout!(
                GetName,
                "liveupdate_session_get_name",
                "LIVEUPDATE_SESSION_GET_NAME",
                [size, reserved, name]
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_do_not_fit_are_refused_before_the_call() {
        assert_eq!(name_bytes("call", "").unwrap_err().errno, Errno::INVAL);
        assert_eq!(name_bytes("call", "a\0b").unwrap_err().errno, Errno::INVAL);
        assert_eq!(
            name_bytes("call", &"x".repeat(NAME_LENGTH))
                .unwrap_err()
                .errno,
            Errno::NAMETOOLONG
        );
        let longest = name_bytes("call", &"x".repeat(NAME_LENGTH - 1)).expect("it fits");
        assert_eq!(longest[NAME_LENGTH - 1], 0);
    }
}
