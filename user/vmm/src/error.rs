// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which step failed, on what, why, and what the kernel's refusals for that are.

use std::fmt;

use hitless_core::refusal::Refusal;
use rustix::io::Errno;

use crate::mapping::Mapping;
pub use crate::name::{Kind, Object, Step};
use crate::refusals;

/// A call that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// At which step.
    pub step: Step,
    /// On what.
    pub object: Object,
    /// Which call, and its error number.
    pub call: hitless_uapi::Error,
}

impl Refused {
    /// The refusals of hitless that give this error number here, by `docs/refusals.md`. One of them is in the kernel's log,
    /// in a line that begins with `hitless: refused:`. None of them: the error is not hitless's own.
    ///
    /// ```
    /// use hitless_vmm::error::{Kind, Object, Refused, Step};
    /// let refused = Refused {
    ///     step: Step::Swap,
    ///     object: Object::Named(Kind::Device, "nic".into()),
    ///     call: hitless_uapi::Error::new("VFIO_DEVICE_ATTACH_IOMMUFD_PT", rustix::io::Errno::BUSY),
    /// };
    /// let names: Vec<String> = refused.refusals().iter().map(|refusal| format!("{refusal:?}")).collect();
    /// assert_eq!(names, ["NotSwappable"]);
    /// ```
    pub fn refusals(&self) -> Vec<Refusal> {
        refusals::of(self.step, &self.object, self.call.errno)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.step, self.object, self.call)?;
        let refusals = self.refusals();
        if refusals.is_empty() {
            return Ok(());
        }
        f.write_str("; the kernel's log has which of these it was: ")?;
        for (number, refusal) in refusals.iter().enumerate() {
            write!(f, "{}{refusal}", if number > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Refused {}

/// Why a manifest is not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// The file is shorter than a header, or not as long as its header says.
    #[error("it is cut off, or longer than it says")]
    Length,
    /// It was written by a library that this one does not know.
    #[error("it has version {0}, which this library does not read")]
    UnknownVersion(
        /// The version.
        u32,
    ),
    /// It is something else.
    #[error("it is no manifest")]
    NotAManifest,
    /// It is not what was written.
    #[error("it is damaged: its checksum is wrong")]
    Damaged,
    /// The description cannot be read.
    #[error("its description cannot be read: {0}")]
    Description(
        /// Why.
        #[source]
        serde_json::Error,
    ),
    /// One token is given to two files, or is the manifest's own.
    #[error("the token {0:#x} is given twice")]
    Token(
        /// The token.
        u64,
    ),
    /// The notes that go with it are not as long as this library makes them.
    #[error("the notes of the session are not as long as they should be")]
    Notes,
    /// The description makes no sense.
    #[error("its description makes no sense: {0}")]
    Contents(
        /// Why.
        #[source]
        Box<Error>,
    ),
}

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused a call.
    #[error(transparent)]
    Refused(Box<Refused>),
    /// Nothing of this kind has this name.
    #[error("there is no {kind} of the name `{name}`")]
    Unknown {
        /// What was looked for.
        kind: Kind,
        /// By which name.
        name: String,
    },
    /// Something of this kind has this name already.
    #[error("there is a {kind} of the name `{name}` already")]
    Taken {
        /// What it is.
        kind: Kind,
        /// The name.
        name: String,
    },
    /// A name is empty, or longer than [`MAX_NAME`](crate::MAX_NAME) bytes.
    #[error("`{name}` cannot be the name of a {kind}: it has 1 to 255 bytes")]
    BadName {
        /// What it was to name.
        kind: Kind,
        /// The name.
        name: String,
    },
    /// Two names are given to one HWPT.
    #[error("HWPT `{name}` is the same one as HWPT `{other}`")]
    SameHwpt {
        /// The second name.
        name: String,
        /// The first name.
        other: String,
    },
    /// A mapping is empty, not a multiple of pages, goes beyond the last address, or overlaps another one of the HWPT.
    #[error("HWPT `{hwpt}` cannot have the mapping {mapping:x?}")]
    BadMapping {
        /// The HWPT.
        hwpt: String,
        /// The mapping.
        mapping: Box<Mapping>,
    },
    /// A device has no more than 2048 interrupt vectors.
    #[error("device `{device}` cannot have {vectors} interrupt vectors")]
    TooManyVectors {
        /// The device.
        device: String,
        /// How many were named.
        vectors: usize,
    },
    /// There is more of something than any VM has.
    #[error("there can be no more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// The VMM's own state is longer than [`MAX_STATE`](crate::MAX_STATE) bytes.
    #[error(
        "the VMM's own state has {0} bytes, which is too much: put it into a memfd of its own"
    )]
    StateTooLong(
        /// Bytes.
        usize,
    ),
    /// This kernel does not preserve devices: it has no hitless, or runs with `hitless=off`.
    #[error("this kernel does not preserve devices: it has no hitless, or runs with hitless=off")]
    Unsupported,
    /// What the session says of itself is not accepted.
    #[error("the session's manifest is not accepted: {0}")]
    Manifest(
        /// Why.
        #[source]
        Flaw,
    ),
    /// The VMM's own mappings are not what the kernel says that the restored HWPT maps.
    #[error("HWPT `{hwpt}` maps other memory than the VMM said when it was preserved")]
    OtherMappings {
        /// The HWPT.
        hwpt: String,
    },
    /// Nobody knows what a HWPT maps: it is not there any more, and the VMM did not say.
    #[error("nobody knows what HWPT `{hwpt}` maps")]
    NoMappings {
        /// The HWPT.
        hwpt: String,
    },
    /// A region of guest memory is not mapped from a file.
    #[error("the guest memory at {address:#x} is not mapped from a file")]
    NotFromFile {
        /// The guest's physical address.
        address: u64,
    },
    /// The crate `vfio-ioctls` does not take a device.
    #[error("vfio-ioctls does not take device `{device}`: {why}")]
    VfioIoctls {
        /// The device.
        device: String,
        /// What that crate says.
        why: String,
    },
    /// The kernel told another process what the id of this object is, and that process has died before it was noted.
    #[error("{kind} `{name}` was taken up by a process that died, and its id cannot be found")]
    Lost {
        /// What it is.
        kind: Kind,
        /// Its name.
        name: String,
    },
}

