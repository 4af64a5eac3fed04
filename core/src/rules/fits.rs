// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Does what is recorded fit this machine?

use crate::model::{Identity, Unit};
use crate::refusal::Refusal;

/// Address bits of the Root Table Address Register (VT-d 10.4.5).
const ROOT_ADDRESS: u64 = !0xfff;

/// May the tables of a unit that was recorded as `recorded` and is `now` be adopted?
///
/// `now.root_table` is not looked at: the incoming kernel has none yet.
///
/// # Errors
///
/// The first difference that matters.
pub fn unit(recorded: &Unit, now: &Unit, translating: bool) -> Result<(), Refusal> {
    if recorded.segment != now.segment {
        Err(Refusal::OtherSegment)
    } else if recorded.mode != now.mode {
        Err(Refusal::OtherMode)
    } else if now.live_root & ROOT_ADDRESS != recorded.root_table
        || now.live_root != recorded.live_root
    {
        Err(Refusal::OtherRoot)
    } else if now.capability != recorded.capability
        || now.extended_capability != recorded.extended_capability
    {
        Err(Refusal::OtherCapabilities)
    } else if !translating {
        Err(Refusal::NotTranslating)
    } else {
        Ok(())
    }
}

/// Is the device that is there the one that was recorded?
///
/// # Errors
///
/// [`Refusal::OtherDevice`].
pub fn device(recorded: &Identity, now: &Identity) -> Result<(), Refusal> {
    (recorded == now).then_some(()).ok_or(Refusal::OtherDevice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Mode;

    const UNIT: Unit = Unit {
        register_base: 0xfed9_0000,
        root_table: 0x12_3000,
        live_root: 0x12_3000,
        capability: 0x00d2_008c_2266_0286,
        extended_capability: 0xf0_0f5a,
        mode: Mode::Legacy,
        segment: 0,
    };

    #[test]
    fn an_equal_unit_fits() {
        assert_eq!(unit(&UNIT, &UNIT, true), Ok(()));
    }

    #[test]
    fn each_difference_has_its_name() {
        let other = |change: fn(&mut Unit)| {
            let mut now = UNIT;
            change(&mut now);
            unit(&UNIT, &now, true)
        };
        assert_eq!(other(|u| u.segment = 1), Err(Refusal::OtherSegment));
        assert_eq!(other(|u| u.mode = Mode::Scalable), Err(Refusal::OtherMode));
        assert_eq!(other(|u| u.live_root = 0x4000), Err(Refusal::OtherRoot));
        assert_eq!(other(|u| u.live_root |= 0x400), Err(Refusal::OtherRoot));
        assert_eq!(other(|u| u.capability = 0), Err(Refusal::OtherCapabilities));
        assert_eq!(
            other(|u| u.extended_capability = 0),
            Err(Refusal::OtherCapabilities)
        );
        assert_eq!(unit(&UNIT, &UNIT, false), Err(Refusal::NotTranslating));
    }

    /// The register says what the hardware walks, the record what was checked and handed over.
    #[test]
    fn the_recorded_root_table_is_the_one_in_the_register() {
        let mut recorded = UNIT;
        recorded.root_table = 0x4000;
        assert_eq!(unit(&recorded, &UNIT, true), Err(Refusal::OtherRoot));
        // Mode bits of the register are no part of the address.
        let mut scalable = UNIT;
        scalable.live_root |= 0x400;
        assert_eq!(unit(&scalable, &scalable, true), Ok(()));
    }

    #[test]
    fn another_device_is_refused() {
        let recorded = Identity {
            vendor: 0x8086,
            device: 0x10c9,
            ..Identity::default()
        };
        assert_eq!(device(&recorded, &recorded), Ok(()));
        assert_eq!(
            device(&recorded, &Identity::default()),
            Err(Refusal::OtherDevice)
        );
    }
}
