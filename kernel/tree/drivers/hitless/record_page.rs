// SPDX-License-Identifier: GPL-2.0-only

//! Pages of records that the previous kernel left.

use hitless_core::refusal::{
    Family,
    Refusal, //
};
use kernel::kho::RestoredPage;

/// Takes a record page that the previous kernel left at `phys`, decoded.
///
/// A page that is refused is leaked: what it really is nobody knows.
pub(crate) fn take<T>(
    phys: u64,
    family: Family,
    decode: impl FnOnce(RestoredPage) -> core::result::Result<T, Refusal>,
) -> core::result::Result<T, Refusal> {
    let page = RestoredPage::take(phys).ok_or(Refusal::NotHandedOver(family))?;
    decode(page)
}