impl Error {
    /// The error number, where a call was refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused(refused) => Some(refused.call.errno),
            _ => None,
        }
    }

    /// Whether the same step may succeed later: vfio-pci is not bound to a device yet.
    pub fn is_too_early(&self) -> bool {
        matches!(self, Self::Refused(refused) if refused.step == Step::Retrieve && refused.call.errno == Errno::AGAIN)
    }
}

/// Turns a failed call into an error of a step.
pub(crate) fn at(
    step: Step,
    object: impl FnOnce() -> Object,
) -> impl FnOnce(hitless_uapi::Error) -> Error {
    move |call| {
        let object = object();
        Error::Refused(Box::new(Refused { step, object, call }))
    }
}

/// A step that was not done, or not to its end, and the state in which it has left everything.
///
/// ```no_run
/// use hitless_uapi::LiveUpdate;
/// use hitless_vmm::Collected;
/// # fn vm() -> Collected { unimplemented!() }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// match vm().preserve(&LiveUpdate::open()?) {
///     Ok(_preserved) => println!("ready to jump"),
///     Err(stuck) => {
///         println!("not now: {}", stuck.error);
///         // Everything is as it was, and can be tried again.
///         let _vm: Collected = stuck.state;
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Stuck<S> {
    /// Why.
    pub error: Error,
    /// Where everything is now: the state before the step, from which it can be tried again.
    pub state: S,
    /// What failed when the step was undone.
    pub further: Vec<Error>,
}

impl<S> Stuck<S> {
    pub(crate) fn new(error: Error, state: S) -> Self {
        let further = Vec::new();
        Self {
            error,
            state,
            further,
        }
    }
}

impl<S> fmt::Display for Stuck<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        for further in &self.further {
            write!(f, "; and when it was undone: {further}")?;
        }
        Ok(())
    }
}

impl<S: fmt::Debug> std::error::Error for Stuck<S> {}

/// For who lets the state go.
impl<S> From<Stuck<S>> for Error {
    fn from(stuck: Stuck<S>) -> Self {
        stuck.error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(step: Step, errno: Errno) -> Error {
        let object = || Object::Named(Kind::Device, "nic".into());
        let call = hitless_uapi::Error::new("LIVEUPDATE_SESSION_PRESERVE_FD", errno);
        at(step, object)(call)
    }

    #[test]
    fn a_refusal_names_step_object_call_and_what_it_may_be() {
        let words = refused(Step::Preserve, Errno::BUSY).to_string();
        for part in [
            "preserving device `nic`: LIVEUPDATE_SESSION_PRESERVE_FD: ",
            "device has interrupts set up",
            "the kernel's log has which of these it was",
        ] {
            assert!(words.contains(part), "{words}");
        }
        // An error that is not hitless's own promises no line in the log.
        let other = refused(Step::Preserve, Errno::MFILE).to_string();
        assert!(!other.contains("log"), "{other}");
    }

    #[test]
    fn only_a_retrieve_comes_too_early() {
        assert!(refused(Step::Retrieve, Errno::AGAIN).is_too_early());
        assert!(!refused(Step::Retrieve, Errno::NODEV).is_too_early());
        assert!(!refused(Step::Bind, Errno::AGAIN).is_too_early());
        assert!(!Error::Unsupported.is_too_early());
    }

    #[test]
    fn what_failed_when_it_was_undone_is_told_too() {
        let stuck = Stuck {
            error: refused(Step::Preserve, Errno::BUSY),
            state: (),
            further: vec![refused(Step::Undo, Errno::NODEV)],
        };
        let words = stuck.to_string();
        assert!(
            words.contains("; and when it was undone: taking back"),
            "{words}"
        );
        assert_eq!(Error::from(stuck).errno(), Some(Errno::BUSY));
    }
}
