// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is said of a run: figures, and what is wrong.

use serde::Serialize;

use crate::evidence::event::Harm;

/// A phase in the output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseReport {
    /// Its name.
    pub name: &'static str,
    /// Its length, milliseconds.
    pub ms: f64,
    /// Frames that landed in it.
    pub frames: u64,
}

/// The output of `cargo lab demo --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// `good`, `loss` or `too slow`: the exit status in a word.
    pub verdict: Ending,
    /// Frames sent to the card that is preserved.
    pub frames_sent: u64,
    /// Different frames that landed with the right content.
    pub frames_received: u64,
    /// Frames sent that did not.
    pub lost: u64,
    /// Frames that were not sent, because the wire was full while the card had descriptors: it stood still.
    pub not_taken: u64,
    /// Frames that were not sent, still waited at the end, or were dropped by the card, because it had no descriptor left.
    pub held_back: u64,
    /// How long the card had no descriptor left, milliseconds in all.
    pub ring_dry_ms: f64,
    /// Frames per second.
    pub rate: u32,
    /// Frames that landed again.
    pub duplicated: u64,
    /// Frames that landed behind a later one.
    pub reordered: u64,
    /// Descriptors marked done, or passed, without the right content.
    pub corrupt: u64,
    /// The preserved device's blocked DMAs, by QEMU's trace or the unit's fault registers, whichever saw more.
    pub iommu_faults: u64,
    /// Resets and power state changes of the preserved device, or of the bus it is on.
    pub device_resets: u64,
    /// Frames that landed between the old kernel's last line and the new user space's hello.
    pub frames_during_jump: u64,
    /// Frames that landed while tables were replaced: in each update from the start of the first swap, from the restored
    /// HWPT to the new one, to the end of the last of the further swaps that follow it.
    pub frames_during_swap: u64,
    /// Updates done.
    pub updates: usize,
    /// The first kernel.
    pub kernel_from: String,
    /// The kernel after the first update.
    pub kernel_to: String,
    /// The profile.
    pub profile: String,
    /// The longest time without a landing, milliseconds.
    pub longest_gap_ms: f64,
    /// Frames of the second card sent after the jump, or frames of the first outside of its memory. All of the machine's
    /// memory is searched for them after each jump, before it is filled, and at the end; each counts once. The second
    /// card's own memory is watched besides, every millisecond and through the jump.
    ///
    /// What is searched for is the head of a whole frame at the start of a buffer. Not seen are a card's writes into
    /// descriptors (16 bytes each, which look like nothing), and frames elsewhere that the new kernel's boot has
    /// overwritten before its user space came up.
    pub stray_writes: u64,
    /// The timeline.
    pub phases: Vec<PhaseReport>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// All promises were kept, and every witness was there to see it.
    Good,
    /// Something is wrong.
    Loss,
    /// Nothing is wrong but that the host was too slow to tell.
    #[serde(rename = "too slow")]
    TooSlow,
}

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Frames were lost, repeated, mixed up or damaged, or not taken by a card that could have.
    Frames,
    /// Frames landed where none may.
    Strays,
    /// DMA of the preserved device was blocked, or went untranslated.
    Translation,
    /// Something was done to the device.
    Harm(Harm),
    /// No frame landed during a jump.
    SilentJump,
    /// No frame landed during a swap.
    SilentSwap,
    /// No update was done, or into the same kernel.
    NoUpdate,
    /// A witness contradicts another, or was not there.
    Witness,
    /// The kernel warned.
    Warning,
    /// A step failed.
    Step,
    /// The host was too slow.
    Slow,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind of thing.
    pub kind: Kind,
    /// A sentence.
    pub words: String,
}

/// The report, and why it is not good.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The figures.
    pub report: Report,
    /// Each thing that is wrong; empty when all went well.
    pub faults: Vec<Fault>,
}

impl Verdict {
    /// How the run ended.
    pub fn ending(&self) -> Ending {
        match &self.faults[..] {
            [] => Ending::Good,
            all if all.iter().all(|fault| fault.kind == Kind::Slow) => Ending::TooSlow,
            _ => Ending::Loss,
        }
    }

    /// Nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.ending() == Ending::Good
    }

    /// The host was too slow at some time, whatever else is wrong.
    pub fn is_slow(&self) -> bool {
        self.faults.iter().any(|fault| fault.kind == Kind::Slow)
    }

    /// Does not mind these kinds.
    pub fn forgive(&mut self, forgiven: impl Fn(Kind) -> bool) {
        self.faults.retain(|fault| !forgiven(fault.kind));
    }

    /// All that is wrong, in words.
    pub fn words(&self) -> String {
        let words = self.faults.iter().map(|fault| fault.words.as_str());
        words.collect::<Vec<_>>().join("; ")
    }
}
