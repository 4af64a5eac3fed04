// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a kernel did, and when: a ring of events that its successor can read.

use core::fmt::{self, Write};
use core::ops::Range;
use core::time::Duration;

use super::lender::{Grow, Lender, Take};
use super::list::{is_zero, Family, List};
use super::pci::DeviceAddress;
use crate::abi::list::{ENTRIES, KIND_FREE};
use crate::abi::log::{self, EventSer, KNOWN_REQUIRED, MAGIC, NAME_SIZE, VERSION};
use crate::error::Error;
use crate::refusal::{self, Refusal};

const NAME: refusal::Family = refusal::Family::Log;
const FAMILY: Family = Family {
    name: NAME,
    magic: MAGIC,
    version: VERSION,
    known_required: KNOWN_REQUIRED,
    // All steps are of kinds that may be passed over.
    last_kind: KIND_FREE,
};

/// Pages of a log that crosses the jump: room for about 500 events.
pub const PAGES: u32 = 8;

macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident = $number:ident, $text:literal;)*) => {
        /// A thing that was done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Step {
            $($(#[$doc])* $step,)*
        }

        impl Step {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$step,)*];

            const fn number(self) -> u8 {
                match self {
                    $(Self::$step => log::$number,)*
                }
            }

            const fn of(number: u8) -> Option<Self> {
                match number {
                    $(log::$number => Some(Self::$step),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for Step {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$step => $text,)*
                })
            }
        }
    };
}

steps! {
    /// An object was preserved.
    Preserved = STEP_PRESERVED, "preserved";
    /// It was unpreserved.
    Unpreserved = STEP_UNPRESERVED, "unpreserved";
    /// Something was refused, by name.
    Refused = STEP_REFUSED, "refused";
    /// The next kernel's image can take over what is in use.
    ImageAccepted = STEP_IMAGE_ACCEPTED, "image accepted";
    /// It cannot, by name, and is jumped into all the same.
    ImageOverruled = STEP_IMAGE_OVERRULED, "image not accepted and overruled";
    /// A device was frozen.
    Frozen = STEP_FROZEN, "frozen";
    /// It was unfrozen.
    Unfrozen = STEP_UNFROZEN, "unfrozen";
    /// The tables of a unit were scrubbed.
    Scrubbed = STEP_SCRUBBED, "scrubbed";
    /// A unit was left with the empty table.
    Emptied = STEP_EMPTIED, "left with the empty table";
    /// The translation of a unit was switched off.
    SwitchedOff = STEP_SWITCHED_OFF, "switched off";
    /// The machine was told to jump.
    Jump = STEP_JUMP, "told to jump";
    /// The table by which a unit remaps interrupts was cleared.
    IrqTableCleared = STEP_IRQ_TABLE_CLEARED, "cleared the interrupt table of";
}

/// What a step was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// Nothing in particular.
    None,
    /// A PCI function.
    Function(DeviceAddress),
    /// The unit with a register base.
    Unit(u64),
    /// The iommufd with this data of LUO's.
    Iommufd(u64),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Function(address) => write!(f, " device {address}"),
            Self::Unit(base) => write!(f, " unit at {base:#x}"),
            Self::Iommufd(data) => write!(f, " iommufd at {data:#x}"),
        }
    }
}

/// The name of a refusal as `docs/refusals.md` has it, cut off where it is too long. Printable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name([u8; NAME_SIZE]);

impl Name {
    /// No name.
    pub const NONE: Self = Self([0; NAME_SIZE]);

    fn new(bytes: [u8; NAME_SIZE]) -> Option<Self> {
        let mut rest = bytes.iter().skip_while(|byte| matches!(byte, b' '..=b'~'));
        rest.all(|byte| *byte == 0).then_some(Self(bytes))
    }
}

impl From<Refusal> for Name {
    fn from(refusal: Refusal) -> Self {
        let mut name = Cut::default();
        // What does not fit is left out.
        let _ = write!(name, "{refusal:?}");
        Self::new(name.bytes).unwrap_or(Self::NONE)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().position(|byte| *byte == 0);
        let name = self.0.get(..end.unwrap_or(NAME_SIZE));
        let name = name.and_then(|name| core::str::from_utf8(name).ok());
        match name.unwrap_or("") {
            "" => Ok(()),
            name => write!(f, ": {name}"),
        }
    }
}

/// Takes as much text as fits.
#[derive(Default)]
struct Cut {
    bytes: [u8; NAME_SIZE],
    length: usize,
}

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            *self.bytes.get_mut(self.length).ok_or(fmt::Error)? = byte;
            self.length = self.length.saturating_add(1);
        }
        Ok(())
    }
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Since 1970, as far as the kernel knew.
    pub real: Duration,
    /// Since the start of the kernel.
    pub monotonic: Duration,
    /// What was done.
    pub step: Step,
    /// To what.
    pub object: Object,
    /// The refusal that the step is about.
    pub name: Name,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:09} [{:5}.{:06}] {}{}{}",
            self.real.as_secs(),
            self.real.subsec_nanos(),
            self.monotonic.as_secs(),
            self.monotonic.subsec_micros(),
            self.step,
            self.object,
            self.name
        )
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn encode(number: u64, event: &Event) -> EventSer {
    let (object, address, value) = match event.object {
        Object::None => (log::OBJECT_NONE, None, 0),
        Object::Function(address) => (log::OBJECT_FUNCTION, Some(address), 0),
        Object::Unit(base) => (log::OBJECT_UNIT, None, base),
        Object::Iommufd(data) => (log::OBJECT_IOMMUFD, None, data),
    };
    EventSer {
        step: event.step.number(),
        object,
        bdf: address.map_or(0, |address| address.bdf).into(),
        segment: address.map_or(0, |address| address.segment).into(),
        number: number.into(),
        real: nanoseconds(event.real).into(),
        monotonic: nanoseconds(event.monotonic).into(),
        value: value.into(),
        name: event.name.0,
    }
}

