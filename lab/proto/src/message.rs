// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Orders to the guest and reports from it.

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
    /// What the guest calls it, and the first word of its memfds' names.
    pub name: String,
    /// The session that it is preserved in.
    pub session: String,
    /// The first of its tokens in that session: its memfds' come first, then the iommufd's, then its devices'.
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
    /// The functions are bound to vfio-pci; memfds, iommufd, devices and HWPTs are set up, and the HWPTs are marked.
    Start,
    /// Everything goes into the session, which is there.
    Preserve,
    /// Everything comes out of the session, which is there: memory, iommufd, devices; each device is bound and its HWPT
    /// restored. What the memory holds and what the HWPTs map is compared with what was set up.
    Retrieve,
    /// A new IOAS with the same mappings, and a new HWPT for each device; not attached yet.
    Rebuild,
    /// Each device is attached to its new HWPT; the restored ones are destroyed and the new ones marked.
    Swap,
}

/// Everything the guest can be told to do. `card` is the one-byte number the card has in its frames (1, 2, ...).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Command {
    /// Bind the PCI function to vfio-pci (driver_override, drivers_probe). Does nothing when it is bound already.
    BindDriver {
        /// `0000:01:00.0`
        bdf: String,
    },
    /// The whole old-kernel set-up of a card: memfd (sealed before it is mapped), iommufd, IOAS, explicit HWPT,
    /// MAP_FILE, cdev bound and attached, ring filled, reception started. Answers [`Answer::Started`].
    Start {
        /// The card's number.
        card: u8,
        /// `0000:01:00.0`
        bdf: String,
        /// Receive descriptors, a multiple of 8, at most 32768.
        ring: u32,
        /// Where the memfd is mapped in the IOAS.
        iova: u64,
    },
    /// Do something with many functions at once.
    Crowd {
        /// Which.
        crowd: Crowd,
        /// What.
        act: Act,
    },
    /// Mark the card's HWPT with a token.
    Mark {
        /// The card's number.
        card: u8,
        /// The HWPT token.
        token: u64,
    },
    /// Map more pieces of the card's memory in its IOAS.
    MapPieces {
        /// The card's number.
        card: u8,
        /// The pieces.
        pieces: Vec<Piece>,
    },
    /// IOMMU_OPTION_LIVEUPDATE of a freshly opened iommufd. Answers [`Answer::Features`].
    Features,
    /// The id of the HWPT that the card is attached to. Answers [`Answer::Hwpt`].
    HwptOf {
        /// The card's number.
        card: u8,
    },
    /// A call on the card's iommufd, field by field. Answers [`Answer::Words`].
    Raw {
        /// The card's number.
        card: u8,
        /// The call.
        call: Call,
        /// The structure's words from the second one on; how many they are makes its size.
        fields: Vec<u32>,
    },
    /// kexec_file_load of `/boot/<image>` with an initramfs made of the running root file system.
    LoadKernel {
        /// File name below `/boot`.
        image: String,
        /// Kernel command line.
        cmdline: String,
    },
    /// As [`Command::LoadKernel`], with bytes of what the image says of itself changed.
    LoadEdited {
        /// File name below `/boot`.
        image: String,
        /// Kernel command line.
        cmdline: String,
        /// Where, from the start of that record on.
        at: usize,
        /// What is written there.
        bytes: Vec<u8>,
    },
    /// kexec_load of something that is no kernel: an image that gets nothing of what is handed over.
    LoadWithoutHandover,
    /// LIVEUPDATE_IOCTL_CREATE_SESSION; the guest keeps the descriptor under this name.
    SessionCreate {
        /// Session name.
        session: String,
    },
    /// LIVEUPDATE_SESSION_PRESERVE_FD.
    Preserve {
        /// Session name.
        session: String,
        /// The card's number.
        card: u8,
        /// Which of its files.
        what: What,
        /// The file's token in the session.
        token: u64,
    },
    /// Close the session's descriptor: before the jump this unpreserves everything in it.
    SessionClose {
        /// Session name.
        session: String,
    },
    /// `reboot(KEXEC)`. Reports only when it fails; success shows as the next kernel's hello.
    Kexec,
    /// Allocate and touch free memory until about `keep_mib` are left, and hold it.
    FillMemory {
        /// MiB to leave alone.
        keep_mib: u64,
    },
    /// Give the memory of `FillMemory` back.
    FreeMemory,
    /// Write 1 to /proc/sys/vm/compact_memory so many times.
    Compact {
        /// Rounds.
        rounds: u32,
    },
    /// LIVEUPDATE_IOCTL_RETRIEVE_SESSION.
    SessionRetrieve {
        /// Session name.
        session: String,
    },
    /// LIVEUPDATE_SESSION_RETRIEVE_FD; the guest keeps the descriptor as that part of the card. After `Memory` the
    /// memfd is mapped, the harvest state in it is found and checked, and what has landed can be read.
    Retrieve {
        /// Session name.
        session: String,
        /// The card's number.
        card: u8,
        /// Which file.
        what: What,
        /// The file's token in the session.
        token: u64,
    },
    /// IOMMU_HWPT_LIVEUPDATE_RESTORE on the retrieved iommufd.
    RestoreHwpt {
        /// The card's number.
        card: u8,
        /// The HWPT token.
        token: u64,
    },
    /// VFIO_DEVICE_BIND_IOMMUFD of the retrieved cdev with the retrieved iommufd.
    BindDevice {
        /// The card's number.
        card: u8,
    },
    /// The same with a freshly opened iommufd; expected to fail, the errno is reported. Closes that iommufd again.
    BindDeviceElsewhere {
        /// The card's number.
        card: u8,
    },
    /// The same with the iommufd of another card; expected to fail, the errno is reported.
    BindDeviceTo {
        /// The card's number.
        card: u8,
        /// The other card's number.
        other: u8,
    },
    /// open(2) of the card's cdev path by name, and close; reports the errno if it fails.
    OpenDevice {
        /// `0000:01:00.0`
        bdf: String,
    },
    /// After bind: map the BAR again and let the harvester run (checks frames, posts descriptors).
    Resume {
        /// The card's number.
        card: u8,
    },
    /// A new IOAS and HWPT in the card's iommufd with the same mappings as the first; not attached yet.
    Rebuild {
        /// The card's number.
        card: u8,
    },
    /// IOMMU_HWPT_LIVEUPDATE_MAPPINGS of the restored HWPT. Answers [`Answer::Mappings`].
    Mappings {
        /// The card's number.
        card: u8,
    },
    /// As `Rebuild`, with the mappings that the kernel lists for the restored HWPT.
    RebuildFromList {
        /// The card's number.
        card: u8,
        /// The first IOVA of one that is left out.
        without: Option<u64>,
    },
    /// VFIO_DEVICE_ATTACH_IOMMUFD_PT to the HWPT of the last `Rebuild`.
    Swap {
        /// The card's number.
        card: u8,
    },
    /// Attach back and forth between two HWPTs with the same mappings, made as by `Rebuild` where needed.
    /// Answers [`Answer::Swaps`].
    Swaps {
        /// The card's number.
        card: u8,
        /// How many attaches.
        count: u32,
        /// Pause between two of them, microseconds.
        pause_us: u64,
    },
    /// IOMMU_DESTROY of the HWPT that the last `Swap` replaced (and of its IOAS where it has one).
    DestroyOld {
        /// The card's number.
        card: u8,
    },
    /// LIVEUPDATE_SESSION_FINISH; the session's descriptor is closed on success.
    Finish {
        /// Session name.
        session: String,
    },
    /// How the card's frames stand. Answers [`Answer::Frames`].
    Frames {
        /// The card's number.
        card: u8,
    },
    /// Punch a hole of one page into the memfd, where nothing is kept.
    PunchHole {
        /// The card's number.
        card: u8,
    },
    /// VFIO_DEVICE_SET_IRQS: set one MSI-X vector up, or take all down.
    Interrupts {
        /// The card's number.
        card: u8,
        /// Set up, or take down.
        on: bool,
    },
    /// VFIO_DEVICE_ATTACH_IOMMUFD_PT back to the HWPT that the last `Swap` replaced.
    SwapBack {
        /// The card's number.
        card: u8,
    },
    /// Compare the memfd's present physical pages with the index written at start. Answers [`Answer::Moved`].
    PagesMoved {
        /// The card's number.
        card: u8,
    },
    /// Read a file (sysfs, procfs, debugfs). Answers [`Answer::Text`].
    ReadFile {
        /// Path.
        path: String,
    },
    /// Write a string to a file.
    WriteFile {
        /// Path.
        path: String,
        /// Content.
        text: String,
    },
}

