// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which kind of interrupts a device has, and making new eventfds for them: those do not go through an update.

use std::os::fd::OwnedFd;

use hitless_uapi::vfio::Irq;
use hitless_uapi::VfioDevice;
use rustix::event::EventfdFlags;

use crate::refusal::{Error, Refusal, Result};

/// Registers of the configuration space: status with its bit "there is a list of capabilities", and where that begins.
const STATUS: u64 = 0x06;
const HAS_LIST: u16 = 1 << 4;
const LIST: u64 = 0x34;
/// Capabilities, the register of each with its switch, and that switch.
const MSI: u8 = 0x05;
const MSIX: u8 = 0x11;
const CONTROL: u64 = 2;
const MSIX_ON: u16 = 1 << 15;
/// More capabilities than fit are a list that leads back into itself.
const CAPABILITIES: usize = 48;

/// Whether a device's vectors are of MSI-X or of MSI. QEMU names the eventfds of both alike, so the device is asked.
///
/// # Errors
///
/// [`Refusal::NoVectors`] when it has neither.
pub(crate) fn kind(name: &str, device: &VfioDevice) -> Result<Irq> {
    let read = |register| device.config_read_u16(register).map_err(Error::from);
    find(read)?.ok_or_else(|| Refusal::NoVectors(name.to_owned()).into())
}

fn find<E>(
    read: impl Fn(u64) -> std::result::Result<u16, E>,
) -> std::result::Result<Option<Irq>, E> {
    if read(STATUS)? & HAS_LIST == 0 {
        return Ok(None);
    }
    let mut has_msi = false;
    let mut at = read(LIST)? & 0xfc;
    for _ in 0..CAPABILITIES {
        if at == 0 {
            break;
        }
        let [id, next] = read(u64::from(at))?.to_le_bytes();
        match id {
            MSIX if read(u64::from(at) + CONTROL)? & MSIX_ON != 0 => return Ok(Some(Irq::Msix)),
            MSI => has_msi = true,
            _ => {}
        }
        at = u16::from(next) & 0xfc;
    }
    Ok(has_msi.then_some(Irq::Msi))
}

/// An eventfd as QEMU makes them.
///
/// # Errors
///
/// Those of eventfd(2).
pub(crate) fn new_eventfd() -> Result<OwnedFd> {
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(Error::call("eventfd"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The configuration space of a card with power management, MSI and MSI-X.
    fn card(msix: u16, msi: u16) -> [u8; 256] {
        let mut space = [0; 256];
        let words = [
            (0x06, HAS_LIST),
            (0x34, 0x40),
            (0x40, 0x5001),
            (0x50, 0x7005),
            (0x52, msi),
            (0x70, 0x0011),
            (0x72, msix),
        ];
        for (at, word) in words {
            space[at..at + 2].copy_from_slice(&u16::to_le_bytes(word));
        }
        space
    }

    fn found(space: &[u8; 256]) -> Option<Irq> {
        find(|at| {
            // CAST: registers of this space.
            let at = at as usize;
            Ok::<u16, ()>(u16::from_le_bytes([space[at], space[at + 1]]))
        })
        .expect("a space")
    }

    #[test]
    fn msi_x_counts_if_it_is_on_and_msi_if_it_is_not() {
        assert_eq!(found(&card(0x8002, 0)), Some(Irq::Msix));
        assert_eq!(found(&card(0x8002, 1)), Some(Irq::Msix));
        assert_eq!(found(&card(0x0002, 1)), Some(Irq::Msi));
        assert_eq!(found(&[0; 256]), None);
    }

    #[test]
    fn a_list_that_leads_back_ends() {
        let mut space = card(0, 0);
        space[0x71] = 0x40;
        assert_eq!(found(&space), Some(Irq::Msi));
    }
}
