// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One walk: root, context, PASID directory and table, page table.

use hitless_core::iommu::address::DomainId;
use hitless_core::iommu::bdf::Bdf;
use hitless_core::iommu::vtd::mode::Mode;

use super::cache::{Tag, Translation, UnitCache, Upper};
use crate::dma::{Access, Dma};
use crate::fault::Fault;
use crate::memory::{index, PhysicalMemory, WIDTH_BITS};

/// Pointer bits, and those of them that the host does not have.
const POINTER: u64 = !0xfff;
const BEYOND_HOST: u64 = !0 << WIDTH_BITS;
/// Address bits of a page table entry that the host does not have.
const PAGE_BEYOND_HOST: u64 = BEYOND_HOST & ((1 << 52) - 1);

/// A page table to walk, and how.
struct Stage {
    tag: Tag,
    root: u64,
    levels: u32,
    faults: Faults,
}

/// Fault reasons differ between modes and stages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Faults {
    Legacy,
    Second,
    First,
}

pub(super) struct Walker<'a> {
    pub(super) mode: Mode,
    pub(super) root: u64,
    pub(super) memory: &'a PhysicalMemory,
    pub(super) caches: &'a mut UnitCache,
}

/// The domain id in a PASID entry.
pub(super) fn did(words: &[u64; 8]) -> DomainId {
    DomainId(words[1] as u16)
}

