// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Do the tables say what the records say? The bridge from records to the table code of [`vtd`].

use crate::model::{Attachment, EntryFacts, Format, Mode, Table};
use crate::vtd::adopt::{AdoptedDevice, AdoptedPasid};
use crate::vtd::legacy::{self, ContextTarget};
use crate::vtd::scalable::{self, DirectorySize, PasidEntry};
use crate::vtd::{
    self, page_table, read_entry, Bdf, DomainId, Entry, HostAddressWidth, Memory, Refusal,
    TableAddress,
};

/// Which addresses a table may have. The width of the platform is not asked: what lies beyond it is
/// no memory, and refused when it is read.
const WIDTH: HostAddressWidth = HostAddressWidth::MAX;

/// A table's address, checked.
///
/// # Errors
///
/// [`Refusal::Misaligned`], [`Refusal::BeyondHost`].
pub fn address(address: u64) -> Result<TableAddress, Refusal> {
    TableAddress::new(address, WIDTH)
}

/// The unit as the table code takes it.
///
/// # Errors
///
/// As [`address`], for the root table.
pub fn unit(mode: Mode, root_table: u64) -> Result<vtd::Unit, Refusal> {
    Ok(vtd::Unit {
        mode: match mode {
            Mode::Legacy => vtd::Mode::Legacy,
            Mode::Scalable => vtd::Mode::Scalable,
        },
        root_table: address(root_table)?,
        width: WIDTH,
    })
}

/// The format of a page table as the table code takes it.
///
/// # Errors
///
/// [`Refusal::UnknownLevels`].
pub const fn format(table: &Table) -> Result<page_table::Format, Refusal> {
    match table.format {
        Format::SecondStage => page_table::Format::second_stage(table.levels),
        Format::FirstStage => page_table::Format::first_stage(table.levels),
    }
}

/// A recorded device as the table code takes it.
///
/// # Errors
///
/// As [`address`] and [`format`]; [`Refusal::WrongMode`] for a directory of a size that there is not.
pub fn adopted(attachment: &Attachment, table: &Table) -> Result<AdoptedDevice, Refusal> {
    let bdf = Bdf(attachment.address.bdf);
    let scalable = match attachment.pasid_directory {
        0 => None,
        directory => Some(AdoptedPasid {
            directory: address(directory)?,
            size: DirectorySize::for_max_pasid(attachment.max_pasid)
                .ok_or(Refusal::WrongMode(bdf))?,
            table: address(attachment.pasid_table)?,
            page_walk_snoop: attachment.entry.walk_snoop,
            page_snoop: attachment.entry.page_snoop,
        }),
    };
    Ok(AdoptedDevice {
        bdf,
        context_table: address(attachment.context_table)?,
        domain_id: DomainId(attachment.domain_id),
        page_table: address(table.top)?,
        format: format(table)?,
        device_tlb: attachment.entry.device_tlb,
        scalable,
    })
}

/// What a device's live entries say that its attachment does not. Only the outgoing kernel asks: the
/// incoming one checks it.
///
/// # Errors
///
/// [`Refusal::Missing`] and what the decoders and [`Memory::read`] refuse.
pub fn observe<M: Memory>(memory: &M, attachment: &Attachment) -> Result<EntryFacts, Refusal> {
    let bdf = Bdf(attachment.address.bdf);
    let table = address(attachment.context_table)?;
    let missing = Refusal::Missing(Entry::Context, bdf);
    if attachment.pasid_directory == 0 {
        let words = read_entry(memory, table, usize::from(bdf.devfn()))?;
        let context = legacy::ContextEntry::decode(words, WIDTH)?.ok_or(missing)?;
        return Ok(EntryFacts {
            device_tlb: matches!(
                context.target,
                ContextTarget::SecondStage {
                    device_tlb: true,
                    ..
                }
            ),
            ..EntryFacts::default()
        });
    }
    let words = read_entry(memory, table, usize::from(bdf.devfn() & 0x7f))?;
    let context = scalable::ContextEntry::decode(words, WIDTH)?.ok_or(missing)?;
    let words = read_entry(memory, address(attachment.pasid_table)?, 0)?;
    let pasid = PasidEntry::decode(words, WIDTH)?.ok_or(Refusal::Missing(Entry::Pasid, bdf))?;
    Ok(EntryFacts {
        device_tlb: context.device_tlb,
        walk_snoop: pasid.page_walk_snoop,
        page_snoop: pasid.page_snoop,
    })
}
