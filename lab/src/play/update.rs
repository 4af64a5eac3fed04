// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The steps of an update, in the order of the main job.

use std::time::{Duration, Instant};

use anyhow::{bail, Result};
use hitless_proto::{Answer, Command, Step, What, FIRST_TOKEN};
use rustix::io::Errno;

use crate::evidence::phases::{Jump, FURTHER_SWAPS, PRESERVE, REBUILD, RETRIEVE, SWAP};
use crate::machine::clock::Ns;
use crate::machine::guest::OrderError;
use crate::machine::parts::IMAGES;
use crate::machine::running::command_line;
use crate::play::scene::Scene;

/// Kernel parameter that switches hitless off.
pub const OFF: &str = "hitless=off";
/// The session's name.
pub const SESSION: &str = "lab";
/// The token of the card's HWPT, where it is marked by an order.
pub const HWPT_TOKEN: u64 = 0x4857_5054;
/// What is preserved, in the order that LUO wants, each with its token in the session, whether it is preserved file by file or
/// as a whole.
pub const FILES: [(What, u64); 3] = [
    (What::Memory, FIRST_TOKEN),
    (What::Iommufd, FIRST_TOKEN + 1),
    (What::Device, FIRST_TOKEN + 2),
];

/// MiB that the guest leaves free when it fills the memory.
const KEEP_MIB: u64 = 192;
/// Between two looks at how far the guest is behind.
const CATCH_UP: Duration = Duration::from_millis(50);
/// How long it may be behind.
const CAUGHT_UP: Duration = Duration::from_secs(10);
/// What forces the kernel to compact memory (CONFIG_COMPACTION), and how often.
const COMPACT: &str = "/proc/sys/vm/compact_memory";
const COMPACTIONS: u32 = 2;
/// The swap is over in a few milliseconds, so it is followed by a run of further ones back and forth between two HWPTs,
/// long enough for frames to land meanwhile at any rate of 10 per second or more: how many, and the pause after each in
/// microseconds.
const MORE_SWAPS: (u32, u64) = (40, 3_000);

impl Scene {
    /// The next kernel is loaded.
    pub fn prepare(&mut self) -> Result<()> {
        self.catch_up()?;
        self.load()
    }

    /// The HWPT gets [`HWPT_TOKEN`]; otherwise it gets one when everything is preserved as a whole.
    pub fn mark(&mut self) -> Result<()> {
        let (card, token) = (self.first.number, HWPT_TOKEN);
        self.order(Command::Mark { card, token })?;
        Ok(())
    }

    /// Waits until the guest has taken from the ring what landed while nobody served it: only then are enough
    /// descriptors posted for the next jump.
    fn catch_up(&mut self) -> Result<()> {
        let close = u64::from(self.rate / 10).max(10);
        let end = Instant::now() + self.machine.pace.patience(CAUGHT_UP);
        while Instant::now() < end {
            let landed = self.witness()?.count();
            if self.machine.guest.count(self.first.number)?.received + close >= landed {
                break;
            }
            self.flow(CATCH_UP);
        }
        Ok(())
    }

    /// The next kernel is loaded: the generations take turns.
    pub fn load(&mut self) -> Result<()> {
        let next = (self.evidence.jumps.len() + 1) % IMAGES.len();
        self.order(Command::LoadKernel {
            image: IMAGES[next].to_owned(),
            cmdline: command_line(&self.plan.profile, &self.plan.words),
        })?;
        Ok(())
    }

    /// The next kernel is loaded with bytes of what its image says of itself changed, from the byte at `at` on.
    pub fn load_edited(&mut self, at: usize, bytes: &[u8]) -> Result<()> {
        let next = (self.evidence.jumps.len() + 1) % IMAGES.len();
        self.order(Command::LoadEdited {
            image: IMAGES[next].to_owned(),
            cmdline: command_line(&self.plan.profile, &self.plan.words),
            at,
            bytes: bytes.to_vec(),
        })?;
        Ok(())
    }