impl Walker<'_> {
    pub(super) fn translate(&mut self, dma: Dma) -> Result<Translation, Fault> {
        match self.mode {
            Mode::Legacy => self.legacy(dma),
            Mode::Scalable => self.scalable(dma),
        }
    }

    /// Whether the device may use what its own TLB holds: the unit looks at the device's entry for each
    /// request that comes translated.
    pub(super) fn translated(&mut self, bdf: Bdf) -> Result<(), Fault> {
        let (allowed, fault) = match self.mode {
            Mode::Legacy => {
                let [low, ..] = self.legacy_context(bdf)?;
                (low >> 2 & 3 == 1, Fault::DeviceTlbBlocked)
            }
            Mode::Scalable => {
                let [low, ..] = self.scalable_context(bdf)?;
                (low >> 2 & 1 == 1, Fault::ScalableDeviceTlbBlocked)
            }
        };
        if allowed {
            Ok(())
        } else {
            Err(fault)
        }
    }

    fn words<const N: usize>(
        &self,
        page: u64,
        first: usize,
        fault: Fault,
    ) -> Result<[u64; N], Fault> {
        let mut words = [0; N];
        for (offset, word) in words.iter_mut().enumerate() {
            *word = self.memory.get(page, first + offset).ok_or(fault)?;
        }
        Ok(words)
    }

    fn legacy(&mut self, dma: Dma) -> Result<Translation, Fault> {
        let bdf = dma.bdf;
        let [low, high, ..] = self.legacy_context(bdf)?;
        let did = DomainId((high >> 8) as u16);
        let levels = match high & 7 {
            code @ 1..=3 => code as u32 + 2,
            _ => return Err(Fault::ContextInvalid),
        };
        match low >> 2 & 3 {
            0 | 1 => self.page_walk(
                dma,
                Stage {
                    tag: Tag { did, pasid: None },
                    root: low & POINTER,
                    levels,
                    faults: Faults::Legacy,
                },
            ),
            2 => Ok(untranslated(dma.iova)),
            _ => Err(Fault::ContextInvalid),
        }
    }

    fn legacy_context(&mut self, bdf: Bdf) -> Result<[u64; 4], Fault> {
        if let Some((_, words)) = self.caches.context.get(&bdf) {
            return Ok(*words);
        }
        let words = self.fetch_legacy_context(bdf)?;
        let did = DomainId((words[1] >> 8) as u16);
        self.caches.fill_context(bdf, Some(did), words);
        Ok(words)
    }

    fn fetch_legacy_context(&self, bdf: Bdf) -> Result<[u64; 4], Fault> {
        let bus = usize::from(bdf.bus());
        let [low, high] = self.words(self.root, bus * 2, Fault::RootAccess)?;
        if low & 1 == 0 {
            return Err(Fault::RootNotPresent);
        }
        if low & 0xffe != 0 || high != 0 || low & BEYOND_HOST != 0 {
            return Err(Fault::RootReserved);
        }
        let first = usize::from(bdf.devfn()) * 2;
        let [low, high] = self.words(low & POINTER, first, Fault::ContextAccess)?;
        if low & 1 == 0 {
            return Err(Fault::ContextNotPresent);
        }
        if low & 0xff0 != 0 || high & !0xff_ff7f != 0 || low & BEYOND_HOST != 0 {
            return Err(Fault::ContextReserved);
        }
        Ok([low, high, 0, 0])
    }

    fn scalable(&mut self, dma: Dma) -> Result<Translation, Fault> {
        let bdf = dma.bdf;
        let context = self.scalable_context(bdf)?;
        let pasid = context[1] as u32 & 0xf_ffff;
        let entry = match self.caches.pasid.get(&(bdf, pasid)) {
            Some(words) => *words,
            None => {
                let words = self.pasid_entry(context, pasid)?;
                self.caches.fill_pasid(bdf, pasid, words);
                words
            }
        };
        let did = did(&entry);
        let levels = match entry[0] >> 2 & 7 {
            code @ 1..=3 => code as u32 + 2,
            _ => return Err(Fault::PasidInvalid),
        };
        let stage = match entry[0] >> 6 & 7 {
            1 => Stage {
                tag: Tag {
                    did,
                    pasid: Some(pasid),
                },
                root: entry[2] & POINTER,
                levels: match entry[2] >> 2 & 3 {
                    0 => 4,
                    1 => 5,
                    _ => return Err(Fault::PasidInvalid),
                },
                faults: Faults::First,
            },
            2 => Stage {
                tag: Tag { did, pasid: None },
                root: entry[0] & POINTER,
                levels,
                faults: Faults::Second,
            },
            4 => return Ok(untranslated(dma.iova)),
            _ => return Err(Fault::PasidInvalid),
        };
        self.page_walk(dma, stage)
    }

    fn scalable_context(&mut self, bdf: Bdf) -> Result<[u64; 4], Fault> {
        if let Some((_, words)) = self.caches.context.get(&bdf) {
            return Ok(*words);
        }
        let words = self.fetch_scalable_context(bdf)?;
        self.caches.fill_context(bdf, None, words);
        Ok(words)
    }

    fn fetch_scalable_context(&self, bdf: Bdf) -> Result<[u64; 4], Fault> {
        let devfn = usize::from(bdf.devfn());
        let half = usize::from(bdf.bus()) * 2 + devfn / 0x80;
        let [root] = self.words(self.root, half, Fault::ScalableRootAccess)?;
        if root & 1 == 0 {
            return Err(Fault::ScalableRootNotPresent);
        }
        if root & 0xffe != 0 || root & BEYOND_HOST != 0 {
            return Err(Fault::ScalableRootReserved);
        }
        let first = devfn % 0x80 * 4;
        let words: [u64; 4] = self.words(root & POINTER, first, Fault::ScalableContextAccess)?;
        if words[0] & 1 == 0 {
            return Err(Fault::ScalableContextNotPresent);
        }
        if words[0] & (0x1e0 | BEYOND_HOST) != 0 || words[1] >> 21 != 0 || words[2] | words[3] != 0
        {
            return Err(Fault::ScalableContextReserved);
        }
        Ok(words)
    }

    fn pasid_entry(&self, context: [u64; 4], pasid: u32) -> Result<[u64; 8], Fault> {
        let number = pasid >> 6;
        if number >= 128 << (context[0] >> 9 & 7) {
            return Err(Fault::RequestPasid);
        }
        let page = (context[0] & POINTER) + (u64::from(number >> 9) << 12);
        let [directory] = self.words(page, number as usize & 0x1ff, Fault::DirectoryAccess)?;
        if directory & 1 == 0 {
            return Err(Fault::DirectoryNotPresent);
        }
        if directory & (0xffc | BEYOND_HOST) != 0 {
            return Err(Fault::DirectoryReserved);
        }
        let first = pasid as usize % 64 * 8;
        let words: [u64; 8] = self.words(directory & POINTER, first, Fault::PasidAccess)?;
        if words[0] & 1 == 0 {
            return Err(Fault::PasidNotPresent);
        }
        if words[0] & (0xc00 | BEYOND_HOST) != 0
            || words[1] & 0x7f_0000 != 0
            || words[2] & (0xf00 | BEYOND_HOST) != 0
            || words[3..].iter().any(|word| *word != 0)
        {
            return Err(Fault::PasidReserved);
        }
        Ok(words)
    }

    fn page_walk(&mut self, dma: Dma, stage: Stage) -> Result<Translation, Fault> {
        let Stage {
            tag,
            levels,
            faults,
            ..
        } = stage;
        let iova = dma.iova;
        let bits = 12 + 9 * levels;
        match faults {
            Faults::Legacy if iova >> bits != 0 => return Err(Fault::BeyondWidth),
            Faults::Second if iova >> bits != 0 => return Err(Fault::SecondStageBeyondWidth),
            Faults::First if ((iova as i64) << (64 - bits) >> (64 - bits)) as u64 != iova => {
                return Err(Fault::NotCanonical)
            }
            _ => {}
        }
        if let Some(translation) = self.caches.iotlb(tag, iova >> 12) {
            if translation.allows(dma.access) {
                return Ok(translation);
            }
        }
        let top = Upper {
            table: stage.root,
            read: true,
            write: true,
        };
        // A cached upper level without the right that is needed is no reason to fault: the way from
        // the top finds the reason.
        let (mut level, mut at) = self
            .caches
            .upper(tag, iova, levels)
            .filter(|(_, upper)| upper.allows(dma.access))
            .unwrap_or((levels, top));
        loop {
            let word = self
                .memory
                .get(at.table, index(iova, level))
                .ok_or_else(|| faults.access(level == levels))?;
            let (read, write) = faults.rights(word, dma.access)?;
            if word & PAGE_BEYOND_HOST != 0 || level > 3 && word & 1 << 7 != 0 {
                return Err(faults.reserved());
            }
            at = Upper {
                table: word & ((1 << WIDTH_BITS) - 1) & POINTER,
                read: at.read && read,
                write: at.write && write,
            };
            if level == 1 || word & 1 << 7 != 0 {
                break;
            }
            level -= 1;
            self.caches.fill_upper(tag, level, iova, at);
        }
        // In a large first-stage page bit 12 belongs to the memory type.
        let page_mask = (1u64 << (3 + 9 * level)) - 1;
        let attribute = u64::from(faults == Faults::First && level > 1) << 12;
        if at.table & page_mask & !attribute != 0 {
            return Err(faults.reserved());
        }
        let translation = Translation {
            page: at.table & !page_mask | iova & page_mask & POINTER,
            read: at.read,
            write: at.write,
        };
        self.caches.fill_iotlb(tag, iova >> 12, translation);
        Ok(translation)
    }
}