impl Command {
    /// The longest it may take in the guest, also on a slow machine that emulates every instruction. The guest gives up
    /// after that and says so; the lab waits [`MARGIN`] longer, for the guest to say it.
    pub fn limit(&self) -> Duration {
        let ordinary = Duration::from_secs(60);
        match self {
            Self::FillMemory { .. }
            | Self::LoadKernel { .. }
            | Self::LoadEdited { .. }
            | Self::Start { .. }
            | Self::Crowd { .. }
            | Self::Kexec => 2 * ordinary,
            Self::Compact { rounds } => ordinary * rounds.saturating_add(1),
            Self::Swaps {
                count, pause_us, ..
            } => {
                let one = Duration::from_millis(100) + Duration::from_micros(*pause_us);
                ordinary + one.saturating_mul(*count)
            }
            _ => ordinary,
        }
    }
}

/// How much longer than the guest the lab waits.
pub const MARGIN: Duration = Duration::from_secs(5);

/// One line from the guest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "report")]
pub enum Report {
    /// Sent once after each boot, before any order is taken.
    Hello {
        /// `uname -r`
        release: String,
        /// `uname -v`
        version: String,
    },
    /// An order is done.
    Done {
        /// The order's number.
        id: u64,
        /// What it answers.
        answer: Answer,
        /// How long it took in the guest, nanoseconds.
        took_ns: u64,
    },
    /// An order failed.
    Failed {
        /// The order's number.
        id: u64,
        /// Why.
        failure: Failure,
        /// How long it took in the guest, nanoseconds.
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
pub enum Answer {
    /// Nothing to say.
    Ok,
    /// A card receives. The pages let the lab watch the memory from outside: see [`crate::layout`].
    Started {
        /// The card's MAC address, `52:54:00:...`.
        mac: String,
        /// Guest-physical addresses of the memfd's header and index pages, in file order.
        index_pages: Vec<u64>,
    },
    /// How a card's frames stand.
    Frames {
        /// What the guest has counted.
        tally: Tally,
    },
    /// What of live update the kernel can do.
    Features {
        /// HWPTs can be preserved.
        preserve: bool,
        /// A device can be bound before its HWPT is restored.
        bind_first: bool,
        /// Mappings can be listed.
        mappings: bool,
    },
    /// A HWPT.
    Hwpt {
        /// Its id.
        id: u32,
    },
    /// What a call has left in its structure.
    Words {
        /// Its words from the second one on.
        words: Vec<u32>,
    },
    /// What a restored HWPT maps.
    Mappings {
        /// In the order of the kernel.
        pieces: Vec<Piece>,
    },
    /// How many pages of the memfd are not where they were.
    Moved {
        /// Pages looked at.
        pages: u64,
        /// Pages moved.
        moved: u64,
    },
    /// A run of swaps.
    Swaps {
        /// Attaches done.
        count: u32,
        /// Mean of one attach, nanoseconds.
        mean_ns: u64,
        /// Longest attach, nanoseconds.
        max_ns: u64,
    },
    /// A file's content.
    Text {
        /// The content.
        text: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_orders_get_long_limits() {
        let swaps = |count| {
            Command::Swaps {
                card: 1,
                count,
                pause_us: 3_000,
            }
            .limit()
        };
        assert!(swaps(200) > swaps(40) && swaps(40) > Command::FreeMemory.limit());
        assert!(swaps(u32::MAX) > Duration::from_secs(1 << 28));
        let compact = Command::Compact { rounds: u32::MAX };
        assert!(compact.limit() > Duration::from_secs(1 << 30));
    }
}
