// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Is a function the one that was recorded, and how does it go on in the incoming kernel?

use crate::facts::facts;
use crate::record::attachment::DomainKey;
use crate::record::pci::{Function, Identity, Kind};
use crate::record::set::Verdict;
use crate::refusal::{Family, Refusal};

facts! {
    /// Facts about a device that is probed: `HITLESS_ARRIVES_*`.
    ArrivalFacts {
        /// Nobody else is in its IOMMU group.
        ALONE = 0,
        /// It is bus master.
        BUS_MASTER = 1,
        /// The tables of its unit were refused.
        BLOCKED = 2,
    }
}

facts! {
    /// Facts about a function that has been found: `HITLESS_PCI_*`.
    FoundFacts {
        /// It is bus master.
        BUS_MASTER = 0,
        /// The previous kernel handed something over.
        AFTER_HANDOVER = 1,
    }
}

/// What becomes of a function when it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing: it is a function like any other.
    Ordinary,
    /// It was recorded, and is left alone.
    Running,
    /// It may be running and may not go on: bus mastering is taken away before anything could give it a domain.
    Stopped(Refusal),
}

/// What becomes of a function of which these facts hold? `recorded` is what is to be left alone there.
///
/// A kernel that hands over switches bus mastering off for all that does not go on, so who still has it
/// was missed, or has got it back while that kernel went down. The default domain of this kernel, which could
/// be all of memory, is not for it.
#[must_use]
pub fn found(facts: FoundFacts, recorded: Option<&Function>, now: &Identity) -> Found {
    match recorded {
        Some(function) if function.kind == Kind::Endpoint => {
            let recorded = &function.identity;
            device(&without_class(recorded), &without_class(now))
                .map_or_else(Found::Stopped, |()| Found::Running)
        }
        Some(_) => Found::Running,
        None if facts.has(FoundFacts::AFTER_HANDOVER) && facts.has(FoundFacts::BUS_MASTER) => {
            Found::Stopped(Refusal::NotRecorded(Family::Pci))
        }
        None => Found::Ordinary,
    }
}

/// Quirks correct the class of some devices, which is done after they are found.
const fn without_class(identity: &Identity) -> Identity {
    Identity {
        class_revision: identity.class_revision & 0xff,
        ..*identity
    }
}

/// How a device goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is a device like any other.
    Ordinary,
    /// It keeps running, on the restored domain with this key.
    Restored(DomainKey),
    /// It may be running and may not go on: bus mastering is taken away and its entry cleared before it is an
    /// ordinary device.
    Stopped(Refusal),
}

/// How does a device go on of which these facts hold? `bridge` says whether it is a bridge above a device
/// that goes on.
///
/// A device that is not recorded and is bus master behind a blocked unit was left running by the previous
/// kernel: the default domain of this one could be all of memory.
#[must_use]
pub fn arrival(facts: ArrivalFacts, verdict: &Verdict, bridge: bool) -> Arrival {
    match verdict {
        Verdict::Refused(refusal) => Arrival::Stopped(*refusal),
        Verdict::Kept(kept) if kept.adopted && !facts.has(ArrivalFacts::ALONE) => {
            Arrival::Stopped(Refusal::SharedGroup)
        }
        Verdict::Kept(kept) if kept.adopted => Arrival::Restored(kept.attachment.domain),
        Verdict::Unknown | Verdict::Left(_) | Verdict::Kept(_)
            if facts.has(ArrivalFacts::BLOCKED)
                && facts.has(ArrivalFacts::BUS_MASTER)
                && !bridge =>
        {
            Arrival::Stopped(Refusal::UnitRefused)
        }
        Verdict::Unknown | Verdict::Left(_) | Verdict::Kept(_) => Arrival::Ordinary,
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
    use crate::record::pci::DeviceAddress;

    const ALL: u32 = ArrivalFacts::KNOWN;

    #[test]
    fn what_cannot_be_trusted_is_stopped_whatever_the_facts() {
        let verdict = Verdict::Refused(Refusal::OtherDevice);
        for facts in 0..=ALL {
            assert_eq!(
                arrival(ArrivalFacts(facts), &verdict, false),
                Arrival::Stopped(Refusal::OtherDevice)
            );
        }
    }

    #[test]
    fn an_unknown_bus_master_behind_a_blocked_unit_is_stopped() {
        const BOTH: u32 = ArrivalFacts::BLOCKED | ArrivalFacts::BUS_MASTER;
        for facts in 0..=ALL {
            let arrives = |bridge| arrival(ArrivalFacts(facts), &Verdict::Unknown, bridge);
            let stopped = arrives(false) != Arrival::Ordinary;
            assert_eq!(stopped, facts & BOTH == BOTH, "{facts:#x}");
            assert_eq!(arrives(true), Arrival::Ordinary);
        }
    }

    #[test]
    fn of_what_is_found_running_only_what_was_recorded_goes_on() {
        const BOTH: u32 = FoundFacts::AFTER_HANDOVER | FoundFacts::BUS_MASTER;
        let now = Identity {
            vendor: 0x8086,
            ..Identity::default()
        };
        let address = DeviceAddress {
            segment: 0,
            bdf: 0x100,
        };
        let function = |kind, identity| Function {
            address,
            kind,
            identity,
        };
        let (same, other) = (now, Identity::default());
        for facts in 0..=FoundFacts::KNOWN {
            let becomes = |recorded: Option<&Function>| found(FoundFacts(facts), recorded, &now);
            let alone = match facts & BOTH {
                BOTH => Found::Stopped(Refusal::NotRecorded(Family::Pci)),
                _ => Found::Ordinary,
            };
            assert_eq!(becomes(None), alone, "{facts:#x}");
            let corrected = Identity {
                class_revision: 0x0880_ff00,
                ..same
            };
            for recorded in [same, corrected] {
                let device = function(Kind::Endpoint, recorded);
                assert_eq!(becomes(Some(&device)), Found::Running);
            }
            let device = function(Kind::Endpoint, other);
            assert_eq!(becomes(Some(&device)), Found::Stopped(Refusal::OtherDevice));
            let bridge = function(Kind::Bridge, other);
            assert_eq!(becomes(Some(&bridge)), Found::Running);
        }
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
