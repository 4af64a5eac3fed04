// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Many functions that share an iommufd, taken through an update as one. They do nothing: what counts is how many
//! entries they need in the records.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use anyhow::{ensure, Context, Result};
use hitless_proto::layout::PAGE;
use hitless_proto::Crowd as Plan;
use hitless_uapi::iommufd::{DeviceId, FileMapping, HwptId, IoasId};
use hitless_uapi::{Iommufd, Memfd, Session, VfioDevice};
use rustix::fs::{fcntl_get_seals, ftruncate, memfd_create, MemfdFlags, SealFlags};

/// Where the first mapping is. Between two of them is a page that nothing is mapped at.
const IOVA: u64 = 1 << 32;
const STRIDE: u64 = 2 * PAGE;

/// One function. The order of the fields is the order in which they are closed.
#[derive(Debug)]
struct Member {
    device: VfioDevice,
    id: DeviceId,
    /// What it is attached to.
    attached: HwptId,
}

/// Functions, their iommufd and their memory.
#[derive(Debug)]
pub(crate) struct Crowd {
    members: Vec<Member>,
    /// What they will be attached to by the swap, in the same order.
    pending: Vec<HwptId>,
    iommufd: Iommufd,
    memories: Vec<Memfd>,
}

impl Crowd {
    /// The whole set-up before the first update.
    pub(crate) fn start(plan: &Plan) -> Result<Self> {
        let mut memories = Vec::new();
        for index in 0..plan.memories {
            let memory = Seals::of(index).create(&format!("{}-{index}", plan.name))?;
            file(&memory)?.write_all_at(&content(plan, index), 0)?;
            memories.push(memory);
        }
        let iommufd = Iommufd::open()?;
        let ioas = map(plan, &iommufd, &memories)?;
        if let Some(last) = memories.last().filter(|_| plan.hole) {
            last.punch_hole(0, PAGE)?;
        }
        let mut members = Vec::new();
        for (function, token) in plan.functions.iter().zip(0..) {
            let device = VfioDevice::open(function)?;
            let id = device.bind_iommufd(&iommufd)?;
            let attached = iommufd.hwpt_alloc(id, ioas)?;
            device.attach_pt(attached)?;
            iommufd.hwpt_liveupdate_mark_preserve(attached, token)?;
            members.push(Member {
                device,
                id,
                attached,
            });
        }
        Ok(Self {
            members,
            pending: Vec::new(),
            iommufd,
            memories,
        })
    }

    /// Everything into the session, in the order that LUO wants.
    pub(crate) fn preserve(&self, plan: &Plan, session: &Session) -> Result<()> {
        let memories = self.memories.iter().map(AsFd::as_fd);
        let devices = self.members.iter().map(|member| member.device.as_fd());
        let files = memories.chain([self.iommufd.as_fd()]).chain(devices);
        for (file, token) in files.zip(plan.token..) {
            session
                .preserve_fd(file, token)
                .with_context(|| format!("preserving the file with token {token}"))?;
        }
        Ok(())
    }

    /// Everything out of the session; all devices are bound before the first HWPT is restored.
    pub(crate) fn retrieve(plan: &Plan, session: &Session) -> Result<Self> {
        let mut memories = Vec::new();
        let mut tokens = plan.token..;
        let mut next = || -> Result<OwnedFd> {
            let token = tokens.next().context("a token")?;
            session
                .retrieve_fd(token)
                .with_context(|| format!("retrieving the file with token {token}"))
        };
        for index in 0..plan.memories {
            let memory = Memfd::from(next()?);
            Seals::of(index)
                .check(&memory)
                .with_context(|| format!("memfd {index} of the crowd `{}`", plan.name))?;
            let mut found = [0; 8];
            file(&memory)?.read_exact_at(&mut found, 0)?;
            ensure!(
                found == content(plan, index),
                "memfd {index} of the crowd `{}` holds {found:x?}",
                plan.name
            );
            memories.push(memory);
        }
        let iommufd = Iommufd::from(next()?);
        let mut bound = Vec::new();
        for _ in &plan.functions {
            let device = VfioDevice::from(next()?);
            let id = device.bind_iommufd(&iommufd)?;
            bound.push((device, id));
        }
        let mut members = Vec::new();
        for ((device, id), token) in bound.into_iter().zip(0..) {
            let attached = iommufd.hwpt_liveupdate_restore(token)?;
            let maps = iommufd.hwpt_liveupdate_mappings(attached)?;
            ensure!(
                maps == mappings(plan).collect::<Vec<_>>(),
                "HWPT {token} of the crowd `{}` is said to map {maps:x?}",
                plan.name
            );
            members.push(Member {
                device,
                id,
                attached,
            });
        }
        Ok(Self {
            members,
            pending: Vec::new(),
            iommufd,
            memories,
        })
    }

    /// Everything out of the session of somebody who has bound the devices and died; nobody goes on.
    pub(crate) fn give_up(plan: &Plan, session: &Session) -> Result<()> {
        let others = u64::from(plan.memories) + 1;
        for (function, token) in plan.functions.iter().zip(plan.token + others..) {
            let device = session.retrieve_fd(token);
            let device = device.with_context(|| format!("retrieving the file of {function}"))?;
            VfioDevice::from(device).detach()?;
        }
        Ok(())
    }

    /// The same mappings in an IOAS of this kernel, and a HWPT of it for each device.
    pub(crate) fn rebuild(&mut self, plan: &Plan) -> Result<()> {
        let ioas = map(plan, &self.iommufd, &self.memories)?;
        for member in &self.members {
            self.pending.push(self.iommufd.hwpt_alloc(member.id, ioas)?);
        }
        Ok(())
    }

    /// Each device from its restored HWPT to the one that was made for it.
    pub(crate) fn swap(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        ensure!(
            pending.len() == self.members.len(),
            "there are no page tables to swap to: rebuild first"
        );
        for ((member, pending), token) in self.members.iter_mut().zip(pending).zip(0..) {
            member.device.attach_pt(pending)?;
            let restored = std::mem::replace(&mut member.attached, pending);
            self.iommufd.destroy(restored)?;
            self.iommufd.hwpt_liveupdate_mark_preserve(pending, token)?;
        }
        Ok(())
    }
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
    Ok(memory.as_fd().try_clone_to_owned()?.into())
}

/// What a memfd begins with.
fn content(plan: &Plan, index: u32) -> [u8; 8] {
    (plan.token << 32 | u64::from(index)).to_le_bytes()
}

/// What every HWPT maps, in the order of addresses.
fn mappings(plan: &Plan) -> impl Iterator<Item = FileMapping> + '_ {
    (0..plan.mappings).map(|index| FileMapping {
        iova: IOVA + STRIDE * u64::from(index),
        length: PAGE,
        offset: 0,
        memory_token: plan.token + u64::from(index % plan.memories),
        readable: true,
        writeable: true,
    })
}

fn map(plan: &Plan, iommufd: &Iommufd, memories: &[Memfd]) -> Result<IoasId> {
    let ioas = iommufd.ioas_alloc()?;
    for (mapping, memory) in mappings(plan).zip(memories.iter().cycle()) {
        iommufd.map_file(ioas, memory, mapping.offset, mapping.length, mapping.iova)?;
    }
    Ok(ioas)
}
