// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The VT-d unit's fault registers, read through QEMU's monitor ten times a second: a second witness beside the
//! trace, for what a kernel has not cleared yet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::run::clock::{Clock, Ns};
use crate::run::monitor::Monitor;
use crate::run::qemu::VTD_REGISTERS;

/// Global Status (VT-d specification 11.4.4.2) and its translation enable status.
const GLOBAL_STATUS: u64 = 0x1c;
const TRANSLATING: u32 = 1 << 31;
/// QEMU's only fault recording register (11.4.14.4): four words, the last of them with the fault bit 31.
const FAULT_RECORD: u64 = 0x220;
const FAULT: u32 = 1 << 31;

/// What one look showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// When.
    pub(crate) at: Ns,
    /// Translation is on.
    pub(crate) translating: bool,
    /// The device whose fault is recorded.
    pub(crate) fault: Option<u16>,
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

/// A thread that looks.
#[derive(Debug)]
pub(crate) struct Registers {
    looks: Arc<Mutex<Vec<Look>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Registers {
    /// Begins to look.
    ///
    /// # Errors
    ///
    /// No thread can be started.
    pub(crate) fn start(monitor: Monitor, clock: Clock) -> Result<Self> {
        let looks = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new()
            .name("registers".to_owned())
            .spawn({
                let (looks, stop) = (Arc::clone(&looks), Arc::clone(&stop));
                move || {
                    while !stop.load(Ordering::Relaxed) {
                        // An error means that QEMU has ended; others notice that too.
                        let Ok(look) = look(&monitor, clock) else {
                            break;
                        };
                        looks
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(look);
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
    pub(crate) fn stop(mut self) -> Vec<Look> {
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

/// How many looks between two moments showed a fault of this device.
pub(crate) fn faults(looks: &[Look], source_id: u16, from: Ns, to: Ns) -> u64 {
    looks
        .iter()
        .filter(|look| (from..=to).contains(&look.at) && look.fault == Some(source_id))
        .count() as u64
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
        assert_eq!(faults(&[look, quiet], 0x100, 0, 2), 1);
        assert_eq!(faults(&[look, quiet], 0x200, 0, 2), 0);
        assert_eq!(faults(&[look], 0x100, 2, 3), 0);
    }
}
