// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What shows of a VT-d unit from outside: its events in QEMU's trace, its registers, and the kernel's first line about it.

use anyhow::Result;

use crate::evidence::event::{after, Event};
use crate::machine::monitor::Monitor;
use crate::machine::vtd::{COMMAND, ENABLE, FAULT, HIDDEN_FAULT, REGISTERS, REMAPPING, REQUEST};

/// The kernel's driver begins with one of these lines, in lower case.
pub(super) const BEGINS: &[&str] = &["dmar: no rmrr", "dmar: rmrr base"];

/// Global Command and Global Status (VT-d specification 11.4.4.1 and 11.4.4.2): translation enable.
const TRANSLATION_ENABLE: u32 = 1 << 31;
/// Offset of Global Status.
const GLOBAL_STATUS: u64 = 0x1c;
/// Offset of QEMU's only fault recording register (11.4.14.4): four words, the last of them with the fault bit.
const FAULT_RECORD: u64 = 0x220;
const FAULTED: u32 = 1 << 31;

/// What faults are called in figures.
pub const FAULTS: &str = "dmar_faults";

/// Events that mean something to the judge.
pub(super) const JUDGED: [&str; 5] = [FAULT, HIDDEN_FAULT, ENABLE, COMMAND, REMAPPING];

/// Reads one of them from its words; nothing if it has not the form that is known.
pub(super) fn event(words: &[&str]) -> Option<Event> {
    Some(match *words.first()? {
        FAULT => Event::Fault(after(words, "sid")?, after(words, "fault")?),
        HIDDEN_FAULT => Event::HiddenFault,
        ENABLE => Event::Translation(after::<u64>(words, "enable")? != 0),
        REMAPPING => Event::Remapping(after::<u64>(words, "enable")? != 0),
        COMMAND => {
            let (before, value): (u32, u32) = (after(words, "status")?, after(words, "value")?);
            Event::Command {
                stops_translation: before & !value & TRANSLATION_ENABLE != 0,
            }
        }
        _ => return None,
    })
}

/// The entry that a device's request for an interrupt names, and whether there is one (VT-d specification 9.9).
pub(super) fn request(words: &[&str]) -> Option<(u32, bool)> {
    if *words.first()? != REQUEST {
        return None;
    }
    Some((after(words, "index")?, after::<u64>(words, "low")? & 1 != 0))
}

/// Whether the unit translates, and the device whose fault it has recorded.
pub(super) fn look(monitor: &Monitor) -> Result<(bool, Option<u16>)> {
    let status = monitor.words(REGISTERS + GLOBAL_STATUS, 1)?;
    let record = monitor.words(REGISTERS + FAULT_RECORD, 4)?;
    Ok(read(status.first().copied().unwrap_or(0), &record))
}

fn read(status: u32, record: &[u32]) -> (bool, Option<u16>) {
    let fault = match record {
        [_, _, source, flags] if flags & FAULTED != 0 => Some((source & 0xffff) as u16),
        _ => None,
    };
    (status & TRANSLATION_ENABLE != 0, fault)
}

/// Lines for tests of what stands on this.
#[cfg(test)]
pub(in crate::evidence) mod recorded {
    pub(in crate::evidence) const FIRST_FAULTS: &str =
        "vtd_dmar_fault sid 0x100 fault 2 addr 0x0 write 1";
    pub(in crate::evidence) const SECOND_FAULTS: &str =
        "vtd_dmar_fault sid 0x200 fault 5 addr 0x0 write 1";
    pub(in crate::evidence) const HIDDEN: &str =
        "vtd_fault_disabled Fault processing disabled for context entry";
    pub(in crate::evidence) const COMMAND: &str = "vtd_reg_write_gcmd status 0x0 value 0x80000000";
    pub(in crate::evidence) const TORN: &str = "vtd_dmar_fault sid 0x100";
    pub(in crate::evidence) const BEGINS: &str = "DMAR: No RMRR found";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read() {
        let command = |stops_translation| Some(Event::Command { stops_translation });
        for (line, expected) in [
            (
                "vtd_dmar_fault sid 0x100 fault 91 addr 0x100000000 write 1",
                Some(Event::Fault(0x100, 91)),
            ),
            (recorded::HIDDEN, Some(Event::HiddenFault)),
            ("vtd_dmar_enable enable 0", Some(Event::Translation(false))),
            ("vtd_dmar_enable enable 1", Some(Event::Translation(true))),
            ("vtd_ir_enable enable 0", Some(Event::Remapping(false))),
            (recorded::COMMAND, command(false)),
            (
                "vtd_reg_write_gcmd status 0xc7000000 value 0x47000000",
                command(true),
            ),
            (
                "vtd_reg_write_gcmd status 0xc7000000 value 0xc5000000",
                command(false),
            ),
            (recorded::TORN, None),
            ("vtd_reg_dmar_root addr 0x1000 scalable 0", None),
        ] {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(event(&words), expected, "{line}");
        }
    }

    #[test]
    fn requests_are_read() {
        let read = |line: &str| request(&line.split_whitespace().collect::<Vec<_>>());
        let none = "vtd_ir_irte_get index 30720 low 0x0 high 0x0";
        assert_eq!(read(none), Some((30720, false)));
        let some = "vtd_ir_irte_get index 3 low 0x100000d high 0x40100";
        assert_eq!(read(some), Some((3, true)));
        assert_eq!(read(recorded::HIDDEN), None);
    }

    #[test]
    fn a_recorded_fault_names_its_device() {
        let faulted = read(0xc700_0000, &[0x1000, 0, 0x0100, 0x8000_0005]);
        assert_eq!(faulted, (true, Some(0x100)));
        let quiet = read(0, &[0x1000, 0, 0x0100, 0x0000_0005]);
        assert_eq!(quiet, (false, None));
    }
}