impl Faults {
    /// A table cannot be read.
    fn access(self, top: bool) -> Fault {
        match (self, top) {
            (Self::Legacy, _) => Fault::PageTableAccess,
            (Self::Second, true) => Fault::SecondStagePointer,
            (Self::Second, false) => Fault::SecondStageAccess,
            (Self::First, true) => Fault::FirstStagePointer,
            (Self::First, false) => Fault::FirstStageAccess,
        }
    }

    fn reserved(self) -> Fault {
        match self {
            Self::Legacy => Fault::PageReserved,
            Self::Second => Fault::SecondStageReserved,
            Self::First => Fault::FirstStageReserved,
        }
    }

    /// The rights that `word` gives, or the fault if they do not suffice.
    fn rights(self, word: u64, access: Access) -> Result<(bool, bool), Fault> {
        if self == Self::First {
            if word & 1 == 0 {
                return Err(Fault::FirstStageNotPresent);
            }
            if word & 4 == 0 {
                return Err(Fault::Privilege);
            }
            if access == Access::Write && word & 2 == 0 {
                return Err(Fault::FirstStageWrite);
            }
            return Ok((true, word & 2 != 0));
        }
        let (read, write) = (word & 1 != 0, word & 2 != 0);
        match (access, self) {
            (Access::Read, Self::Legacy) if !read => Err(Fault::Read),
            (Access::Write, Self::Legacy) if !write => Err(Fault::Write),
            (Access::Read, _) if !read => Err(Fault::SecondStageRights),
            (Access::Write, _) if !write => Err(Fault::SecondStageRights),
            _ => Ok((read, write)),
        }
    }
}

fn untranslated(iova: u64) -> Translation {
    Translation {
        page: iova & POINTER,
        read: true,
        write: true,
    }
}
