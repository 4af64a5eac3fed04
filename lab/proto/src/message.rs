// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Orders to the guest and reports from it.
//!
//! A new order is a variant of [`Command`] here, and an arm in `obey` of the guest's `orders.rs`; where it tells something, it
//! gets a variant of [`Answer`] too.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::tally::Tally;

/// One command for the guest, numbered so that its report can be told from others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Chosen by the lab, returned in the report.
    pub id: u64,
    /// What to do.
    pub command: Command,
}

/// The part of a card's set-up that a LUO session call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The sealed memfd that is the VM's memory.
    Memory,
    /// The iommufd.
    Iommufd,
    /// The VFIO device file (cdev).
    Device,
}

/// One mapping of a card's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// First IOVA.
    pub iova: u64,
    /// Bytes.
    pub length: u64,
    /// Where it begins in the memfd, bytes.
    pub offset: u64,
    /// The memfd's token in the session; 0 where a mapping is made.
    pub token: u64,
    /// The card may read.
    pub readable: bool,
    /// The card may write.
    pub writeable: bool,
}

/// A call of iommufd that can be made field by field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// IOMMU_DESTROY.
    Destroy,
    /// IOMMU_OPTION.
    Option,
    /// IOMMU_HWPT_LIVEUPDATE_MARK_PRESERVE.
    Mark,
    /// IOMMU_HWPT_LIVEUPDATE_RESTORE. On success the HWPT is the card's.
    Restore,
    /// IOMMU_HWPT_LIVEUPDATE_MAPPINGS, with a null pointer.
    Mappings,
}

/// Plain functions that share an iommufd. Each has a HWPT of its own; all HWPTs have the same mappings.
///
/// The description is all that is needed to find everything again after a jump, so every order about it has it whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crowd {
    /// What the guest calls it, and the first word of its names.
    pub name: String,
    /// The session that it is preserved in.
    pub session: String,
    /// A number of its own, which its memory holds.
    pub token: u64,
    /// Its functions, `0000:01:00.0` and so on.
    pub functions: Vec<String>,
    /// How many memfds of one page it has.
    pub memories: u32,
    /// How many mappings there are, of one memfd after the other and round again.
    pub mappings: u32,
    /// Whether the last memfd is sealed as the others are.
    pub sealed: bool,
}

/// What is done with a whole [`Crowd`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// The functions are bound to vfio-pci; memfds, iommufd, devices and HWPTs are set up.
    Start,
    /// It is taken from its session, whose devices are swapped. What the memory holds is compared with what was set up.
    Adopt,
}

/// A step of an update, for everything in its session at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The session is found, and all files come out of it.
    Retrieve,
    /// Each device is bound, and each HWPT restored.
    Bind,
    /// New HWPTs with the mappings that the kernel lists.
    Rebuild,
    /// New HWPTs with the mappings that the guest named when it preserved.
    RebuildOwn,
    /// Each device is attached to its new HWPT, and the restored ones are destroyed.
    Swap,
}

/// The token of the first file of a session that was preserved as a whole: the memfds come first, then the iommufds, then the
/// devices.
pub const FIRST_TOKEN: u64 = 0x6869_746c_0000_0002;

/// Bytes for a place in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// The file.
    pub path: String,
    /// Where in it.
    pub at: u64,
    /// What is written there.
    pub bytes: Vec<u8>,
}

