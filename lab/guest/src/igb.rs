// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The registers of an igb network card (82576), as far as one receive queue needs them.
//!
//! Register names, numbers and bits are those of the 82576 datasheet, chapter 8.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{ensure, Result};
use hitless_proto::layout;
use hitless_uapi::Registers;

const CTRL: u64 = 0x0000;
const CTRL_SET_LINK_UP: u32 = 1 << 6;
const STATUS: u64 = 0x0008;
const STATUS_LINK_UP: u32 = 1 << 1;
const MDIC: u64 = 0x0020;
const MDIC_WRITE: u32 = 0b01 << 26;
const MDIC_PHY_1: u32 = 1 << 21;
const MDIC_READY: u32 = 1 << 28;
const MDIC_ERROR: u32 = 1 << 30;
const RCTL: u64 = 0x0100;
const RCTL_ENABLE: u32 = 1 << 1;
const RCTL_ALL_UNICAST: u32 = 1 << 3;
const RCTL_ALL_MULTICAST: u32 = 1 << 4;
const RCTL_BROADCAST: u32 = 1 << 15;
const RCTL_STRIP_CRC: u32 = 1 << 26;
const EIMC: u64 = 0x1528;
const IMC: u64 = 0x150c;
const RAL0: u64 = 0x5400;
const RAH0: u64 = 0x5404;
const RDBAL0: u64 = 0xc000;
const RDBAH0: u64 = 0xc004;
const RDLEN0: u64 = 0xc008;
const SRRCTL0: u64 = 0xc00c;
const SRRCTL_KIB: u32 = (layout::BUFFER / 1024) as u32;
const SRRCTL_ADVANCED_ONE_BUFFER: u32 = 1 << 25;
const RDH0: u64 = 0xc010;
const RDT0: u64 = 0xc018;
const RXDCTL0: u64 = 0xc028;
const RXDCTL_ENABLE: u32 = 1 << 25;

/// PHY register 0 (IEEE 802.3, 22.2.4.1): autonegotiation on, and again.
const PHY_CONTROL: u32 = 0;
const PHY_AUTONEGOTIATE: u32 = 1 << 12 | 1 << 9;

/// Autonegotiation takes half a second in QEMU and up to a few on a real link; on a busy host either takes longer.
const LINK_LIMIT: Duration = Duration::from_secs(30);
const REGISTER_LIMIT: Duration = Duration::from_secs(5);

/// A card's BAR 0.
#[derive(Clone, Debug)]
pub(crate) struct Igb(Arc<Registers>);

impl Igb {
    /// Takes a mapped BAR 0; touches nothing.
    pub(crate) fn new(bar: Registers) -> Self {
        Self(Arc::new(bar))
    }

    /// The MAC address, which a reset loads from the card's memory.
    pub(crate) fn mac(&self) -> String {
        let [a, b, c, d] = self.0.read(RAL0).to_le_bytes();
        let [e, f, ..] = self.0.read(RAH0).to_le_bytes();
        [a, b, c, d, e, f]
            .map(|byte| format!("{byte:02x}"))
            .join(":")
    }

    /// Lets a freshly reset card receive everything into a ring of `descriptors`, all but one posted.
    pub(crate) fn start(&self, ring: u64, descriptors: u32) -> Result<()> {
        let card = &self.0;
        card.write(IMC, u32::MAX);
        card.write(EIMC, u32::MAX);
        card.write(CTRL, card.read(CTRL) | CTRL_SET_LINK_UP);
        card.write(
            MDIC,
            PHY_AUTONEGOTIATE | PHY_CONTROL << 16 | MDIC_PHY_1 | MDIC_WRITE,
        );
        self.wait("the PHY to take a write (MDIC)", MDIC, MDIC_READY)?;
        ensure!(
            card.read(MDIC) & MDIC_ERROR == 0,
            "the card's PHY refused to autonegotiate (MDIC error)"
        );
        let link = "the link (STATUS.LU): is the machine's network card connected?";
        self.wait(link, STATUS, STATUS_LINK_UP)?;

        card.write(RDBAL0, ring as u32);
        card.write(RDBAH0, (ring >> 32) as u32);
        card.write(RDLEN0, descriptors * layout::DESCRIPTOR as u32);
        card.write(SRRCTL0, SRRCTL_KIB | SRRCTL_ADVANCED_ONE_BUFFER);
        card.write(RDH0, 0);
        card.write(RXDCTL0, card.read(RXDCTL0) | RXDCTL_ENABLE);
        self.wait("the receive queue (RXDCTL.ENABLE)", RXDCTL0, RXDCTL_ENABLE)?;
        let receive =
            RCTL_ENABLE | RCTL_ALL_UNICAST | RCTL_ALL_MULTICAST | RCTL_BROADCAST | RCTL_STRIP_CRC;
        card.write(RCTL, receive);
        self.post(descriptors - 1);
        Ok(())
    }

