// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A refusal of ours, or an error of whoever lends us memory or does something for us.

use core::fmt;

use crate::iommu::flaw::Flaw;
use crate::refusal::Refusal;

/// Why something was not done. The caller's own error comes back as it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// It is refused.
    Refused(Refusal),
    /// Memory could not be lent, or a page not be handed over.
    Lender(E),
}

impl<E> From<Refusal> for Error<E> {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl<E> From<Flaw> for Error<E> {
    fn from(flaw: Flaw) -> Self {
        Self::Refused(Refusal::Table(flaw))
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Lender(error) => error.fmt(f),
        }
    }
}
