// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A card as a VMM holds it: memory, iommufd, device file and page tables.

mod whole;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure, Context, Result};
use hitless_proto::layout::{self, PAGE};
use hitless_proto::{Answer, Bdf, Call, Piece, What};
use hitless_uapi::iommufd::{DeviceId, FileMapping, HwptId, IoasId, RawCall};
use hitless_uapi::vfio::Irq;
use hitless_uapi::{Iommufd, Mapping, Memfd, VfioDevice};
use rustix::event::{eventfd, EventfdFlags};
use std::os::fd::AsFd;

use crate::harvester::{with, Harvester, SharedRing};
use crate::igb::Igb;
use crate::pages;
use crate::ring::Ring;

/// PCI's command register, and its bits for memory and bus master (PCI Local Bus Specification 3.0, 6.2.2).
const COMMAND: u64 = 0x04;
const COMMAND_MEMORY_AND_MASTER: u16 = 0x6;
/// Objects of an iommufd have lower ids, as long as there are few.
const IDS: u32 = 64;

/// A page table and, where it was not restored, the address space it was made from.
#[derive(Clone, Copy, Debug)]
struct Table {
    hwpt: HwptId,
    ioas: Option<IoasId>,
    /// The token that it was marked with by an order.
    token: Option<u64>,
}

impl Table {
    /// One that an order has not marked.
    fn new(hwpt: HwptId, ioas: Option<IoasId>) -> Self {
        let token = None;
        Self { hwpt, ioas, token }
    }
}

/// The VM's memory.
#[derive(Debug)]
struct Memory {
    file: Memfd,
    mapping: Arc<Mapping>,
    ring: SharedRing,
}

/// What there is of a card; before `Start` and after a jump, parts may be missing.
///
/// The order of the fields is the order in which they are closed.
#[derive(Debug, Default)]
pub(crate) struct Card {
    harvester: Option<Harvester>,
    /// Its registers, as soon as it is served.
    igb: Option<Igb>,
    /// Its id in the iommufd that it is bound to.
    bound: Option<DeviceId>,
    device: Option<VfioDevice>,
    /// What the device is attached to.
    attached: Option<Table>,
    /// What it will be attached to by the next swap.
    pending: Option<Table>,
    /// What the last swap has replaced.
    replaced: Option<Table>,
    /// What is mapped where it is attached.
    mapped: Vec<Piece>,
    /// The eventfd of each interrupt that was set up to be kept.
    signals: Vec<Option<OwnedFd>>,
    iommufd: Option<Iommufd>,
    memory: Option<Memory>,
}

impl Card {
    /// The old kernel's whole set-up.
    pub(crate) fn start(number: u8, bdf: Bdf, ring: u32, iova: u64) -> Result<(Self, Answer)> {
        ensure!(
            layout::ring_is_valid(ring),
            "a ring has {} to {} descriptors, a multiple of 8, not {ring}",
            layout::MIN_RING,
            layout::MAX_RING
        );
        let file = Memfd::create(&format!("card-{number}"), layout::memory_size(ring))?;
        // The kernel asks whether the size was fixed when the mapping was made, so the seals come first.
        file.seal()?;
        let mapping = Arc::new(file.map()?);

        let device = VfioDevice::open(&bdf.to_string())
            .context("opening the card (is it bound to vfio-pci?)")?;
        let iommufd = Iommufd::open()?;
        let id = device.bind_iommufd(&iommufd)?;
        let ioas = iommufd.ioas_alloc()?;
        iommufd.map_file(ioas, &file, 0, mapping.length(), iova)?;
        let hwpt = iommufd.hwpt_alloc(id, ioas)?;
        device.attach_pt(hwpt)?;

        // Pinned by the mapping, the pages stay where they are.
        let mut physical = pages::physical(&mapping)?;
        for (page, address) in (0_u64..).zip(&physical) {
            mapping.write_u64(layout::INDEX + 8 * page, *address);
        }
        physical.truncate(usize::try_from(layout::index_pages(ring))?);

        let command = device.config_read_u16(COMMAND)?;
        device.config_write_u16(COMMAND, command | COMMAND_MEMORY_AND_MASTER)?;
        let igb = Igb::new(device.map_bar(0)?);
        let memory = Ring::create(Arc::clone(&mapping), number, bdf, ring, iova);
        igb.start(memory.iova(), ring)?;
        let answer = Answer::Started {
            mac: igb.mac(),
            index_pages: physical,
        };
        let mut card = Self {
            igb: Some(igb),
            bound: Some(id),
            mapped: vec![whole(iova, mapping.length())],
            device: Some(device),
            attached: Some(Table::new(hwpt, Some(ioas))),
            iommufd: Some(iommufd),
            memory: Some(Memory {
                file,
                mapping,
                ring: Arc::new(Mutex::new(memory)),
            }),
            ..Self::default()
        };
        card.harvest()?;
        Ok((card, answer))
    }

