// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Many functions that share an iommufd, taken through an update as one. They do nothing: what counts is how many
//! entries they need in the records.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use anyhow::{ensure, Context, Result};
use hitless_proto::layout::PAGE;
use hitless_proto::Crowd as Plan;
use hitless_uapi::iommufd::HwptId;
use hitless_uapi::{Iommufd, Memfd, VfioDevice};
use hitless_vmm::incoming::Swapped;
use hitless_vmm::{Collected, Incoming, Mapping, Rights};
use rustix::fs::{fcntl_get_seals, ftruncate, memfd_create, MemfdFlags, SealFlags};

/// Where the first mapping is. Between two of them is a page that nothing is mapped at.
const IOVA: u64 = 1 << 32;
const STRIDE: u64 = 2 * PAGE;

/// One function. The order of the fields is the order in which they are closed.
#[derive(Debug)]
struct Member {
    device: VfioDevice,
    /// What it is attached to.
    attached: HwptId,
}

/// Functions, their iommufd and their memory.
#[derive(Debug)]
pub(crate) struct Crowd {
    members: Vec<Member>,
    iommufd: Iommufd,
    memories: Vec<Memfd>,
    plan: Plan,
}

impl Crowd {
    /// The whole set-up before the first update.
    pub(crate) fn start(plan: &Plan) -> Result<Self> {
        let mut memories = Vec::new();
        for index in 0..plan.memories {
            let memory = Seals::of(index).create(&name(plan, index))?;
            file(&memory)?.write_all_at(&content(plan, index), 0)?;
            memories.push(memory);
        }
        let iommufd = Iommufd::open()?;
        let ioas = iommufd.ioas_alloc()?;
        for (mapping, memory) in mappings(plan).zip(memories.iter().cycle()) {
            iommufd.map_file(ioas, memory, mapping.offset, mapping.length, mapping.iova)?;
        }
        if let Some(last) = memories.last().filter(|_| plan.hole) {
            last.punch_hole(0, PAGE)?;
        }
        let mut members = Vec::new();
        for function in &plan.functions {
            let device = VfioDevice::open(function)?;
            let id = device.bind_iommufd(&iommufd)?;
            let attached = iommufd.hwpt_alloc(id, ioas)?;
            device.attach_pt(attached)?;
            members.push(Member { device, attached });
        }
        Ok(Self {
            members,
            iommufd,
            memories,
            plan: plan.clone(),
        })
    }

    /// The session that it is preserved in.
    pub(crate) fn session(&self) -> &str {
        &self.plan.session
    }

    /// Adds everything to what goes through an update.
    pub(crate) fn collect(&self, mut collected: Collected) -> Result<Collected> {
        let plan = &self.plan;
        for (memory, number) in self.memories.iter().zip(0..) {
            collected = collected.memory(&name(plan, number), memory)?;
        }
        collected = collected.iommufd(&plan.name, &self.iommufd)?;
        for (member, number) in self.members.iter().zip(0..) {
            let name = name(plan, number);
            collected = collected.hwpt(&name, &plan.name, member.attached)?;
            for mapping in mappings(plan) {
                collected = collected.mapping(&name, mapping)?;
            }
            collected = collected.device(&name, &member.device, &name)?;
        }
        Ok(collected)
    }

    /// Everything that has come through an update. The memory holds what it did.
    pub(crate) fn adopt(plan: &Plan, update: &Incoming<Swapped>) -> Result<Self> {
        let mut memories = Vec::new();
        for number in 0..plan.memories {
            let memory = Memfd::from(copy(update.memory(&name(plan, number))?)?);
            Seals::of(number)
                .check(&memory)
                .with_context(|| format!("memfd {number} of the crowd `{}`", plan.name))?;
            let mut found = [0; 8];
            file(&memory)?.read_exact_at(&mut found, 0)?;
            ensure!(
                found == content(plan, number),
                "memfd {number} of the crowd `{}` holds {found:x?}",
                plan.name
            );
            memories.push(memory);
        }
        let mut members = Vec::new();
        for (_, number) in plan.functions.iter().zip(0..) {
            let name = name(plan, number);
            let built = update.built(&name)?;
            members.push(Member {
                device: VfioDevice::from(copy(update.device(&name)?)?),
                attached: built.context("the function has no page table")?.hwpt,
            });
        }
        Ok(Self {
            members,
            iommufd: Iommufd::from(copy(update.iommufd(&plan.name)?)?),
            memories,
            plan: plan.clone(),
        })
    }
}

fn copy(file: impl AsFd) -> Result<std::os::fd::OwnedFd> {
    let copy = file.as_fd().try_clone_to_owned();
    copy.context("duplicating a descriptor")
}

/// The name of a memfd, or of a function and its page table.
fn name(plan: &Plan, number: u32) -> String {
    format!("{}-{number}", plan.name)
}

/// The seals that a memfd has, one kind after the other and round again. VMMs have memory of each.
#[derive(Clone, Copy)]
enum Seals {
    /// Its size is fixed for good.
    Size,
    /// It has none yet.
    None,
    /// It has none and can be given none, which is a seal, too.
    Never,
}

impl Seals {
    fn of(index: u32) -> Self {
        match index % 3 {
            0 => Self::Size,
            1 => Self::None,
            _ => Self::Never,
        }
    }

    /// A memfd of one page.
    fn create(self, name: &str) -> Result<Memfd> {
        Ok(match self {
            Self::Size => {
                let memory = Memfd::create(name, PAGE)?;
                memory.seal()?;
                memory
            }
            Self::None => Memfd::create(name, PAGE)?,
            Self::Never => {
                let memory = memfd_create(name, MemfdFlags::CLOEXEC)?;
                ftruncate(&memory, PAGE)?;
                memory.into()
            }
        })
    }

    /// They came back as they were, and memory whose size is fixed can be mapped.
    fn check(self, memory: &Memfd) -> Result<()> {
        let expected = match self {
            Self::Size => SealFlags::SEAL | SealFlags::GROW | SealFlags::SHRINK,
            Self::None => SealFlags::empty(),
            Self::Never => SealFlags::SEAL,
        };
        let seals = fcntl_get_seals(memory)?;
        ensure!(seals == expected, "it has the seals {seals:?}");
        if matches!(self, Self::Size) {
            memory.map()?;
        }
        Ok(())
    }
}

/// A file to read and write.
fn file(memory: &Memfd) -> Result<File> {
    Ok(copy(memory)?.into())
}

/// What a memfd begins with.
fn content(plan: &Plan, index: u32) -> [u8; 8] {
    (plan.token << 32 | u64::from(index)).to_le_bytes()
}

/// What every HWPT maps, in the order of addresses.
fn mappings(plan: &Plan) -> impl Iterator<Item = Mapping> + '_ {
    (0..plan.mappings).map(|index| Mapping {
        iova: IOVA + STRIDE * u64::from(index),
        length: PAGE,
        memory: name(plan, index % plan.memories),
        offset: 0,
        rights: Rights::ReadWrite,
    })
}
