// SPDX-License-Identifier: Apache-2.0 OR MIT
//! New HWPTs with the mappings of the restored ones.

use std::collections::HashSet;

use hitless_uapi::iommufd::{FileMapping, IoasId};
use hitless_uapi::Iommufd;

use crate::error::{at, Error, Kind, Step, Stuck};
use crate::incoming::{Bound, Incoming, Rebuilt};
use crate::mapping::{joined, Mapping, Rights};
use crate::parts::Parts;

/// Who says what a HWPT maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Kernel,
    Vmm,
}

impl Incoming<Bound> {
    /// Builds a HWPT for each restored one, with the mappings that the kernel lists for it. Where the VMM has said before
    /// the jump what it maps, the two are compared. HWPTs of one iommufd with the same mappings share an address space. A HWPT
    /// without a device in the session is left out.
    /// The devices do not notice.
    ///
    /// # Errors
    ///
    /// [`Error::OtherMappings`]; [`Error::NoMappings`]; [`Error::Refused`].
    pub fn rebuild(self) -> Result<Incoming<Rebuilt>, Stuck<Self>> {
        self.rebuild_from(Source::Kernel)
    }

    /// The same with the mappings that the VMM said before the jump, whatever the kernel lists. A device that uses an
    /// address that is missing there meets a fault after the swap.
    ///
    /// # Errors
    ///
    /// [`Error::NoMappings`]; [`Error::Refused`].
    pub fn rebuild_own(self) -> Result<Incoming<Rebuilt>, Stuck<Self>> {
        self.rebuild_from(Source::Vmm)
    }

    fn rebuild_from(mut self, source: Source) -> Result<Incoming<Rebuilt>, Stuck<Self>> {
        match self.parts.rebuild_all(source) {
            Ok(()) => Ok(self.next()),
            Err(error) => Err(Stuck::new(error, self)),
        }
    }
}

impl Parts {
    fn rebuild_all(&mut self, source: Source) -> Result<(), Error> {
        self.take_over_built();
        self.sweep()?;
        // Address spaces made so far: whose they are, and what they map.
        let mut made: Vec<(usize, Vec<Mapping>, IoasId)> = Vec::new();
        for index in 0..self.tables.len() {
            let number = self.manifest.plan.hwpts[index].iommufd;
            let device = self
                .device_of(index)
                .and_then(|device| self.devices[device].id);
            let (Some(device), None) = (device, self.tables[index].built) else {
                continue;
            };
            let Some(iommufd) = &self.iommufds[number] else {
                continue;
            };
            let mappings = self.mappings_of(index, iommufd, source)?;
            let same =
                |(of, maps, _): &&(usize, Vec<Mapping>, IoasId)| (*of, maps) == (number, &mappings);
            let shared = made.iter().find(same).map(|(.., ioas)| *ioas);
            let ioas = match shared {
                Some(ioas) => ioas,
                None => {
                    let ioas = self.new_ioas(index, iommufd, &mappings)?;
                    made.push((number, mappings, ioas));
                    ioas
                }
            };
            self.notes.set_ioas(index, ioas);
            let object = || self.object(Kind::Hwpt, index);
            let built = iommufd.hwpt_alloc(device, ioas);
            let built = built.map_err(at(Step::Rebuild, object))?;
            self.notes.set_built(index, built);
            let table = &mut self.tables[index];
            (table.ioas, table.built) = (Some(ioas), Some(built));
        }
        Ok(())
    }

    /// What another process has built to its end is taken as it is: it may be in use.
    fn take_over_built(&mut self) {
        for (index, table) in self.tables.iter_mut().enumerate() {
            if let (Some(built), Some(ioas)) = (self.notes.built(index), self.notes.ioas(index)) {
                (table.built, table.ioas) = (Some(built), Some(ioas));
            }
        }
    }

    /// What a process has not built to its end is destroyed.
    fn sweep(&self) -> Result<(), Error> {
        let in_use: HashSet<_> = self.tables.iter().filter_map(|table| table.ioas).collect();
        let mut swept = HashSet::new();
        for (index, hwpt) in self.manifest.plan.hwpts.iter().enumerate() {
            let left = self.notes.ioas(index).filter(|ioas| !in_use.contains(ioas));
            let (Some(ioas), Some(iommufd)) = (left, &self.iommufds[hwpt.iommufd]) else {
                continue;
            };
            if swept.insert((hwpt.iommufd, ioas)) {
                // One that is gone already is none the worse for that.
                let _ = iommufd.destroy(ioas);
            }
            self.notes.set_ioas(index, IoasId(0));
        }
        Ok(())
    }

