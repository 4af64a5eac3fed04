// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Changes a record in the machine's memory between two kernels.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure, Context, Result};
use crc::{Crc, CRC_32_ISCSI};

use super::fields::Field;
use hitless_lab::machine::console::Console;
use hitless_lab::machine::ram::Ram;
use hitless_lab::play::scene::Scene;

const PAGE: usize = 4096;
/// The header of a page, and its checksum in it (docs/abi.md).
const HEADER: usize = 64;
const CHECKSUM: usize = 12;
const ENTRY: usize = 64;
/// What a kernel says first. It reads the records much later.
const BEGINS: &str = "Linux version ";
/// How long it may take until it does.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(2);

/// A page that is going to be changed.
pub(super) struct Tampering {
    physical: u64,
    before: Vec<u8>,
    after: Vec<u8>,
}

/// Somebody who waits for the new kernel to begin.
pub(super) struct Begun(JoinHandle<Result<()>>);

impl Tampering {
    /// Finds the page with the field, which has been written already.
    pub(super) fn prepare(scene: &Scene, field: &Field) -> Result<Self> {
        let (physical, before) = find(&scene.machine.ram, field.family)?;
        let base = match field.kind {
            None => 0,
            Some(kind) => (HEADER..PAGE)
                .step_by(ENTRY)
                .find(|at| before[*at] == kind)
                .with_context(|| format!("no entry of the kind {kind} in {}", field.family))?,
        };
        let mut after = before.clone();
        let at = base + field.offset;
        for (byte, flip) in after[at..].iter_mut().zip(field.flip.to_le_bytes()) {
            *byte ^= flip;
        }
        if !field.is_checksum {
            let sum = checksum(&after);
            after[CHECKSUM..CHECKSUM + 4].copy_from_slice(&sum.to_le_bytes());
        }
        Ok(Self {
            physical,
            before,
            after,
        })
    }

    /// The page is changed as soon as the next kernel begins.
    pub(super) fn begin(self, scene: &Scene) -> Begun {
        let (console, ram) = (scene.machine.console.clone(), scene.machine.ram.clone());
        let known = beginnings(&console);
        Begun(std::thread::spawn(move || {
            let until = Instant::now() + PATIENCE;
            while beginnings(&console) == known {
                ensure!(Instant::now() < until, "the new kernel does not begin");
                std::thread::sleep(LOOK);
            }
            let mut now = vec![0; PAGE];
            ram.read(self.physical, &mut now)?;
            ensure!(now == self.before, "the record has changed by itself");
            ram.write(self.physical, &self.after)?;
            Ok(())
        }))
    }
}

impl Begun {
    /// It has been changed.
    pub(super) fn end(self) -> Result<()> {
        self.0.join().map_err(|_| anyhow!("the thread panicked"))?
    }
}

fn beginnings(console: &Console) -> usize {
    let lines = console.lines();
    lines
        .iter()
        .filter(|line| line.text.contains(BEGINS))
        .count()
}

fn checksum(page: &[u8]) -> u32 {
    let crc = Crc::<u32>::new(&CRC_32_ISCSI);
    let mut digest = crc.digest();
    digest.update(&page[..CHECKSUM]);
    digest.update(&[0; 4]);
    digest.update(&page[CHECKSUM + 4..]);
    digest.finalize()
}

/// The page of a family in the machine's memory: the only one that is whole.
fn find(ram: &Ram, family: &str) -> Result<(u64, Vec<u8>)> {
    let mut found = Vec::new();
    let mut offset = 0;
    let mut page = vec![0; PAGE];
    loop {
        offset = ram.written_from(offset)?;
        if offset >= ram.size() {
            break;
        }
        ram.read(offset, &mut page)?;
        let sum = page.get(CHECKSUM..CHECKSUM + 4);
        if page.starts_with(family.as_bytes()) && sum == Some(&checksum(&page).to_le_bytes()[..]) {
            found.push((offset, page.clone()));
        }
        offset += PAGE as u64;
    }
    let count = found.len();
    ensure!(count == 1, "{count} pages of {family} are in the memory");
    found.pop().context("there is none")
}