    /// Marks the page table that the card is attached to.
    pub(crate) fn mark(&mut self, token: u64) -> Result<()> {
        let hwpt = self.attached()?.hwpt;
        self.iommufd()?.hwpt_liveupdate_mark_preserve(hwpt, token)?;
        self.marked(token);
        Ok(())
    }

    fn marked(&mut self, token: u64) {
        if let Some(attached) = &mut self.attached {
            attached.token = Some(token);
        }
    }

    /// Maps more of the memory where the card is attached.
    pub(crate) fn map_pieces(&mut self, pieces: &[Piece]) -> Result<()> {
        let ioas = self.attached()?.ioas;
        let ioas = ioas.context("a restored page table has no address space to map in")?;
        let file = &self.memory()?.file;
        for piece in pieces {
            self.iommufd()?
                .map_file_as(ioas, file, &mapping_of(piece))
                .with_context(|| format!("mapping {piece:x?}"))?;
        }
        self.mapped.extend(pieces);
        Ok(())
    }

    /// The id of what the card is attached to.
    pub(crate) fn hwpt(&self) -> Result<Answer> {
        let id = self.attached()?.hwpt.0;
        Ok(Answer::Hwpt { id })
    }

    /// Makes a call field by field.
    pub(crate) fn raw(&mut self, call: Call, fields: &[u32]) -> Result<Answer> {
        let raw = match call {
            Call::Destroy => RawCall::Destroy,
            Call::Option => RawCall::Option,
            Call::Mark => RawCall::Mark,
            Call::Restore => RawCall::Restore,
            Call::Mappings => RawCall::Mappings,
        };
        let words = self.iommufd()?.raw(raw, fields)?;
        if let (Call::Restore, Some(id)) = (call, words.first()) {
            let hwpt = HwptId(*id);
            self.attached = Some(Table::new(hwpt, None));
        }
        if let (Call::Mark, [_, low, high, ..]) = (call, fields) {
            self.marked(u64::from(*high) << 32 | u64::from(*low));
        }
        Ok(Answer::Words { words })
    }