    fn mappings_of(
        &self,
        index: usize,
        iommufd: &Iommufd,
        source: Source,
    ) -> Result<Vec<Mapping>, Error> {
        let hwpt = &self.manifest.plan.hwpts[index];
        let restored = self.tables[index].restored;
        let listed = match (source, restored) {
            (Source::Kernel, Some(restored)) => Some(self.listed(index, iommufd, restored)?),
            _ => None,
        };
        choose(&hwpt.name, &hwpt.mappings, listed)
    }

    /// What the kernel lists, with the names of the memfds.
    fn listed(
        &self,
        index: usize,
        iommufd: &Iommufd,
        restored: hitless_uapi::iommufd::HwptId,
    ) -> Result<Vec<Mapping>, Error> {
        let object = || self.object(Kind::Hwpt, index);
        let listed = iommufd.hwpt_liveupdate_mappings(restored);
        let listed = listed.map_err(at(Step::Rebuild, object))?;
        let named = listed.iter().map(|mapping| {
            let mut tokens = self.manifest.tokens.memories.iter();
            let memory = tokens.position(|token| *token == mapping.memory_token)?;
            Some(Mapping {
                iova: mapping.iova,
                length: mapping.length,
                memory: self.manifest.plan.memories[memory].clone(),
                offset: mapping.offset,
                rights: Rights::of(mapping.readable, mapping.writeable)?,
            })
        });
        let named: Option<Vec<_>> = named.collect();
        named.ok_or_else(|| Error::OtherMappings {
            hwpt: self.manifest.plan.hwpts[index].name.clone(),
        })
    }

    /// An address space with these mappings, or none.
    fn new_ioas(
        &self,
        index: usize,
        iommufd: &Iommufd,
        mappings: &[Mapping],
    ) -> Result<IoasId, Error> {
        let object = || self.object(Kind::Hwpt, index);
        let ioas = iommufd.ioas_alloc();
        let ioas = ioas.map_err(at(Step::Rebuild, object))?;
        self.notes.set_ioas(index, ioas);
        let result = self.map_all(iommufd, ioas, mappings);
        result.inspect_err(|_| {
            // The first error is the one to tell.
            let _ = iommufd.destroy(ioas);
            self.notes.set_ioas(index, IoasId(0));
        })?;
        Ok(ioas)
    }

    fn map_all(&self, iommufd: &Iommufd, ioas: IoasId, mappings: &[Mapping]) -> Result<(), Error> {
        for mapping in mappings {
            let memory = self.manifest.plan.find(Kind::Memory, &mapping.memory)?;
            let Some(memfd) = &self.memories[memory] else {
                continue;
            };
            let piece = FileMapping {
                iova: mapping.iova,
                length: mapping.length,
                offset: mapping.offset,
                memory_token: 0,
                readable: mapping.rights.readable(),
                writeable: mapping.rights.writeable(),
            };
            let object = || self.object(Kind::Memory, memory);
            let mapped = iommufd.map_file_as(ioas, memfd, &piece);
            mapped.map_err(at(Step::Rebuild, object))?;
        }
        Ok(())
    }
}

/// What is mapped, of the VMM's own mappings of a HWPT and those that the kernel lists.
fn choose(
    hwpt: &str,
    own: &[Mapping],
    listed: Option<Vec<Mapping>>,
) -> Result<Vec<Mapping>, Error> {
    let hwpt = hwpt.to_owned();
    match listed {
        Some(listed) if own.is_empty() || joined(own) == joined(&listed) => Ok(listed),
        Some(_) => Err(Error::OtherMappings { hwpt }),
        None if own.is_empty() => Err(Error::NoMappings { hwpt }),
        None => Ok(own.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::PAGE;

    fn pages(first: u64, count: u64) -> Mapping {
        Mapping {
            iova: first * PAGE,
            length: count * PAGE,
            memory: "ram".into(),
            offset: first * PAGE,
            rights: Rights::ReadWrite,
        }
    }

    #[test]
    fn the_kernels_list_is_taken_where_the_vmm_says_the_same_or_nothing() {
        let listed = || Some(vec![pages(0, 1), pages(1, 1), pages(8, 1)]);
        let cut_otherwise = [pages(8, 1), pages(0, 2)];
        for own in [&[][..], &cut_otherwise] {
            let chosen = choose("dma", own, listed()).expect("chosen");
            assert_eq!(Some(chosen), listed());
        }
        let read_only = Mapping {
            rights: Rights::Read,
            ..pages(8, 1)
        };
        for own in [
            &[pages(0, 2)][..],
            &[pages(0, 2), pages(8, 2)],
            &[pages(0, 2), read_only],
        ] {
            let refused = choose("dma", own, listed());
            assert!(matches!(refused, Err(Error::OtherMappings { .. })));
        }
    }

    #[test]
    fn without_a_list_the_vmm_has_to_know() {
        let own = [pages(3, 1)];
        assert_eq!(choose("dma", &own, None).expect("its own"), own);
        let refused = choose("dma", &[], None);
        assert!(matches!(refused, Err(Error::NoMappings { .. })));
    }
}
