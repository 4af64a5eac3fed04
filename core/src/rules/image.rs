// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! May the machine jump into an image?
//!
//! Everything is known when the image is loaded: what it says of itself and what its command line says. A kernel that does
//! not take over what is handed over to it switches translation off while devices run: they would write wherever
//! their addresses happen to point.

use crate::abi::image::{DEFAULT_HANDOVER, DEFAULT_IOMMU, FORMAT, OWN_LINE};
use crate::facts::{facts, first};
use crate::image::bzimage::{self, Says};
use crate::image::command_line::{iommu, same_pci, same_remapping, switch};
use crate::record::hardware::Kinds;
use crate::refusal::Refusal;

facts! {
    /// Facts about an image: `HITLESS_IMAGE_*`.
    ImageFacts {
        /// It gets nothing of what is handed over, because it was not loaded from a file.
        NO_HANDOVER = 0,
        /// It says nothing of itself.
        NO_RECORD = 1,
        /// It says something that is not understood here, or takes over other formats.
        OTHER_FORMAT = 2,
        /// Its command line switches hitless off.
        HITLESS_OFF = 3,
        /// Kexec handover or live update will not be on.
        HANDOVER_OFF = 4,
        /// The IOMMU will not be on.
        IOMMU_OFF = 5,
        /// Interrupts will be remapped by other words than in this kernel.
        OTHER_REMAPPING = 6,
        /// PCI functions will be numbered or isolated by other words than in this kernel.
        OTHER_PCI = 7,
        /// Its command line says that the machine is to jump all the same.
        ANYWAY = 8,
        /// It does not obey the command line that it is given.
        OWN_LINE = 9,
        /// It is no next kernel: this one goes on where it was when that one is done.
        COMES_BACK = 10,
    }
}

/// The word on the next kernel's command line with which the machine jumps into it all the same.
pub const ANYWAY: (&[u8], Option<&[u8]>) = (b"hitless.jump", Some(b"anyway"));

/// An image that has been loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Facts about it.
    pub facts: ImageFacts,
    /// Features that it takes over (`ImageSer::takes`).
    pub takes: u64,
    /// Features that it needs (`ImageSer::needs`).
    pub needs: u64,
}

/// Reads the image of the next kernel and its command line; `this` is the command line of the running one, and
/// `kinds` the kinds of IOMMU that have words there.
#[must_use]
pub fn read(image: &[u8], next: &[u8], this: &[u8], kinds: Kinds) -> Image {
    let (record, says) = match bzimage::read(image) {
        Says::Nothing => (None, ImageFacts::NO_RECORD),
        Says::Unknown => (None, ImageFacts::OTHER_FORMAT),
        Says::Record(record) if !record.formats().contains(&FORMAT) => {
            (None, ImageFacts::OTHER_FORMAT)
        }
        Says::Record(record) => (Some(record), 0),
    };
    let defaults = record.map_or(0, |record| record.defaults);
    let on = |said: Option<bool>, default| said.unwrap_or(defaults & default != 0);
    // Live update is off unless it is said to be on.
    let handover = on(switch(next, b"kho"), DEFAULT_HANDOVER) && on(switch(next, b"liveupdate"), 0);
    let anyway = crate::image::command_line::words(next).any(|word| word == ANYWAY);
    let facts = [
        (says != 0, says),
        (
            switch(next, b"hitless") == Some(false),
            ImageFacts::HITLESS_OFF,
        ),
        (!handover, ImageFacts::HANDOVER_OFF),
        (
            !on(iommu(next, kinds), DEFAULT_IOMMU),
            ImageFacts::IOMMU_OFF,
        ),
        (!same_remapping(this, next), ImageFacts::OTHER_REMAPPING),
        (!same_pci(this, next), ImageFacts::OTHER_PCI),
        (anyway, ImageFacts::ANYWAY),
        (defaults & OWN_LINE != 0, ImageFacts::OWN_LINE),
    ];
    let facts = facts.iter().filter(|(is, _)| *is);
    Image {
        facts: ImageFacts(facts.fold(0, |all, (_, fact)| all | fact)),
        takes: record.map_or(0, |record| record.takes),
        needs: record.map_or(0, |record| record.needs),
    }
}

/// Why the machine would not jump into an image.
const REASONS: [(u32, Refusal); 8] = [
    (ImageFacts::NO_RECORD, Refusal::ImageWithoutHitless),
    (ImageFacts::OTHER_FORMAT, Refusal::ImageOfOtherFormat),
    (ImageFacts::OWN_LINE, Refusal::ImageOwnLine),
    (ImageFacts::HITLESS_OFF, Refusal::NextHitlessOff),
    (ImageFacts::HANDOVER_OFF, Refusal::NextHandoverOff),
    (ImageFacts::IOMMU_OFF, Refusal::NextIommuOff),
    (ImageFacts::OTHER_REMAPPING, Refusal::NextOtherRemapping),
    (ImageFacts::OTHER_PCI, Refusal::NextOtherPci),
];

/// What there is to lose in a jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Features that what is handed over uses, if anything is.
    pub uses: Option<u64>,
    /// Devices of the previous update run on the tables that they arrived with.
    pub runs: bool,
}

/// May the machine jump into an image? `Some`: it does so only because it is told to, and this is what it has been
/// warned of.
///
/// # Errors
///
/// [`Refusal::NotSwapped`], since only who has swapped a device can hand it on, and those of [`image`].
pub fn jump(loaded: &Image, held: &Held) -> Result<Option<Refusal>, Refusal> {
    // That is a kind of sleep, and asked about as such.
    if loaded.facts.has(ImageFacts::COMES_BACK) {
        return Ok(None);
    }
    let anyway = loaded.facts.has(ImageFacts::ANYWAY);
    if held.runs && !anyway {
        return Err(Refusal::NotSwapped);
    }
    let warning = held.uses.map_or(Ok(None), |uses| image(loaded, uses))?;
    Ok(warning.or(held.runs.then_some(Refusal::NotSwapped)))
}

/// May the machine jump into an image, if what is handed over `uses` these features? `Some`: as in [`jump`].
///
/// # Errors
///
/// Why not. To an image that gets nothing all memory is free: nobody can want that.
pub fn image(image: &Image, uses: u64) -> Result<Option<Refusal>, Refusal> {
    let needs_more = image.needs & !uses != 0;
    let needs = if needs_more {
        Err(Refusal::ImageNeedsMore)
    } else {
        Ok(())
    };
    unless_told(image, takes(image, uses).and(needs))
}

/// Does an image that the machine is about to jump into take over one device, which `uses` these features? The jump was
/// allowed with what had been preserved by then, and this device may have come later.
///
/// # Errors
///
/// Why not.
pub fn device(image: &Image, uses: u64) -> Result<(), Refusal> {
    unless_told(image, takes(image, uses)).map(drop)
}

fn takes(image: &Image, uses: u64) -> Result<(), Refusal> {
    first(image.facts.0, &REASONS)?;
    if uses & !image.takes != 0 {
        return Err(Refusal::ImageTakesLess);
    }
    Ok(())
}

/// The command line can say that the machine is to jump all the same.
fn unless_told(image: &Image, fits: Result<(), Refusal>) -> Result<Option<Refusal>, Refusal> {
    if image.facts.has(ImageFacts::NO_HANDOVER) {
        return Err(Refusal::NoHandover);
    }
    match fits {
        Err(refusal) if image.facts.has(ImageFacts::ANYWAY) => Ok(Some(refusal)),
        fits => fits.map(|()| None),
    }
}
