// SPDX-License-Identifier: GPL-2.0-only

//! Refusals to error numbers, in one place, and to the kernel log, once each.

use hitless_core::error::Error as CoreError;
use hitless_core::iommu::flaw::Flaw;
use hitless_core::record::log::{
    Object,
    Step, //
};
use hitless_core::refusal::Refusal;
use kernel::fmt;
use kernel::prelude::*;

use crate::log;

/// Why something was not done.
pub(crate) enum Failure {
    /// Core said no.
    Refused(Refusal),
    /// The kernel could not.
    Failed(Error),
}

/// Result of what core may refuse and the kernel may fail.
pub(crate) type Outcome<T = ()> = core::result::Result<T, Failure>;

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Flaw> for Failure {
    fn from(flaw: Flaw) -> Self {
        Self::Refused(flaw.into())
    }
}

impl From<CoreError<Error>> for Failure {
    fn from(error: CoreError<Error>) -> Self {
        match error {
            CoreError::Refused(refusal) => Self::Refused(refusal),
            CoreError::Lender(error) => Self::Failed(error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<kernel::alloc::AllocError> for Failure {
    fn from(error: kernel::alloc::AllocError) -> Self {
        Self::Failed(error.into())
    }
}

impl Failure {
    /// Logs a refusal, and gives the error number for either.
    pub(crate) fn report(self) -> Error {
        self.report_of(Object::None)
    }

    /// The same, for what is about an object.
    pub(crate) fn report_of(self, object: Object) -> Error {
        match self {
            Self::Refused(refusal) => {
                pr_warn!("refused: {}\n", Text(refusal));
                log::write_refusal(Step::Refused, object, refusal);
                errno(refusal)
            }
            Self::Failed(error) => error,
        }
    }
}

/// A value of core's that can be printed by the kernel's macros.
pub(crate) struct Text<T>(pub(crate) T);

impl<T: core::fmt::Display> fmt::Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::fmt::Display::fmt(&self.0, f)
    }
}

/// The error number of a refusal.
pub(crate) fn errno(refusal: Refusal) -> Error {
    match refusal {
        // The bytes make no sense.
        Refusal::NotARecord(_)
        | Refusal::Damaged(_)
        | Refusal::Malformed(_)
        | Refusal::Duplicate(_)
        | Refusal::Contradictory(_)
        | Refusal::Aliased(_)
        | Refusal::NotHandedOver(_) => EIO,
        Refusal::NotRecorded(_) => ENOENT,
        Refusal::Full(_) => ENOSPC,

        // It is not something that hitless preserves.
        Refusal::UnknownVersion(_)
        | Refusal::UnknownFeature(_)
        | Refusal::DirtyTracking
        | Refusal::NestParent
        | Refusal::PageFaults
        | Refusal::HwptForPasid
        | Refusal::AutoHwpt
        | Refusal::UnknownTable
        | Refusal::VirtualFunction
        | Refusal::HasVirtualFunctions
        | Refusal::UsesPasids
        | Refusal::SharedGroup
        | Refusal::UsesAts
        | Refusal::SharedHwpt
        | Refusal::OtherIommu
        | Refusal::NoGroup
        | Refusal::DmaBuffer
        | Refusal::NotShmem
        | Refusal::TooManyBridges => EOPNOTSUPP,

        // It is in a state that user space can change.
        Refusal::MappingUnsettled
        | Refusal::NotPoweredOn
        | Refusal::InterruptsOn
        | Refusal::StillRestored
        | Refusal::NotSwappable
        | Refusal::AlreadyRecorded
        | Refusal::NotSwapped
        | Refusal::SleepsPreserved
        | Refusal::SleepsUnfinished
        | Refusal::Asleep
        | Refusal::Unsettled => EBUSY,

        // Once more, later: LUO does not remember this one.
        Refusal::NoDriverYet => EAGAIN,

        // The machine is another one.
        Refusal::OtherSegment
        | Refusal::OtherMode
        | Refusal::OtherRoot
        | Refusal::OtherCapabilities
        | Refusal::NotTranslating
        | Refusal::OtherDevice
        | Refusal::UnitRefused => ENODEV,

        // User space has left something out.
        Refusal::NothingMarked
        | Refusal::NothingMapped
        | Refusal::OtherMemory
        | Refusal::Holes
        | Refusal::MemoryNotInSession
        | Refusal::NoIommufd
        | Refusal::NotAttached
        | Refusal::NotMarked
        | Refusal::IommufdNotInSession
        | Refusal::HwptNotPreserved
        | Refusal::OtherTable
        | Refusal::NoHandover
        | Refusal::ImageWithoutHitless
        | Refusal::ImageOfOtherFormat
        | Refusal::ImageTakesLess
        | Refusal::ImageNeedsMore
        | Refusal::ImageOwnLine
        | Refusal::NextHitlessOff
        | Refusal::NextHandoverOff
        | Refusal::NextIommuOff
        | Refusal::NextOtherRemapping
        | Refusal::NextOtherPci => EINVAL,

        // The tables are not what they must be.
        Refusal::Table(_) => EINVAL,
    }
}
