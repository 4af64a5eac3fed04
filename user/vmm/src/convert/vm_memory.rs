// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guest memory of the crate `vm-memory`.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use vm_memory::{Address, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use crate::collect::Collected;
use crate::error::{at, Error, Kind, Object, Step};
use crate::incoming::{Incoming, Stage};
use crate::mapping::{Mapping, Rights};

/// One region of guest memory, as `GuestMemoryMmap::from_ranges_with_files` wants it.
type Range = (GuestAddress, usize, Option<FileOffset>);

impl Collected {
    /// Guest memory, with a mapping in a HWPT for each region: an IOVA is the guest's physical address. Each memfd is
    /// collected once, under the name `prefix-N`, where N counts from 0 in the order of addresses.
    ///
    /// ```
    /// use hitless_uapi::iommufd::HwptId;
    /// use hitless_uapi::Memfd;
    /// use hitless_vmm::Collected;
    /// use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let iommufd = std::fs::File::open("/dev/null")?;
    /// let memfd = Memfd::create("ram", 2 << 20)?;
    /// memfd.seal()?;
    /// let file = std::fs::File::from(std::os::fd::AsFd::as_fd(&memfd).try_clone_to_owned()?);
    /// let ram = GuestMemoryMmap::<()>::from_ranges_with_files([
    ///     (GuestAddress(0), 2 << 20, Some(FileOffset::new(file, 0))),
    /// ])?;
    /// let vm = Collected::new("vm-7")
    ///     .iommufd("iommu", &iommufd)?
    ///     .hwpt("dma", "iommu", HwptId(3))?
    ///     .guest_memory("ram", "dma", &ram)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotFromFile`] for a region that is not mapped from a file, and those of [`Collected::memory`] and
    /// [`Collected::mapping`].
    pub fn guest_memory(
        self,
        prefix: &str,
        hwpt: &str,
        memory: &impl GuestMemoryBackend,
    ) -> Result<Self, Error> {
        let mut collected = self;
        let mut files: Vec<Arc<File>> = Vec::new();
        for region in memory.iter() {
            let iova = region.start_addr().raw_value();
            let file = region
                .file_offset()
                .ok_or(Error::NotFromFile { address: iova })?;
            let known = files
                .iter()
                .position(|known| Arc::ptr_eq(known, file.arc()));
            let number = known.unwrap_or(files.len());
            let name = format!("{prefix}-{number}");
            if known.is_none() {
                collected = collected.memory(&name, file.file())?;
                files.push(Arc::clone(file.arc()));
            }
            let mapping = Mapping {
                iova,
                length: region.len(),
                memory: name,
                offset: file.start(),
                rights: Rights::ReadWrite,
            };
            collected = collected.mapping(hwpt, mapping)?;
        }
        Ok(collected)
    }
}

impl<S: Stage> Incoming<S> {
    /// Guest memory as the VMM said before the jump that a HWPT maps it, for `GuestMemoryMmap::from_ranges_with_files`.
    /// Regions of one memfd share one file.
    ///
    /// ```no_run
    /// # use hitless_vmm::{Incoming, incoming::Retrieved};
    /// # fn example(vm: Incoming<Retrieved>) -> Result<(), Box<dyn std::error::Error>> {
    /// use vm_memory::GuestMemoryMmap;
    /// let ram = GuestMemoryMmap::<()>::from_ranges_with_files(vm.guest_memory("dma")?)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] when there is no such HWPT or its memory was not retrieved yet, and those of duplicating a
    /// descriptor.
    pub fn guest_memory(&self, hwpt: &str) -> Result<Vec<Range>, Error> {
        let mut files: Vec<(&str, Arc<File>)> = Vec::new();
        let mut ranges = Vec::new();
        for mapping in self.mappings(hwpt)? {
            let known = files.iter().find(|(name, _)| *name == mapping.memory);
            let file = match known {
                Some((_, file)) => Arc::clone(file),
                None => {
                    let file = Arc::new(File::from(self.copy(&mapping.memory)?));
                    files.push((&mapping.memory, Arc::clone(&file)));
                    file
                }
            };
            let length = mapping.length;
            let too_long = |_| Error::BadMapping {
                hwpt: hwpt.to_owned(),
                mapping: Box::new(mapping.clone()),
            };
            ranges.push((
                GuestAddress(mapping.iova),
                usize::try_from(length).map_err(too_long)?,
                Some(FileOffset::from_arc(file, mapping.offset)),
            ));
        }
        Ok(ranges)
    }

    fn copy(&self, memory: &str) -> Result<OwnedFd, Error> {
        let copy = self.memory(memory)?.as_fd().try_clone_to_owned();
        let object = || Object::Named(Kind::Memory, memory.to_owned());
        copy.map_err(|error| hitless_uapi::Error::from_io("F_DUPFD_CLOEXEC", "", &error))
            .map_err(at(Step::Retrieve, object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hitless_uapi::iommufd::HwptId;
    use hitless_uapi::Memfd;
    use vm_memory::GuestMemoryMmap;

    const MIB: usize = 1 << 20;

    fn file() -> Arc<File> {
        let memfd = Memfd::create("ram", 4 << 20).expect("a memfd");
        memfd.seal().expect("seals");
        let file = memfd.as_fd().try_clone_to_owned().expect("a duplicate");
        Arc::new(File::from(file))
    }

    fn collected() -> Collected {
        let file = tempfile::tempfile().expect("a file");
        let collected = Collected::new("vm").iommufd("iommu", &file).expect("new");
        collected.hwpt("dma", "iommu", HwptId(3)).expect("new")
    }

    #[test]
    fn regions_of_one_file_are_one_memory() {
        let [one, two] = [file(), file()];
        let of = |file: &Arc<File>, start| Some(FileOffset::from_arc(Arc::clone(file), start));
        let memory = GuestMemoryMmap::<()>::from_ranges_with_files([
            (GuestAddress(0), MIB, of(&one, 0)),
            (GuestAddress(1 << 32), MIB, of(&one, 1 << 20)),
            (GuestAddress(2 << 32), MIB, of(&two, 0)),
        ])
        .expect("memory");
        let collected = collected()
            .guest_memory("ram", "dma", &memory)
            .expect("added");
        let plan = collected.plan();
        assert_eq!(plan.memories, ["ram-0", "ram-1"]);
        let mappings = plan.hwpts[0].mappings.iter();
        let seen: Vec<_> = mappings
            .map(|it| (it.iova, &*it.memory, it.offset))
            .collect();
        let wanted = [
            (0, "ram-0", 0),
            (1 << 32, "ram-0", 1 << 20),
            (2 << 32, "ram-1", 0),
        ];
        assert_eq!(seen, wanted);
    }

    #[test]
    fn memory_that_is_no_file_is_refused() {
        let anonymous =
            GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), MIB)]).expect("memory");
        let refused = collected().guest_memory("ram", "dma", &anonymous);
        assert!(matches!(refused, Err(Error::NotFromFile { address: 0 })));
    }
}
