// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Carries out steps of a swap on the pretend machine, one at a time.

use hitless_core::iommu::bdf::Bdf;
use hitless_core::iommu::plan::Step;

use crate::memory::PhysicalMemory;
use crate::unit::Unit;

/// Where an entry begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The page.
    pub page: u64,
    /// The first word.
    pub word: usize,
}

impl Place {
    /// The words of the entry.
    ///
    /// # Panics
    ///
    /// If there is no memory.
    #[must_use]
    pub fn read<const N: usize>(self, memory: &PhysicalMemory) -> [u64; N] {
        std::array::from_fn(|offset| memory.get(self.page, self.word + offset).expect("table"))
    }

    /// Writes words in rising order.
    pub fn write(self, memory: &PhysicalMemory, words: &[u64]) {
        for (offset, word) in words.iter().enumerate() {
            memory.write(self.page, self.word + offset, *word);
        }
    }
}

/// Steps waiting to be carried out. Between any two of them the test looks at the machine.
#[derive(Clone, Debug)]
pub struct Execution {
    steps: std::vec::IntoIter<Step>,
    place: Place,
    device: Bdf,
}

impl Execution {
    /// Steps that concern the entry of `device` at `place`.
    #[must_use]
    pub fn new(steps: impl IntoIterator<Item = Step>, place: Place, device: Bdf) -> Self {
        let steps: Vec<_> = steps.into_iter().collect();
        Self {
            steps: steps.into_iter(),
            place,
            device,
        }
    }

    /// Carries out one step and says which it was. [`Step::Release`] does nothing here.
    ///
    /// # Panics
    ///
    /// If a compare-exchange does not find what it expects, or is not aligned.
    pub fn step(&mut self, memory: &PhysicalMemory, unit: &mut Unit) -> Option<Step> {
        let step = self.steps.next()?;
        let Place { page, word: first } = self.place;
        match step {
            Step::Store64 { word, value } => memory.write(page, first + word, value),
            Step::CompareExchange128 { word, old, new } => {
                assert_eq!((first + word) % 2, 0, "16-byte alignment");
                let place = Place {
                    page,
                    word: first + word,
                };
                assert_eq!(place.read(memory), old, "nobody else writes the entry");
                place.write(memory, &new);
            }
            Step::InvalidateContext { did } => unit.invalidate_context(self.device, did),
            Step::InvalidatePasidCache { did, pasid } => unit.invalidate_pasid(did, pasid),
            Step::InvalidateIotlb { did } => unit.invalidate_iotlb(did),
            Step::InvalidatePasidIotlb { did, pasid } => unit.invalidate_pasid_iotlb(did, pasid),
            Step::InvalidateDeviceTlb => unit.invalidate_device_tlb(self.device),
            Step::Release => {}
        }
        Some(step)
    }
}
