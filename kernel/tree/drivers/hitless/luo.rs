// SPDX-License-Identifier: GPL-2.0-only

//! LUO asks us: handlers of files, and the records that all of them share.

mod iommufd;
mod register;
mod vfio;

pub(crate) use self::iommufd::IommufdHandler;
pub(crate) use self::register::register;
