// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What the outgoing kernel did, and when.
//!
//! Compatible string `hitless-log-v1`. The pages are handed over as soon as anything is preserved and written until the jump;
//! the incoming kernel shows them and uses them for nothing else, and one that does not know the string passes them over. The
//! entries are a ring: where all are in use, the oldest is overwritten. An event stands in the entry whose key is 1 more than
//! the remainder of its number by the number of entries. Every step has a kind that may be passed over.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Magic number.
pub const MAGIC: [u8; 8] = *b"hitl-log";
/// Version.
pub const VERSION: u32 = 1;
/// Bits of `required` that are known: none yet.
pub const KNOWN_REQUIRED: u64 = 0;

/// `EventSer::step`: an object was preserved.
pub const STEP_PRESERVED: u8 = 0x80;
/// `EventSer::step`: it was unpreserved.
pub const STEP_UNPRESERVED: u8 = 0x81;
/// `EventSer::step`: something was refused.
pub const STEP_REFUSED: u8 = 0x82;
/// `EventSer::step`: the next kernel's image can take over what is in use.
pub const STEP_IMAGE_ACCEPTED: u8 = 0x83;
/// `EventSer::step`: it cannot, and is jumped into all the same.
pub const STEP_IMAGE_OVERRULED: u8 = 0x84;
/// `EventSer::step`: a device was frozen.
pub const STEP_FROZEN: u8 = 0x85;
/// `EventSer::step`: it was unfrozen.
pub const STEP_UNFROZEN: u8 = 0x86;
/// `EventSer::step`: the tables of a unit were scrubbed for the jump.
pub const STEP_SCRUBBED: u8 = 0x87;
/// `EventSer::step`: a unit was left with the empty table.
pub const STEP_EMPTIED: u8 = 0x88;
/// `EventSer::step`: the translation of a unit was switched off.
pub const STEP_SWITCHED_OFF: u8 = 0x89;
/// `EventSer::step`: the machine was told to jump.
pub const STEP_JUMP: u8 = 0x8a;
/// `EventSer::step`: the table by which a unit remaps interrupts was cleared.
pub const STEP_IRQ_TABLE_CLEARED: u8 = 0x8b;

/// `EventSer::object`: none.
pub const OBJECT_NONE: u8 = 0;
/// `EventSer::object`: a PCI function.
pub const OBJECT_FUNCTION: u8 = 1;
/// `EventSer::object`: a unit.
pub const OBJECT_UNIT: u8 = 2;
/// `EventSer::object`: an iommufd.
pub const OBJECT_IOMMUFD: u8 = 3;

/// Bytes of a name.
pub const NAME_SIZE: usize = 24;

/// One event.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct EventSer {
    /// `STEP_*`.
    pub step: u8,
    /// `OBJECT_*`.
    pub object: u8,
    /// Bus, device and function of a PCI function; 0 for other objects.
    pub bdf: U16,
    /// Its PCI segment; 0 for other objects.
    pub segment: U32,
    /// Number of the event, counted from 0 at the start of the kernel.
    pub number: U64,
    /// Nanoseconds of `CLOCK_REALTIME`: since 1970, as far as that kernel knew.
    pub real: U64,
    /// Nanoseconds of `CLOCK_MONOTONIC`: since the start of that kernel. On a machine that counts time by a timer which
    /// shutdown switches off, both clocks stand still from then on.
    pub monotonic: U64,
    /// Register base of a unit, or LUO's data of an iommufd; 0 for other objects.
    pub value: U64,
    /// Name of the refusal, printable ASCII that ends with the first 0; all 0 for other steps.
    pub name: [u8; NAME_SIZE],
}

const _: () = assert!(size_of::<EventSer>() == super::list::ENTRY_SIZE);
const _: () = assert!(core::mem::offset_of!(EventSer, number) == 8);
const _: () = assert!(core::mem::offset_of!(EventSer, name) == 40);
