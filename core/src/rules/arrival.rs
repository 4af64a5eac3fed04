// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! How a device goes on that is probed by the incoming kernel.

use crate::model::ArrivalFacts;
use crate::refusal::Refusal;

/// How a device goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is a device like any other.
    Ordinary,
    /// It keeps running, on its restored domain.
    Restored,
    /// It may be running and may not go on: bus mastering is taken away and its entry cleared before it is an ordinary
    /// device.
    Stopped(Refusal),
}

/// What the records say of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// Nothing.
    Nothing,
    /// It is a bridge above a device that goes on.
    Bridge,
    /// It is attached to a domain whose tables were adopted.
    Attached,
    /// Something, but it cannot be trusted.
    Refused(Refusal),
}

/// How does a device go on of which these facts hold?
///
/// A device that is not recorded and is bus master behind a blocked unit was left running by the previous kernel: the
/// default domain of this one could be all of memory.
#[must_use]
pub fn arrival(facts: ArrivalFacts, recorded: Recorded) -> Arrival {
    match recorded {
        Recorded::Refused(refusal) => Arrival::Stopped(refusal),
        Recorded::Attached if !facts.has(ArrivalFacts::ALONE) => {
            Arrival::Stopped(Refusal::SharedGroup)
        }
        Recorded::Attached => Arrival::Restored,
        Recorded::Nothing
            if facts.has(ArrivalFacts::BLOCKED) && facts.has(ArrivalFacts::BUS_MASTER) =>
        {
            Arrival::Stopped(Refusal::UnitRefused)
        }
        Recorded::Nothing | Recorded::Bridge => Arrival::Ordinary,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u32 = ArrivalFacts::KNOWN;

    #[test]
    fn only_a_device_alone_in_its_group_goes_on() {
        for facts in 0..=ALL {
            let alone = facts & ArrivalFacts::ALONE != 0;
            let arrival = arrival(ArrivalFacts(facts), Recorded::Attached);
            match alone {
                true => assert_eq!(arrival, Arrival::Restored),
                false => assert_eq!(arrival, Arrival::Stopped(Refusal::SharedGroup)),
            }
        }
    }

    #[test]
    fn what_cannot_be_trusted_is_stopped_whatever_the_facts() {
        let recorded = Recorded::Refused(Refusal::OtherDevice);
        for facts in 0..=ALL {
            assert_eq!(
                arrival(ArrivalFacts(facts), recorded),
                Arrival::Stopped(Refusal::OtherDevice)
            );
        }
    }

    #[test]
    fn an_unknown_bus_master_behind_a_blocked_unit_is_stopped() {
        const BOTH: u32 = ArrivalFacts::BLOCKED | ArrivalFacts::BUS_MASTER;
        for facts in 0..=ALL {
            let stopped = arrival(ArrivalFacts(facts), Recorded::Nothing) != Arrival::Ordinary;
            assert_eq!(stopped, facts & BOTH == BOTH, "{facts:#x}");
            assert_eq!(
                arrival(ArrivalFacts(facts), Recorded::Bridge),
                Arrival::Ordinary
            );
        }
    }
}
