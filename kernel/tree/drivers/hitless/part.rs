// SPDX-License-Identifier: GPL-2.0-only

//! Parts that can be left out, so that a test can show what is lost without them (`hitless.break=`).

use kernel::prelude::*;
use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

macro_rules! parts {
    ($($(#[$doc:meta])* $part:ident = $name:literal,)*) => {
        /// A part of hitless.
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Part {
            $($(#[$doc])* $part,)*
        }

        const NAMES: &[(&[u8], Part)] = &[$(($name.as_bytes(), Part::$part),)*];
    };
}

parts! {
    /// Outgoing devices keep bus mastering.
    BusMaster = "bus_master",
    /// So do the bridges above them.
    BridgeBusMaster = "bridge_bus_master",
    /// All other devices lose it; left out, none does.
    ClearMaster = "clear_master",
    /// The machine does not jump into an image that would not take over what runs on.
    Image = "image",
    /// From freeze on a device is neither reset nor changed by user space.
    Freeze = "freeze",
    /// The machine does not sleep while anything is preserved or not finished.
    Sleep = "sleep",
    /// In the new kernel what nobody recorded is stopped when it is found.
    Found = "found",
    /// Units go on translating through the jump.
    Translation = "translation",
    /// What is not outgoing is cleared out of a unit's tables.
    Scrub = "scrub",
    /// Tables by which interrupts are remapped are handed over.
    IrqTable = "irq_table",
    /// A unit goes on with its tables.
    Adopt = "adopt",
    /// A unit's tables fit; left out, those of every unit are refused.
    Unit = "unit",
    /// The records of PCI are looked at.
    PciRecord = "pci_record",
    /// A device starts on its restored domain.
    DefaultDomain = "default_domain",
    /// A device goes on with its PASID directory.
    PasidTable = "pasid_table",
    /// A device that arrived running is not reset, nor its bus mastering switched off.
    Reset = "reset",
    /// It is not suspended while idle.
    PowerState = "power_state",
    /// It is taken over with its restored domain when it is bound.
    Claim = "claim",
    /// A live entry is swapped.
    Swap = "swap",
    /// A swap is planned; left out, every plan is refused.
    Plan = "plan",
    /// Memory that restored tables map is pinned.
    Pin = "pin",
    /// Table pages are handed over.
    Tables = "tables",
}

/// One bit for each part that is left out. Written once, before anything asks.
static LEFT_OUT: Atomic<u32> = Atomic::new(0);

/// Is the part left out? Any context.
pub(crate) fn leaves_out(part: Part) -> bool {
    // CAST: The enum has no fields, and fewer than 32 variants.
    cfg!(CONFIG_HITLESS_BREAK) && LEFT_OUT.load(Relaxed) & (1 << (part as u32)) != 0
}

/// Takes the names of the command line. One that is not known is an error: a test would show nothing.
pub(crate) fn leave_out(names: &CStr) -> Result {
    let mut left_out = 0;
    for name in names.to_bytes().split(|byte| *byte == b',') {
        if name.is_empty() {
            continue;
        }
        let Some((_, part)) = NAMES.iter().find(|(known, _)| *known == name) else {
            pr_err!("hitless.break= names a part that is not known\n");
            return Err(EINVAL);
        };
        // CAST: As above.
        left_out |= 1 << (*part as u32);
    }
    LEFT_OUT.store(left_out, Relaxed);
    Ok(())
}
