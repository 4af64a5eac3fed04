// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Is a function the one that was recorded?

use crate::record::pci::Identity;
use crate::refusal::Refusal;

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
