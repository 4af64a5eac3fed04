// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! May the machine jump into an image?

use crate::refusal::Refusal;

/// May the machine jump into an image that gets what is handed over, or does not?
///
/// # Errors
///
/// [`Refusal::NoHandover`].
pub fn image(takes_over: bool) -> Result<(), Refusal> {
    takes_over.then_some(()).ok_or(Refusal::NoHandover)
}