    /// A session with everything in it.
    pub fn preserve(&mut self) -> Result<()> {
        let preserve = Command::PreserveAll {
            session: SESSION.to_owned(),
            cards: vec![self.first.number],
        };
        self.phase(PRESERVE, [preserve])?;
        Ok(())
    }

    /// One file into the session.
    pub fn preserve_one(&mut self, what: What, token: u64) -> Result<()> {
        self.order(self.to_preserve(what, token))?;
        Ok(())
    }

    fn to_preserve(&self, what: What, token: u64) -> Command {
        Command::Preserve {
            session: SESSION.to_owned(),
            card: self.first.number,
            what,
            token,
        }
    }

    /// The jump.
    pub fn jump(&mut self) -> Result<()> {
        self.tell("the jump");
        let (ordered, hello) = self.machine.guest.kexec()?;
        let update = self.evidence.jumps.len() + 1;
        let lines = self.machine.console.lines();
        let (jump, phases) = Jump::read(update, ordered, hello.at, &lines);
        self.evidence.jumps.push(jump);
        self.evidence.phases.extend(phases);
        self.is_up(hello.kernel);
        self.begin_search()
    }

    /// Free memory is overwritten: what was not preserved shows. What has strayed into it would not show any more, so
    /// that is searched for before.
    pub fn fill_memory(&mut self) -> Result<()> {
        self.end_search()?;
        let fill = Command::FillMemory { keep_mib: KEEP_MIB };
        self.phase("memory filled", [fill, Command::FreeMemory])?;
        Ok(())
    }

    /// Everything comes back out of the session; the device is bound and its ring served again. What follows is done as a
    /// whole, too.
    pub fn retrieve(&mut self) -> Result<()> {
        let from = self.machine.clock.now();
        let (bdf, card) = (self.first.bdf.clone(), self.first.number);
        self.order(Command::BindDriver { bdf })?;
        self.take(Step::Retrieve)?;
        self.refused(Command::BindDeviceElsewhere { card }, Errno::PERM)?;
        self.take(Step::Bind)?;
        self.order(Command::Resume { card })?;
        self.file_by_file = false;
        self.step(RETRIEVE, from);
        Ok(())
    }

    /// What follows is done by single orders.
    pub fn file_by_file(&mut self) {
        self.file_by_file = true;
    }

    /// The order for [`Scene::take`].
    pub fn to_take(step: Step) -> Command {
        let session = SESSION.to_owned();
        Command::Take { session, step }
    }

    /// A step of everything in the session.
    pub fn take(&mut self, step: Step) -> Result<()> {
        self.order(Self::to_take(step))?;
        Ok(())
    }

    /// The files come back out of the session, one by one. What follows is done by single orders, too.
    pub fn retrieve_files(&mut self) -> Result<()> {
        let (bdf, session) = (self.first.bdf.clone(), SESSION.to_owned());
        self.order(Command::BindDriver { bdf })?;
        self.order(Command::SessionRetrieve { session })?;
        self.file_by_file();
        for (what, token) in FILES {
            self.order(Command::Retrieve {
                session: SESSION.to_owned(),
                card: self.first.number,
                what,
                token,
            })?;
        }
        Ok(())
    }

    /// The device is bound to its iommufd and to no other, and its ring served again.
    pub fn bind(&mut self) -> Result<()> {
        let card = self.first.number;
        self.refused(Command::BindDeviceElsewhere { card }, Errno::PERM)?;
        self.order(Command::BindDevice { card })?;
        self.order(Command::Resume { card })?;
        Ok(())
    }

    /// Compaction is forced while the restored domain is in use: what was not pinned moves away under the device.
    pub fn compact(&mut self) -> Result<()> {
        let compact = Command::WriteFile {
            path: COMPACT.to_owned(),
            text: "1".to_owned(),
        };
        self.phase("compaction", vec![compact; COMPACTIONS as usize])?;
        let card = self.first.number;
        match self.order(Command::PagesMoved { card })? {
            Answer::Moved { pages, moved: 0 } if pages > 0 => Ok(()),
            Answer::Moved { pages, moved } => {
                bail!("{moved} of the {pages} pages of the card's memory moved under the device")
            }
            other => bail!("the guest answers {other:?} to PagesMoved"),
        }
    }

