// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Many functions that share an iommufd, taken through an update as one. They do nothing: what counts is how many
//! entries they need in the records.

use std::os::fd::AsFd;

use anyhow::{ensure, Context, Result};
use hitless_proto::layout::PAGE;
use hitless_proto::Crowd as Plan;
use hitless_uapi::iommufd::HwptId;
use hitless_uapi::{Iommufd, Memfd, VfioDevice};
use hitless_vmm::incoming::Swapped;
use hitless_vmm::{Collected, Incoming, Mapping, Rights};

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
            let memory = Memfd::create(&format!("{}-{index}", plan.name), PAGE)?;
            if plan.sealed || index + 1 < plan.memories {
                memory.seal()?;
                memory.map()?.write_u64(0, content(plan, index));
            }
            memories.push(memory);
        }
        let iommufd = Iommufd::open()?;
        let ioas = iommufd.ioas_alloc()?;
        for (mapping, memory) in mappings(plan).zip(memories.iter().cycle()) {
            iommufd.map_file(ioas, memory, mapping.offset, mapping.length, mapping.iova)?;
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
            let found = memory.map()?.read_u64(0);
            ensure!(
                found == content(plan, number),
                "memfd {number} of the crowd `{}` holds {found:#x}",
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

/// What a memfd begins with.
fn content(plan: &Plan, index: u32) -> u64 {
    plan.token << 32 | u64::from(index)
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