/// Everything the guest can be told to do.
///
/// `card` is the one-byte number the card has in its frames (1, 2, ...), `bdf` a PCI function as in `0000:01:00.0`, `session`
/// a session's name, and `token` that of a file in the session, or of a HWPT.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
#[allow(missing_docs, reason = "the names of the fields say what they are")]
pub enum Command {
    /// Bind the PCI function to vfio-pci (driver_override, drivers_probe). Does nothing when it is bound already.
    BindDriver { bdf: String },
    /// The whole old-kernel set-up of a card: memfd (sealed before it is mapped), iommufd, IOAS, explicit HWPT,
    /// MAP_FILE at `iova`, cdev bound and attached, ring of so many descriptors filled, reception started. Answers
    /// [`Answer::Started`].
    Start {
        card: u8,
        bdf: String,
        ring: u32,
        iova: u64,
    },
    /// Do something with many functions at once.
    Crowd { crowd: Crowd, act: Act },
    /// Mark the card's HWPT with a token.
    Mark { card: u8, token: u64 },
    /// Map more pieces of the card's memory in its IOAS.
    MapPieces { card: u8, pieces: Vec<Piece> },
    /// IOMMU_OPTION_LIVEUPDATE of a freshly opened iommufd. Answers [`Answer::Features`].
    Features,
    /// The id of the HWPT that the card is attached to. Answers [`Answer::Hwpt`].
    HwptOf { card: u8 },
    /// A call on the card's iommufd. The fields are the structure's words from the second one on; how many they are makes its
    /// size. Answers [`Answer::Words`].
    Raw {
        card: u8,
        call: Call,
        fields: Vec<u32>,
    },
    /// kexec_file_load of `/boot/<image>` with the initramfs of the running kernel.
    LoadKernel { image: String, cmdline: String },
    /// The same, with bytes of what the image says of itself changed, from the byte at `at` of that record on.
    LoadEdited {
        image: String,
        cmdline: String,
        at: usize,
        bytes: Vec<u8>,
    },
    /// kexec_load of something that is no kernel: an image that gets nothing of what is handed over.
    LoadWithoutHandover,
    /// LIVEUPDATE_IOCTL_CREATE_SESSION; the guest keeps the descriptor under this name.
    SessionCreate { session: String },
    /// Everything of these cards and of the crowds of this session goes into a new session, by the library for VMMs.
    PreserveAll { session: String, cards: Vec<u8> },
    /// A step of what was preserved so. A card that comes out of the session is there under its number.
    Take { session: String, step: Step },
    /// The card is given up, at whatever step its update is: its DMA stops.
    GiveUp { session: String, card: u8 },
    /// LIVEUPDATE_SESSION_PRESERVE_FD.
    Preserve {
        session: String,
        card: u8,
        what: What,
        token: u64,
    },
    /// Close the session's descriptor: before the jump this unpreserves everything in it.
    SessionClose { session: String },
    /// `reboot(KEXEC)`. Reports only when it fails; success shows as the next kernel's hello.
    Kexec,
    /// Allocate and touch free memory until about `keep_mib` are left, and hold it.
    FillMemory { keep_mib: u64 },
    /// Give the memory of `FillMemory` back.
    FreeMemory,
    /// LIVEUPDATE_IOCTL_RETRIEVE_SESSION.
    SessionRetrieve { session: String },
    /// LIVEUPDATE_SESSION_RETRIEVE_FD; the guest keeps the descriptor as that part of the card. After `Memory` the
    /// memfd is mapped, the harvest state in it is found and checked, and what has landed can be read.
    Retrieve {
        session: String,
        card: u8,
        what: What,
        token: u64,
    },
    /// IOMMU_HWPT_LIVEUPDATE_RESTORE on the retrieved iommufd.
    RestoreHwpt { card: u8, token: u64 },
    /// VFIO_DEVICE_BIND_IOMMUFD of the retrieved cdev with the retrieved iommufd.
    BindDevice { card: u8 },
    /// The same with a freshly opened iommufd; expected to fail, the errno is reported. Closes that iommufd again.
    BindDeviceElsewhere { card: u8 },
    /// The same with the iommufd of another card; expected to fail, the errno is reported.
    BindDeviceTo { card: u8, other: u8 },
    /// open(2) of the card's cdev path by name, and close; reports the errno if it fails.
    OpenDevice { bdf: String },
    /// In a retrieved iommufd that another process has used: find the ids of the bound device and of the restored HWPT.
    Adopt { card: u8 },
    /// VFIO_DEVICE_DETACH_IOMMUFD_PT.
    DetachDevice { card: u8 },
    /// After bind: map the BAR again and let the harvester run (checks frames, posts descriptors).
    Resume { card: u8 },
    /// A new IOAS and HWPT in the card's iommufd with the same mappings as the first; not attached yet.
    Rebuild { card: u8 },
    /// IOMMU_HWPT_LIVEUPDATE_MAPPINGS of the restored HWPT. Answers [`Answer::Mappings`].
    Mappings { card: u8 },
    /// As `Rebuild`, with the mappings that the kernel lists for the restored HWPT, but for the one that begins at `without`.
    RebuildFromList { card: u8, without: Option<u64> },
    /// VFIO_DEVICE_ATTACH_IOMMUFD_PT to the HWPT of the last `Rebuild`.
    Swap { card: u8 },
    /// Attach back and forth between two HWPTs with the same mappings, made as by `Rebuild` where needed, with a pause after
    /// each. Answers [`Answer::Swaps`].
    Swaps { card: u8, count: u32, pause_us: u64 },
    /// IOMMU_DESTROY of the HWPT that the last `Swap` replaced (and of its IOAS where it has one).
    DestroyOld { card: u8 },
    /// LIVEUPDATE_SESSION_FINISH; the session's descriptor is closed on success.
    Finish { session: String },
    /// How the card's frames stand. Answers [`Answer::Frames`].
    Frames { card: u8 },
    /// Punch a hole of one page into the memfd, where nothing is kept.
    PunchHole { card: u8 },
    /// VFIO_DEVICE_SET_IRQS: set one MSI-X vector up, or take all down.
    Interrupts { card: u8, on: bool },
    /// Set so many MSI-X vectors up, each with an eventfd that is kept. Who preserves the card as a whole takes them down, and
    /// sets as many up again.
    Arm { card: u8, vectors: u32 },
    /// How often each of these eventfds was signalled since the last time. Answers [`Answer::Signals`].
    Signals { card: u8 },
    /// VFIO_DEVICE_ATTACH_IOMMUFD_PT back to the HWPT that the last `Swap` replaced.
    SwapBack { card: u8 },
    /// Compare the memfd's present physical pages with the index written at start. Answers [`Answer::Moved`].
    PagesMoved { card: u8 },
    /// Read a file (sysfs, procfs, debugfs). Answers [`Answer::Text`].
    ReadFile { path: String },
    /// Write a string to a file.
    WriteFile { path: String, text: String },
    /// Start the guest program once more. This process gets all orders from here on, but for those about itself.
    OwnerStart,
    /// Take a descriptor of a session that the other process has, without its knowing.
    OwnerShare { session: String },
    /// Kill the other process. The first one gets the orders again, with what it has itself.
    OwnerKill,
    /// As soon as the kernel says `words`, write all these again and again for as long as this kernel runs, whatever comes of
    /// it.
    WriteAfter { words: String, writes: Vec<Write> },
    /// Obey another order, with the allocation of the kernel's with this number, from 1 on, failing. Answers
    /// [`Answer::Faulty`].
    Faulty { nth: u32, command: Box<Command> },
    /// Run a program to its end, which comes within so many seconds. Answers [`Answer::Text`] with what it says.
    Run {
        program: String,
        arguments: Vec<String>,
        seconds: u64,
    },
    /// VFIO_DEVICE_RESET.
    ResetDevice { card: u8 },
}

