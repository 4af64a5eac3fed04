// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every reason to say no, and calls that failed.

use rustix::io::Errno;

/// The result of whatever may be refused.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was sent, or who has sent it, is not accepted.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// The system refused a call.
    #[error("{call}: {errno}")]
    Call {
        /// The call by its C name.
        call: &'static str,
        /// Why.
        errno: Errno,
    },
    /// A device or iommufd refused a call.
    #[error(transparent)]
    Device(#[from] hitless_uapi::Error),
    /// A step of the update was not done.
    #[error(transparent)]
    Update(Box<hitless_vmm::Error>),
}

impl From<hitless_vmm::Error> for Error {
    fn from(error: hitless_vmm::Error) -> Self {
        Self::Update(Box::new(error))
    }
}

impl Error {
    /// Whether the same step may succeed later, because vfio-pci is not bound to a device yet.
    pub fn is_too_early(&self) -> bool {
        matches!(self, Self::Update(error) if error.is_too_early())
    }

    /// For a call through rustix.
    pub(crate) fn call(call: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::Call { call, errno }
    }

    /// For a call through the standard library.
    pub(crate) fn io(call: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |error| Self::Call {
            call,
            errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
        }
    }
}

/// A named no. Names that a peer has sent are quoted, with what is not printable escaped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The state begins with other bytes.
    #[error("what came on the cpr channel is not the state of a QEMU in mode cpr-transfer")]
    NotCprState,
    /// A format of the state that nobody has looked at.
    #[error("the cpr state has version {0}, which is not known")]
    CprVersion(u32),
    /// The state ends early.
    #[error("the cpr state ends within {0}")]
    CprEnds(&'static str),
    /// Something else stands where only a few values may.
    #[error("the cpr state has {found:#04x} where {place} is expected")]
    CprByte {
        /// What should be there.
        place: &'static str,
        /// What is.
        found: u8,
    },
    /// A part of the state with a name that nobody has looked at.
    #[error("the cpr state has a part {0:?}, which is not known")]
    CprPart(String),
    /// A version of a known part.
    #[error("the part {part:?} of the cpr state has version {version}, which is not known")]
    CprPartVersion {
        /// Which part.
        part: &'static str,
        /// Its version.
        version: u32,
    },
    /// QEMU before 10.1.
    #[error("the cpr state has no part for VFIO devices: this QEMU is older than 10.1")]
    CprWithoutDevices,
    /// Bytes behind the end.
    #[error("{0} bytes follow on the end of the cpr state")]
    CprTrailing(usize),
    /// A name that QEMU does not give.
    #[error("a name in the cpr state is {0}")]
    BadName(&'static str),
    /// More than we hold.
    #[error("more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// The same name and number twice.
    #[error("the descriptor {name:?} with number {id} was sent twice")]
    Twice {
        /// Its name.
        name: String,
        /// Its number.
        id: i32,
    },
    /// Names without descriptors, or the other way round.
    #[error("the cpr state names {named} descriptors, and {sent} were sent")]
    DescriptorCount {
        /// In the state.
        named: usize,
        /// With it.
        sent: usize,
    },
    /// A file that cannot be kept.
    #[error("the descriptor {name:?} is {link:?}, which cannot be handed through an update")]
    UnknownDescriptor {
        /// Its name.
        name: String,
        /// What the system calls it.
        link: String,
    },
    /// A known kind of file under a name that does not go with it.
    #[error("the descriptor {name:?} with number {id} is {kind}, but its name is not that of one")]
    MisnamedDescriptor {
        /// Its name.
        name: String,
        /// Its number.
        id: i32,
        /// What it is.
        kind: &'static str,
    },
    /// A device without its file.
    #[error("the device {0:?} came without its device file")]
    DeviceWithoutFile(String),
    /// A device file without its ids.
    #[error("the device file {0:?} came without its ids: QEMU does not use it through iommufd")]
    FileWithoutIds(String),
    /// A device that raises its pin.
    #[error(
        "the device {0:?} uses its interrupt pin; its driver has to be loaded in the guest, and use MSI or MSI-X"
    )]
    Intx(String),
    /// Devices, and nothing by which they reach memory.
    #[error("there are devices, and no iommufd")]
    NoIommufd,
    /// Nobody knows what it is for.
    #[error("there is an iommufd that no device uses")]
    IdleIommufd,
    /// Nothing says which device belongs to which.
    #[error("there are {0} iommufds, and nothing says which device belongs to which: use one")]
    SeveralIommufds(usize),
    /// No memory.
    #[error("no memory file was sent")]
    NoMemory,
    /// The other channel.
    #[error("what came on the main channel is not the migration stream of a QEMU: {0}")]
    MainStream(&'static str),
    /// A format of the other channel.
    #[error("the migration stream has version {0}, which is not known")]
    MainVersion(u32),
    /// A stream that was cut.
    #[error("the migration stream does not end as a whole one does: QEMU failed, or was ended, while it sent it")]
    MainCut,
    /// Too long.
    #[error("more than {limit} bytes of {what}")]
    TooLong {
        /// Of what.
        what: &'static str,
        /// Bytes that are taken.
        limit: usize,
    },
    /// Too slow.
    #[error("{0} took too long")]
    TooLate(&'static str),
    /// The kernel threw descriptors away.
    #[error("descriptors were lost on their way: too many at once, or this process may not open so many")]
    DescriptorsLost,
    /// Descriptors where none belong.
    #[error("descriptors came with {0}")]
    UnexpectedDescriptors(&'static str),
    /// Somebody else.
    #[error("the peer is process {pid} of user {uid} and group {gid}, and may not {what}")]
    Peer {
        /// Its process.
        pid: i32,
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
        /// What it may not.
        what: &'static str,
    },
    /// The two channels came from two processes.
    #[error("the cpr channel is process {cpr}, and the main channel process {main}")]
    TwoPeers {
        /// At the one end.
        cpr: i32,
        /// At the other.
        main: i32,
    },
    /// Ids for a device that is not there, or none for one that is.
    #[error("there are new ids for {new} devices, and the VM has {devices}")]
    IdCount {
        /// How many were given.
        new: usize,
        /// How many there are.
        devices: usize,
    },
    /// A device with eventfds for vectors that it cannot have.
    #[error("the device {0:?} has eventfds for vectors, but neither MSI-X nor MSI")]
    NoVectors(String),
    /// What the previous kernel's agent has left.
    #[error("the session's state is not that of a QEMU: {0}")]
    Manifest(&'static str),
    /// A format of it.
    #[error("the session's state has version {0}, which is not known")]
    ManifestVersion(u32),
    /// Two processes would have the devices.
    #[error("the QEMU that gave this VM has not ended yet; end it")]
    GiverLives,
    /// Two processes would have the VM.
    #[error("a QEMU that was given this VM in vain has not ended yet; end it")]
    TakerLives,
    /// A name that is none of a folder or session.
    #[error("the name of a VM has 1 to 48 letters, digits, `-` and `_`")]
    VmName,
    /// Asked for something that this VM is not ready for.
    #[error("this VM is {is}, so it cannot {wanted}")]
    NotNow {
        /// What it is.
        is: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
    /// No such VM.
    #[error("there is no VM of this name")]
    NoVm,
    /// The successor did not make it.
    #[error("the new QEMU ended before it had taken the VM; its own error output says why")]
    SuccessorEnded,
}
