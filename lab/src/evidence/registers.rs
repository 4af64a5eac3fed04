// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The VT-d unit's fault registers, read through QEMU's monitor ten times a second: a second witness beside the
//! trace, for what a kernel has not cleared yet. What it did not see says something only if it was there to see it: so
//! looks that failed, and jumps without a look on either side, are told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::evidence::phases::Jump;
use crate::machine::clock::{Clock, Ns};
use crate::machine::monitor::Monitor;
use crate::machine::priority::hurry;
use crate::machine::qemu::VTD_REGISTERS;

/// Global Status (VT-d specification 11.4.4.2) and its translation enable status.
const GLOBAL_STATUS: u64 = 0x1c;
const TRANSLATING: u32 = 1 << 31;
/// QEMU's only fault recording register (11.4.14.4): four words, the last of them with the fault bit 31.
const FAULT_RECORD: u64 = 0x220;
const FAULT: u32 = 1 << 31;

/// What one look showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    /// When.
    at: Ns,
    /// Translation is on.
    translating: bool,
    /// The device whose fault is recorded.
    fault: Option<u16>,
}

impl Look {
    fn new(at: Ns, status: u32, record: &[u32]) -> Self {
        let fault = match record {
            [_, _, source, flags] if flags & FAULT != 0 => Some((source & 0xffff) as u16),
            _ => None,
        };
        Self {
            at,
            translating: status & TRANSLATING != 0,
            fault,
        }
    }
}

/// Everything that was seen, and what was not.
#[derive(Clone, Debug, Default)]
pub struct Looks {
    /// Looks that succeeded.
    done: Vec<Look>,
    /// How many failed.
    failed: u64,
    /// How the first of them did.
    error: Option<String>,
}

impl Looks {
    fn add(&mut self, look: Result<Look>) {
        match look {
            Ok(look) => self.done.push(look),
            Err(error) => {
                self.failed += 1;
                self.error.get_or_insert(format!("{error:#}"));
            }
        }
    }

    /// How many looks between two moments showed a fault of this device.
    pub fn faults(&self, source_id: u16, from: Ns, to: Ns) -> u64 {
        self.within(from, to)
            .filter(|look| look.fault == Some(source_id))
            .count() as u64
    }

    /// How many looks between two moments showed translation off.
    pub fn untranslated(&self, from: Ns, to: Ns) -> u64 {
        self.within(from, to)
            .filter(|look| !look.translating)
            .count() as u64
    }

    /// Why these looks prove less than they should, in sentences; nothing when they do.
    pub fn missing(&self, jumps: &[Jump], to: Ns) -> Vec<String> {
        let mut missing = Vec::new();
        if let Some(error) = &self.error {
            missing.push(format!(
                "{} of {} looks at the IOMMU's registers failed, the first: {error}",
                self.failed,
                self.failed + self.done.len() as u64
            ));
        }
        let mut from = 0;
        for (number, jump) in jumps.iter().enumerate() {
            let next = jumps.get(number + 1).map_or(to, |next| next.ordered);
            for (side, from, to) in [("before", from, jump.ordered), ("after", jump.hello, next)] {
                if self.within(from, to).next().is_none() {
                    let update = jump.update;
                    missing.push(format!(
                        "the IOMMU's registers were not read {side} the jump of update {update}"
                    ));
                }
            }
            from = jump.hello;
        }
        missing
    }

    fn within(&self, from: Ns, to: Ns) -> impl Iterator<Item = &Look> {
        self.done
            .iter()
            .filter(move |look| (from..=to).contains(&look.at))
    }
}

/// A thread that looks.
#[derive(Debug)]
pub struct Registers {
    looks: Arc<Mutex<Looks>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Registers {
    /// Begins to look.
    pub fn start(monitor: Monitor, clock: Clock) -> Result<Self> {
        let looks = Arc::new(Mutex::new(Looks::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new()
            .name("registers".to_owned())
            .spawn({
                let (looks, stop) = (Arc::clone(&looks), Arc::clone(&stop));
                move || {
                    hurry();
                    while !stop.load(Ordering::Relaxed) {
                        let look = look(&monitor, clock);
                        looks
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .add(look);
                        std::thread::sleep(Duration::from_millis(100));
                    }
                }
            })
            .context("no thread for the fault registers")?;
        Ok(Self {
            looks,
            stop,
            thread: Some(thread),
        })
    }

    /// Looks no more, and says what was seen.
    pub fn stop(mut self) -> Looks {
        self.join();
        std::mem::take(&mut self.looks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed.
            let _ = thread.join();
        }
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        self.join();
    }
}

fn look(monitor: &Monitor, clock: Clock) -> Result<Look> {
    let at = clock.now();
    let status = monitor.words(VTD_REGISTERS + GLOBAL_STATUS, 1)?;
    let record = monitor.words(VTD_REGISTERS + FAULT_RECORD, 4)?;
    Ok(Look::new(at, status.first().copied().unwrap_or(0), &record))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_fault_names_its_device() {
        let look = Look::new(1, 0xc700_0000, &[0x1000, 0, 0x0100, 0x8000_0005]);
        assert_eq!((look.translating, look.fault), (true, Some(0x100)));
        let quiet = Look::new(1, 0, &[0x1000, 0, 0x0100, 0x0000_0005]);
        assert_eq!((quiet.translating, quiet.fault), (false, None));
        let looks = Looks {
            done: vec![look, quiet],
            ..Looks::default()
        };
        assert_eq!(looks.faults(0x100, 0, 2), 1);
        assert_eq!(looks.faults(0x200, 0, 2), 0);
        assert_eq!(looks.faults(0x100, 2, 3), 0);
        assert_eq!(looks.untranslated(0, 2), 1);
        assert_eq!(looks.untranslated(2, 3), 0);
    }

    #[test]
    fn a_witness_that_was_not_there_is_told() {
        let look = |at| Look::new(at, TRANSLATING, &[0; 4]);
        let jump = |update, ordered, hello| Jump {
            update,
            ordered,
            hello,
        };
        let jumps = [jump(1, 10, 20), jump(2, 30, 40)];
        let mut looks = Looks::default();
        for at in [5, 25, 45] {
            looks.add(Ok(look(at)));
        }
        assert_eq!(looks.missing(&jumps, 50), [""; 0]);
        looks.done.remove(1);
        let missing = looks.missing(&jumps, 50).join("; ");
        assert!(missing.contains("after the jump of update 1"), "{missing}");
        assert!(missing.contains("before the jump of update 2"), "{missing}");
        looks.add(Err(anyhow::anyhow!("QEMU has ended")));
        looks.add(Err(anyhow::anyhow!("again")));
        let missing = looks.missing(&[], 50).join("; ");
        assert!(missing.starts_with("2 of 4 looks") && missing.ends_with("QEMU has ended"));
    }
}