    /// One of the card's files, to be preserved.
    pub(crate) fn file(&self, what: What) -> Result<BorrowedFd<'_>> {
        Ok(match what {
            What::Memory => self.memory()?.file.as_fd(),
            What::Iommufd => self.iommufd()?.as_fd(),
            What::Device => self.device()?.as_fd(),
        })
    }

    /// Takes a retrieved file. With the memory comes the harvest state.
    pub(crate) fn take(&mut self, number: u8, what: What, file: OwnedFd) -> Result<()> {
        match what {
            What::Memory => {
                let file = Memfd::from(file);
                let mapping = Arc::new(file.map().context("mapping the retrieved memory")?);
                let ring = Ring::find(Arc::clone(&mapping))?;
                let found = ring.state().card;
                ensure!(
                    found == number,
                    "the memory is that of card {found}, not of card {number}"
                );
                self.mapped = vec![whole(ring.state().iova, mapping.length())];
                self.memory = Some(Memory {
                    file,
                    mapping,
                    ring: Arc::new(Mutex::new(ring)),
                });
            }
            What::Iommufd => self.iommufd = Some(Iommufd::from(file)),
            What::Device => self.device = Some(VfioDevice::from(file)),
        }
        Ok(())
    }

    /// Restores the page table; from the bind on the device counts as attached to it.
    pub(crate) fn restore_hwpt(&mut self, token: u64) -> Result<()> {
        let hwpt = self.iommufd()?.hwpt_liveupdate_restore(token)?;
        self.attached = Some(Table::new(hwpt, None));
        Ok(())
    }

    /// Binds the retrieved device to the retrieved iommufd.
    pub(crate) fn bind(&mut self) -> Result<()> {
        self.bound = Some(self.device()?.bind_iommufd(self.iommufd()?)?);
        Ok(())
    }

    /// Finds the device and the restored page table in the iommufd, where another process was told their ids and nobody
    /// else is: only one of each is there, and its id is small.
    pub(crate) fn adopt(&mut self) -> Result<()> {
        let iommufd = self.iommufd()?;
        let ioas = iommufd.ioas_alloc()?;
        let made = (1..IDS).map(DeviceId).find_map(|device| {
            let hwpt = iommufd.hwpt_alloc(device, ioas).ok()?;
            Some((device, hwpt))
        });
        if let Some((_, hwpt)) = made {
            iommufd.destroy(hwpt)?;
        }
        iommufd.destroy(ioas)?;
        let mut hwpts = (1..IDS).map(HwptId);
        let restored = hwpts.find(|hwpt| iommufd.hwpt_liveupdate_mappings(*hwpt).is_ok());
        self.bound = made.map(|(device, _)| device);
        self.attached = restored.map(|hwpt| Table::new(hwpt, None));
        Ok(())
    }

    /// Takes the device off its page table: it reaches no memory any more.
    pub(crate) fn detach(&self) -> Result<()> {
        Ok(self.device()?.detach()?)
    }

    /// Tries to bind it to an iommufd that has nothing to do with it.
    pub(crate) fn bind_elsewhere(&self) -> Result<()> {
        // A stranger that can not even be opened shows nothing of the bind: no errno of it may look like the refusal.
        let stranger = Iommufd::open()
            .map_err(|error| anyhow!("another iommufd can not be opened: {error:#}"))?;
        self.device()?.bind_iommufd(&stranger)?;
        Ok(())
    }

    /// Tries to bind it to the iommufd of another card.
    pub(crate) fn bind_to(&self, other: &Self) -> Result<()> {
        self.device()?.bind_iommufd(other.iommufd()?)?;
        Ok(())
    }

    /// Takes the running card up again: nothing is written to it but its tail register, later.
    pub(crate) fn resume(&mut self) -> Result<()> {
        let igb = Igb::new(self.device()?.map_bar(0)?);
        with(&self.memory()?.ring, |ring| ring.resume(&igb))?;
        self.igb = Some(igb);
        self.harvest()
    }

    /// Lets the harvester run, where there is a card to be harvested.
    pub(crate) fn harvest(&mut self) -> Result<()> {
        if let (None, Some(igb), Some(memory)) = (&self.harvester, &self.igb, &self.memory) {
            let ring = Arc::clone(&memory.ring);
            self.harvester = Some(Harvester::start(ring, igb.clone())?);
        }
        Ok(())
    }

    /// Stops the harvester, so that nothing is half-written at the jump. Tells the card where there was one.
    pub(crate) fn pause(&mut self) -> Option<&mut Self> {
        self.harvester.take().is_some().then_some(self)
    }

    /// Makes a page table with the same mappings as the first.
    pub(crate) fn rebuild(&mut self) -> Result<()> {
        let memory = self.memory()?;
        let iova = with(&memory.ring, |ring| ring.state().iova);
        let whole = whole(iova, memory.mapping.length());
        self.build(&[mapping_of(&whole)])
    }

    /// Makes a page table with the mappings that the kernel lists for the restored one, but for one.
    pub(crate) fn rebuild_from_list(&mut self, without: Option<u64>) -> Result<()> {
        let mut mappings = self.list()?;
        mappings.retain(|mapping| Some(mapping.iova) != without);
        self.build(&mappings)
    }

    /// What the kernel lists for the restored page table.
    pub(crate) fn mappings(&self) -> Result<Answer> {
        let pieces = self.list()?.iter().map(piece_of).collect();
        Ok(Answer::Mappings { pieces })
    }

    fn list(&self) -> Result<Vec<FileMapping>> {
        let restored = self.attached()?.hwpt;
        Ok(self.iommufd()?.hwpt_liveupdate_mappings(restored)?)
    }

    fn build(&mut self, mappings: &[FileMapping]) -> Result<()> {
        let (memory, iommufd) = (self.memory()?, self.iommufd()?);
        let device = self.bound;
        let device = device.context("the card is not bound to its iommufd")?;
        let ioas = iommufd.ioas_alloc()?;
        for mapping in mappings {
            iommufd.map_file_as(ioas, &memory.file, mapping)?;
        }
        let hwpt = iommufd.hwpt_alloc(device, ioas)?;
        self.pending = Some(Table::new(hwpt, Some(ioas)));
        Ok(())
    }

    /// Attaches the card to the page table of the last rebuild.
    pub(crate) fn swap(&mut self) -> Result<()> {
        ensure!(
            self.replaced.is_none(),
            "the page table before the last swap is still there: destroy it first"
        );
        let pending = self.pending;
        let pending = pending.context("there is no page table to swap to: rebuild first")?;
        self.device()?.attach_pt(pending.hwpt)?;
        self.pending = None;
        self.replaced = self.attached.replace(pending);
        Ok(())
    }

    /// Attaches back and forth between two page tables.
    pub(crate) fn swaps(&mut self, count: u32, pause: Duration) -> Result<Answer> {
        if self.pending.is_none() {
            self.rebuild()?;
        }
        let mut longest = Duration::ZERO;
        for round in 0..count {
            let next = self.pending.context("a page table to swap to")?;
            let began = Instant::now();
            self.device()?
                .attach_pt(next.hwpt)
                .with_context(|| format!("swap {round} of {count}"))?;
            longest = longest.max(began.elapsed());
            self.pending = self.attached.replace(next);
            std::thread::sleep(pause);
        }
        let max_ns = u64::try_from(longest.as_nanos())?;
        Ok(Answer::Swaps { count, max_ns })
    }

    /// Destroys what the last swap has replaced.
    pub(crate) fn destroy_old(&mut self) -> Result<()> {
        let old = self.replaced()?;
        let iommufd = self.iommufd()?;
        iommufd
            .destroy(old.hwpt)
            .context("destroying the replaced page table")?;
        if let Some(ioas) = old.ioas {
            iommufd
                .destroy(ioas)
                .context("destroying the replaced page table's address space")?;
        }
        self.replaced = None;
        Ok(())
    }

    /// Attaches the card back to what the last swap has replaced. What the card is attached to in these books stays:
    /// the order is for a page table that can only be left.
    pub(crate) fn swap_back(&self) -> Result<()> {
        Ok(self.device()?.attach_pt(self.replaced()?.hwpt)?)
    }

    /// VFIO_DEVICE_RESET.
    pub(crate) fn reset(&self) -> Result<()> {
        Ok(self.device()?.reset()?)
    }

    /// Sets an interrupt up, or takes all down.
    pub(crate) fn interrupts(&self, on: bool) -> Result<()> {
        // The kernel keeps its own reference.
        let signal = eventfd(0, EventfdFlags::CLOEXEC).context("eventfd")?;
        let all = &[Some(signal.as_fd())][..usize::from(on)];
        Ok(self.device()?.set_irqs(Irq::Msix, all)?)
    }

    /// How the frames stand. Without a harvester what has landed is taken here.
    pub(crate) fn frames(&self) -> Result<Answer> {
        let running = self.harvester.is_some();
        let tally = with(&self.memory()?.ring, |ring| {
            if !running {
                ring.harvest(u32::MAX);
            }
            ring.state().tally
        });
        Ok(Answer::Frames { tally })
    }

    /// Compares where the memory's pages are with where they were at start.
    pub(crate) fn pages_moved(&self) -> Result<Answer> {
        let mapping = &self.memory()?.mapping;
        let present = pages::physical(mapping)?;
        let moved = (0_u64..)
            .zip(&present)
            .filter(|(page, address)| mapping.read_u64(layout::INDEX + 8 * page) != **address);
        Ok(Answer::Moved {
            pages: mapping.length() / PAGE,
            moved: moved.count() as u64,
        })
    }

    /// Takes a page that nothing is kept in out of the memfd, and touches it: the file has another one there.
    pub(crate) fn punch_hole(&self) -> Result<()> {
        let memory = self.memory()?;
        memory.file.punch_hole(layout::SPARE, PAGE)?;
        memory.mapping.write_u64(layout::SPARE, 0);
        Ok(())
    }

    fn attached(&self) -> Result<Table> {
        self.attached
            .context("the card is attached to no page table")
    }

    fn replaced(&self) -> Result<Table> {
        self.replaced
            .context("no swap has left a page table behind")
    }

    fn memory(&self) -> Result<&Memory> {
        let memory = self.memory.as_ref();
        memory.context("the card has no memory: start the card or retrieve it")
    }

    fn iommufd(&self) -> Result<&Iommufd> {
        let iommufd = self.iommufd.as_ref();
        iommufd.context("the card has no iommufd: start the card or retrieve it")
    }

    fn device(&self) -> Result<&VfioDevice> {
        let device = self.device.as_ref();
        device.context("the card has no device file: start the card or retrieve it")
    }
}

/// The whole memory of a card.
fn whole(iova: u64, length: u64) -> Piece {
    Piece {
        iova,
        length,
        offset: 0,
        token: 0,
        readable: true,
        writeable: true,
    }
}

fn mapping_of(piece: &Piece) -> FileMapping {
    FileMapping {
        iova: piece.iova,
        length: piece.length,
        offset: piece.offset,
        memory_token: piece.token,
        readable: piece.readable,
        writeable: piece.writeable,
    }
}

fn piece_of(mapping: &FileMapping) -> Piece {
    Piece {
        iova: mapping.iova,
        length: mapping.length,
        offset: mapping.offset,
        token: mapping.memory_token,
        readable: mapping.readable,
        writeable: mapping.writeable,
    }
}