    /// Whether the card still receives into this ring: after a jump a card that was reset does not.
    pub(crate) fn check(&self, ring: u64, descriptors: u32) -> Result<()> {
        let card = &self.0;
        let base = u64::from(card.read(RDBAL0)) | u64::from(card.read(RDBAH0)) << 32;
        let length = card.read(RDLEN0);
        let (queue, receive, status) = (card.read(RXDCTL0), card.read(RCTL), card.read(STATUS));
        ensure!(
            base == ring
                && length == descriptors * layout::DESCRIPTOR as u32
                && queue & RXDCTL_ENABLE != 0
                && receive & RCTL_ENABLE != 0
                && status & STATUS_LINK_UP != 0,
            "the card was reset or lost its settings: ring at {base:#x} ({ring:#x} expected), {length} bytes, \
             RXDCTL {queue:#x}, RCTL {receive:#x}, STATUS {status:#x}"
        );
        Ok(())
    }

    /// Hands the card all descriptors before `tail`.
    pub(crate) fn post(&self, tail: u32) {
        self.0.write(RDT0, tail);
    }

    /// The first descriptor that the card may not use.
    pub(crate) fn tail(&self) -> u32 {
        self.0.read(RDT0)
    }

    /// The descriptor that the card uses next.
    pub(crate) fn head(&self) -> u32 {
        self.0.read(RDH0)
    }

    fn wait(&self, what: &str, register: u64, bit: u32) -> Result<()> {
        let limit = if register == STATUS {
            LINK_LIMIT
        } else {
            REGISTER_LIMIT
        };
        let until = Instant::now() + limit;
        while self.0.read(register) & bit == 0 {
            ensure!(
                Instant::now() < until,
                "{} ms passed waiting for {what}; register {register:#x} is {:#x}",
                limit.as_millis(),
                self.0.read(register)
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// A pretend card: registers that hold what is written to them.
#[cfg(test)]
pub(crate) mod pretend {
    use super::*;

    pub(crate) fn card() -> Igb {
        Igb::new(Registers::pretend(0x20000).expect("memory"))
    }

    pub(crate) fn set_head(card: &Igb, head: u32) {
        card.0.write(RDH0, head);
    }

    #[test]
    fn a_card_that_was_reset_is_told_from_one_that_was_not() {
        let card = card();
        assert!(card.check(0x1_0010_0000, 4096).is_err());
        // The pretend PHY is never ready by itself: MDIC keeps what was written, without the bit.
        let error = card.start(0x1_0010_0000, 4096).unwrap_err().to_string();
        assert!(error.contains("MDIC"), "{error}");
        for (register, value) in [
            (STATUS, STATUS_LINK_UP),
            (RDBAL0, 0x0010_0000),
            (RDBAH0, 1),
            (RDLEN0, 4096 * 16),
            (RXDCTL0, RXDCTL_ENABLE),
            (RCTL, RCTL_ENABLE),
            (RAL0, 0x0012_5452),
            (RAH0, 0x8000_5634),
        ] {
            card.0.write(register, value);
        }
        card.check(0x1_0010_0000, 4096).expect("it receives");
        assert_eq!(card.mac(), "52:54:12:00:34:56");
        card.0.write(RCTL, 0);
        assert!(card.check(0x1_0010_0000, 4096).is_err());
    }
}