fn decode(step: Step, ser: &EventSer) -> Result<Event, Refusal> {
    let address = DeviceAddress {
        segment: ser.segment.get(),
        bdf: ser.bdf.get(),
    };
    let value = ser.value.get();
    let (object, has_address, has_value) = match ser.object {
        log::OBJECT_NONE => (Object::None, false, false),
        log::OBJECT_FUNCTION => (Object::Function(address), true, false),
        log::OBJECT_UNIT => (Object::Unit(value), false, true),
        log::OBJECT_IOMMUFD => (Object::Iommufd(value), false, true),
        _ => return Err(Refusal::Malformed(NAME)),
    };
    let named = matches!(step, Step::Refused | Step::ImageOverruled);
    let sound = (has_address || (address.segment, address.bdf) == (0, 0))
        && (has_value || value == 0)
        && named != is_zero(&ser.name);
    let name = Name::new(ser.name).filter(|_| sound);
    Ok(Event {
        real: Duration::from_nanos(ser.real.get()),
        monotonic: Duration::from_nanos(ser.monotonic.get()),
        step,
        object,
        name: name.ok_or(Refusal::Malformed(NAME))?,
    })
}

/// The log of a kernel.
#[derive(Debug)]
pub struct Log<L> {
    list: List<L>,
    /// The number of the next event.
    next: u64,
}

impl<L: Lender> Log<L> {
    /// Physical address of the first page: what LUO carries.
    pub fn phys(&self) -> u64 {
        self.list.phys()
    }

    /// The memory that was lent.
    pub const fn lender(&self) -> &L {
        self.list.lender()
    }

    fn room(&self) -> u64 {
        (*self.list.keys().end()).into()
    }

    fn key(&self, number: u64) -> Option<u32> {
        let place = number.checked_rem(self.room())?;
        u32::try_from(place).ok()?.checked_add(1)
    }

    /// The numbers of the events that have not been overwritten. Before the first of them so many were.
    pub fn numbers(&self) -> Range<u64> {
        self.next.saturating_sub(self.room())..self.next
    }

    /// The event with a number. `None` also for one that is not understood here.
    pub fn event(&self, number: u64) -> Option<Event> {
        let key = self.key(number)?;
        let step = Step::of(self.list.kind(key))?;
        let ser: EventSer = self.list.entry(key, step.number())?;
        decode(step, &ser)
            .ok()
            .filter(|_| ser.number.get() == number)
    }

    /// Adds an event, in place of the oldest if there is no room. Any context.
    pub fn append(&mut self, event: &Event) {
        if let Some(key) = self.key(self.next) {
            self.list.put(key, &encode(self.next, event));
            self.next = self.next.saturating_add(1);
        }
    }

    /// Takes over all that another log of the same size says. Any context.
    pub fn copy<M: Lender>(&mut self, other: &Log<M>) {
        let numbers = other.numbers();
        self.next = numbers.start;
        for number in numbers {
            match other.event(number) {
                Some(event) => self.append(&event),
                None => self.next = number.saturating_add(1),
            }
        }
    }
}

impl<L: Grow> Log<L> {
    /// Makes an empty log with all the memory that it will ever need: so many pages.
    ///
    /// # Errors
    ///
    /// The lender's.
    pub fn create(lender: L, pages: u32) -> Result<Self, Error<L::Error>> {
        let mut list = List::create(lender, FAMILY)?;
        let entries = u32::try_from(ENTRIES).unwrap_or(0);
        list.reserve(pages.saturating_mul(entries), 0)?;
        Ok(Self { list, next: 0 })
    }
}

impl<L: Take> Log<L> {
    /// Takes over the log of another kernel.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and the lender's.
    pub fn decode(lender: L, phys: u64) -> Result<Self, Error<L::Error>> {
        let list = List::decode(lender, phys, FAMILY)?;
        let mut this = Self { list, next: 0 };
        let mut oldest = u64::MAX;
        for key in this.list.keys() {
            let Some(step) = Step::of(this.list.kind(key)) else {
                continue;
            };
            let ser: Option<EventSer> = this.list.entry(key, step.number());
            let ser = ser.ok_or(Refusal::Malformed(NAME))?;
            decode(step, &ser)?;
            let number = ser.number.get();
            if this.key(number) != Some(key) {
                return Err(Refusal::Contradictory(NAME).into());
            }
            let next = number.checked_add(1).ok_or(Refusal::Malformed(NAME))?;
            this.next = this.next.max(next);
            oldest = oldest.min(number);
        }
        match oldest < this.numbers().start {
            true => Err(Refusal::Contradictory(NAME).into()),
            false => Ok(this),
        }
    }
}
