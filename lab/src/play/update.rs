// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The steps of an update, in the order of the main job.

use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use hitless_proto::{Answer, Command, What};
use rustix::io::Errno;

use crate::evidence::phases::{Jump, Name};
use crate::machine::clock::Ns;
use crate::machine::guest::OrderError;
use crate::machine::parts::IMAGES;
use crate::machine::running::command_line;
use crate::play::scene::Scene;

/// The session's name.
pub const SESSION: &str = "lab";
/// The token of the card's HWPT.
pub const HWPT_TOKEN: u64 = 0x4857_5054;
/// What is preserved, in the order that LUO wants, each with its token in the session.
pub const FILES: [(What, u64); 3] = [(What::Memory, 1), (What::Iommufd, 2), (What::Device, 3)];

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
const FURTHER_SWAPS: (u32, u64) = (40, 3_000);

impl Scene {
    /// The HWPT gets its token and the next kernel is loaded.
    pub fn prepare(&mut self) -> Result<()> {
        self.catch_up()?;
        self.order(Command::Mark {
            card: self.first.number,
            token: HWPT_TOKEN,
        })?;
        self.load()
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
        let next = (self.jumps.len() + 1) % IMAGES.len();
        self.order(Command::LoadKernel {
            image: IMAGES[next].to_owned(),
            cmdline: command_line(&self.plan.profile, &self.plan.words),
        })?;
        Ok(())
    }

    /// A session with everything in it.
    pub fn preserve(&mut self) -> Result<()> {
        let from = self.machine.clock.now();
        self.order(Command::SessionCreate {
            session: SESSION.to_owned(),
        })?;
        for (what, token) in FILES {
            self.preserve_one(what, token)?;
        }
        self.step(Name::Preserve, from);
        Ok(())
    }

    /// One file into the session.
    pub fn preserve_one(&mut self, what: What, token: u64) -> Result<()> {
        self.order(Command::Preserve {
            session: SESSION.to_owned(),
            card: self.first.number,
            what,
            token,
        })
        .with_context(|| format!("preserving the {what:?}"))?;
        Ok(())
    }

    /// The jump.
    pub fn jump(&mut self) -> Result<()> {
        self.tell("the jump");
        let (ordered, hello) = self.machine.guest.kexec()?;
        let jump = Jump {
            update: u32::try_from(self.jumps.len()).unwrap_or(0) + 1,
            ordered,
            hello: hello.at,
        };
        self.phases
            .extend(jump.phases(&self.machine.console.lines()));
        self.jumps.push(jump);
        self.tell(&format!("kernel {} is up", hello.kernel));
        self.kernels.push(hello.kernel);
        self.begin_search()
    }

    /// Free memory is overwritten: what was not preserved shows. What has strayed into it would not show any more, so
    /// that is searched for before.
    pub fn fill_memory(&mut self) -> Result<()> {
        self.end_search()?;
        let from = self.machine.clock.now();
        self.order(Command::FillMemory { keep_mib: KEEP_MIB })?;
        self.order(Command::FreeMemory)?;
        self.step(Name::MemoryFilled, from);
        Ok(())
    }

    /// Everything comes back out of the session; the device is bound and its ring served again. The HWPT is restored
    /// before the bind after one jump, and after it after the next.
    pub fn retrieve(&mut self) -> Result<()> {
        let from = self.machine.clock.now();
        self.retrieve_files()?;
        let restore = Command::RestoreHwpt {
            card: self.first.number,
            token: HWPT_TOKEN,
        };
        if self.jumps.len() % 2 == 1 {
            self.order(restore)?;
            self.bind()?;
        } else {
            self.bind()?;
            self.order(restore)?;
        }
        self.step(Name::Retrieve, from);
        Ok(())
    }

    /// The files come back out of the session.
    pub fn retrieve_files(&mut self) -> Result<()> {
        self.order(Command::BindDriver {
            bdf: self.first.bdf.clone(),
        })?;
        self.order(Command::SessionRetrieve {
            session: SESSION.to_owned(),
        })?;
        for (what, token) in FILES {
            self.order(Command::Retrieve {
                session: SESSION.to_owned(),
                card: self.first.number,
                what,
                token,
            })
            .with_context(|| format!("retrieving the {what:?}"))?;
        }
        Ok(())
    }

    /// The device is bound to its iommufd and to no other, and its ring served again.
    pub fn bind(&mut self) -> Result<()> {
        self.refused(
            Command::BindDeviceElsewhere {
                card: self.first.number,
            },
            Errno::PERM,
        )?;
        self.order(Command::BindDevice {
            card: self.first.number,
        })?;
        self.order(Command::Resume {
            card: self.first.number,
        })?;
        Ok(())
    }

    /// Compaction is forced while the restored domain is in use: what was not pinned moves away under the device.
    pub fn compact(&mut self) -> Result<()> {
        let from = self.machine.clock.now();
        for _ in 0..COMPACTIONS {
            self.order(Command::WriteFile {
                path: COMPACT.to_owned(),
                text: "1".to_owned(),
            })?;
        }
        self.step(Name::Compaction, from);
        let answer = self.order(Command::PagesMoved {
            card: self.first.number,
        })?;
        match answer {
            Answer::Moved { pages, moved: 0 } if pages > 0 => Ok(()),
            Answer::Moved { pages, moved } => {
                bail!("{moved} of the {pages} pages of the card's memory moved under the device")
            }
            other => bail!("the guest answers {other:?} to PagesMoved"),
        }
    }

    /// A new IOAS and HWPT with the same mappings. Until the swap, finish is refused.
    pub fn rebuild(&mut self) -> Result<()> {
        let from = self.machine.clock.now();
        self.order(Command::Rebuild {
            card: self.first.number,
        })?;
        self.step(Name::Rebuild, from);
        self.refused(
            Command::Finish {
                session: SESSION.to_owned(),
            },
            Errno::BUSY,
        )
    }

    /// The swap, the restored HWPT destroyed, and then a run of swaps between HWPTs of the new kernel.
    pub fn swap(&mut self) -> Result<()> {
        let from = self.machine.clock.now();
        self.order(Command::Swap {
            card: self.first.number,
        })?;
        self.order(Command::DestroyOld {
            card: self.first.number,
        })?;
        let from = self.step(Name::Swap, from);
        let (count, pause_us) = FURTHER_SWAPS;
        self.swaps(count, pause_us)?;
        self.step(Name::FurtherSwaps, from);
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
        let from = self.machine.clock.now();
        self.order(Command::Finish {
            session: SESSION.to_owned(),
        })?;
        self.step(Name::Finish, from);
        Ok(())
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
        let mut refused = Vec::new();
        let mut commands = vec![
            Command::Mark {
                card: self.first.number,
                token: HWPT_TOKEN,
            },
            Command::SessionCreate {
                session: SESSION.to_owned(),
            },
        ];
        let card = self.first.number;
        commands.extend(FILES.map(|(what, token)| Command::Preserve {
            session: SESSION.to_owned(),
            card,
            what,
            token,
        }));
        for command in commands {
            match self.machine.guest.order(command) {
                Ok(_) => {}
                Err(OrderError::Machine(error)) => return Err(error),
                Err(error) => refused.push(error.to_string()),
            }
        }
        self.step(Name::Preserve, from);
        self.tell(&format!("refused: {}", refused.join("; ")));
        if let Some(one) = refused.last() {
            self.troubles
                .push(format!("the device was not preserved: {one}"));
        }
        self.load()?;
        self.jump()
    }
}