impl Command {
    /// The longest the lab waits for its report, also from a slow machine that emulates every instruction.
    pub fn limit(&self) -> Duration {
        let ordinary = Duration::from_secs(60);
        match self {
            Self::FillMemory { .. }
            | Self::LoadKernel { .. }
            | Self::LoadEdited { .. }
            | Self::Start { .. }
            | Self::Crowd { .. }
            | Self::Kexec => 2 * ordinary,
            Self::Swaps {
                count, pause_us, ..
            } => {
                let one = Duration::from_millis(100) + Duration::from_micros(*pause_us);
                ordinary + one.saturating_mul(*count)
            }
            Self::Faulty { command, .. } => command.limit(),
            Self::Run { seconds, .. } => Duration::from_secs(*seconds),
            _ => ordinary,
        }
    }
}

/// One line from the guest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names of the fields say what they are")]
pub enum Report {
    /// Sent once after each boot, before any order is taken: `uname -r` and `uname -v`.
    Hello(String),
    /// What came of the order of this number, and how long that took in the guest.
    Done {
        id: u64,
        result: Result<Answer, Failure>,
        took_ns: u64,
    },
}

/// Why an order failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The call that failed and what it was for, in words.
    pub what: String,
    /// The errno where a system call failed.
    pub errno: Option<i32>,
}

/// What a successful order answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
#[allow(missing_docs, reason = "the names of the fields say what they are")]
pub enum Answer {
    /// Nothing to say.
    Ok,
    /// A card with this MAC address (`52:54:00:...`) receives. The guest-physical addresses of the memfd's header and index
    /// pages, in file order, let the lab watch the memory from outside: see [`crate::layout`].
    Started { mac: String, index_pages: Vec<u64> },
    /// How a card's frames stand.
    Frames { tally: Tally },
    /// What of live update the kernel can do: preserve HWPTs, bind a device before its HWPT is restored, list mappings.
    Features {
        preserve: bool,
        bind_first: bool,
        mappings: bool,
    },
    /// A HWPT.
    Hwpt { id: u32 },
    /// What a call has left in its structure, from the second word on.
    Words { words: Vec<u32> },
    /// What a restored HWPT maps.
    Mappings { pieces: Vec<Piece> },
    /// How often each eventfd was signalled.
    Signals { counts: Vec<u64> },
    /// How many pages of the memfd are not where they were.
    Moved { pages: u64, moved: u64 },
    /// A run of swaps, of which the longest took so long.
    Swaps { count: u32, max_ns: u64 },
    /// Whether an allocation failed on the way, and why the order then failed, if it did.
    Faulty {
        injected: bool,
        error: Option<String>,
    },
    /// A file's content, or what a program has said.
    Text { text: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_orders_get_long_limits() {
        let (card, pause_us) = (1, 3_000);
        let swaps = |count| Command::Swaps {
            card,
            count,
            pause_us,
        };
        assert!(swaps(200).limit() > swaps(40).limit());
        assert!(swaps(40).limit() > Command::FreeMemory.limit());
        assert!(swaps(u32::MAX).limit() > Duration::from_secs(1 << 28));
    }
}
