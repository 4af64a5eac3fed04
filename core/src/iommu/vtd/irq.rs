// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Does a unit go on with the table by which it remaps interrupts?
//!
//! A device that goes on can write to the addresses at which interrupts are requested (0xFEEx_xxxx), and the tables of
//! DMA do not see that: only interrupt remapping stands between the device and every processor. So it is never switched
//! off, and its table is always memory that nobody else has.

use crate::facts::facts;
use crate::refusal::{Family, Refusal};

facts! {
    /// Facts about interrupt remapping of a unit, as it is found at boot: `HITLESS_IRQ_*`.
    IrqTableFacts {
        /// It is on.
        REMAPPING = 0,
        /// The previous kernel handed something over.
        AFTER_HANDOVER = 1,
        /// The table was, and has not been taken yet.
        TABLE_HANDED_OVER = 2,
    }
}

/// Size and mode in the Interrupt Remapping Table Address Register (VT-d 11.4.18): bits 3:0 and 11.
const SIZE_AND_MODE: u64 = 0x80f;

/// Does a unit, whose register says `live`, go on with the table that it has in a kernel that would write `wanted` there?
/// `false`: there is nothing to go on with.
///
/// # Errors
///
/// Why the table cannot be used: remapping has to be switched off until there is another.
pub fn adopts_irq_table(facts: IrqTableFacts, live: u64, wanted: u64) -> Result<bool, Refusal> {
    if !facts.has(IrqTableFacts::REMAPPING) || !facts.has(IrqTableFacts::AFTER_HANDOVER) {
        Ok(false)
    } else if !facts.has(IrqTableFacts::TABLE_HANDED_OVER) {
        Err(Refusal::NotHandedOver(Family::Iommu))
    } else if live & SIZE_AND_MODE != wanted & SIZE_AND_MODE {
        Err(Refusal::OtherMode)
    } else {
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_table_that_was_handed_over_and_fits_is_gone_on_with() {
        let [size, x2apic, address] = [0xf, 1 << 11, 0x1234_5000];
        for facts in 0..=IrqTableFacts::KNOWN {
            let asks = |live, wanted| adopts_irq_table(IrqTableFacts(facts), live, wanted);
            let on = facts & 3 == 3;
            let handed_over = facts & 4 != 0;
            let missing = Err(Refusal::NotHandedOver(Family::Iommu));
            for wanted in [size, size | x2apic] {
                let fits = asks(address | wanted, wanted);
                let differs = asks(address | wanted, wanted ^ x2apic);
                let smaller = asks(address | wanted, wanted ^ 1);
                let (expected, refused) = match (on, handed_over) {
                    (false, _) => (Ok(false), Ok(false)),
                    (true, false) => (missing, missing),
                    (true, true) => (Ok(true), Err(Refusal::OtherMode)),
                };
                assert_eq!((fits, differs, smaller), (expected, refused, refused));
            }
        }
    }
}