    /// A new IOAS and HWPT with the same mappings: by the kernel's list after one jump, and by the guest's own after the next.
    /// Until the swap, finish is refused.
    pub fn rebuild(&mut self) -> Result<()> {
        let card = self.first.number;
        let rebuild = match (self.file_by_file, self.evidence.jumps.len() % 2) {
            (true, _) => Command::Rebuild { card },
            (false, 1) => Self::to_take(Step::Rebuild),
            (false, _) => Self::to_take(Step::RebuildOwn),
        };
        self.phase(REBUILD, [rebuild])?;
        let session = SESSION.to_owned();
        self.refused(Command::Finish { session }, Errno::BUSY)
    }

    /// The swap, the restored HWPT destroyed, and then a run of swaps between HWPTs of the new kernel.
    pub fn swap(&mut self) -> Result<()> {
        let card = self.first.number;
        let swap = match self.file_by_file {
            true => vec![Command::Swap { card }, Command::DestroyOld { card }],
            false => vec![Self::to_take(Step::Swap)],
        };
        let from = self.phase(SWAP, swap)?;
        let (count, pause_us) = MORE_SWAPS;
        self.swaps(count, pause_us)?;
        self.step(FURTHER_SWAPS, from);
        Ok(())
    }

    /// Swaps back and forth; returns the longest, nanoseconds.
    pub fn swaps(&mut self, count: u32, pause_us: u64) -> Result<Ns> {
        let answer = self.order(Command::Swaps {
            card: self.first.number,
            count,
            pause_us,
        })?;
        match answer {
            Answer::Swaps {
                count: done,
                max_ns,
                ..
            } if done == count => Ok(max_ns),
            other => bail!("the guest answers {other:?} to {count} swaps"),
        }
    }

    /// The session is finished.
    pub fn finish(&mut self) -> Result<()> {
        let session = SESSION.to_owned();
        self.phase("finish", [Command::Finish { session }])?;
        Ok(())
    }

    /// A phase that is nothing but orders; returns when it ended.
    fn phase(
        &mut self,
        name: &'static str,
        orders: impl IntoIterator<Item = Command>,
    ) -> Result<Ns> {
        let from = self.machine.clock.now();
        for order in orders {
            self.order(order)?;
        }
        Ok(self.step(name, from))
    }

    /// Everything after the jump.
    pub fn take_back(&mut self) -> Result<()> {
        // What is not preserved shows earlier when memory is filled first, but at a high rate the ring does not last.
        if self.fills_first {
            self.fill_memory()?;
            self.retrieve()?;
        } else {
            self.retrieve()?;
            self.fill_memory()?;
        }
        self.compact()?;
        self.rebuild()?;
        self.swap()?;
        self.finish()
    }

    /// A whole update.
    pub fn update(&mut self) -> Result<()> {
        self.prepare()?;
        self.preserve()?;
        self.jump()?;
        self.take_back()
    }

    /// What is left of an update on a kernel without hitless: whatever is refused is left out, and the jump is done. The
    /// memory is preserved all the same: that needs nothing but Linux.
    pub fn update_without(&mut self) -> Result<()> {
        let from = self.machine.clock.now();
        let (card, token) = (self.first.number, HWPT_TOKEN);
        let session = SESSION.to_owned();
        let mark_and_create = [
            Command::Mark { card, token },
            Command::SessionCreate { session },
        ];
        let preserve = FILES.map(|(what, token)| self.to_preserve(what, token));
        let mut refused = Vec::new();
        for command in mark_and_create.into_iter().chain(preserve) {
            match self.machine.guest.order(command) {
                Ok(_) => {}
                Err(OrderError::Machine(error)) => return Err(error),
                Err(error) => refused.push(error.to_string()),
            }
        }
        self.step(PRESERVE, from);
        self.tell(&format!("refused: {}", refused.join("; ")));
        if let Some(one) = refused.last() {
            let words = format!("the device was not preserved: {one}");
            self.evidence.troubles.push(words);
        }
        self.load()?;
        self.jump()
    }
}
