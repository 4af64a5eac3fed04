// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The planner of a swap: how a present context or PASID entry becomes another one while the device
//! goes on doing DMA.
//!
//! Hardware may fetch the entry, or use what it has cached of it, at any moment. So the plan changes
//! it by exactly one atomic write: a fetch sees the whole old or the whole new entry.
//!
//! - Legacy context entry (128 bits): one 64-bit store if only one word differs, else one 128-bit
//!   compare-exchange.
//! - PASID entry (512 bits): one 64-bit store of the word with the table pointer. All other words
//!   must be equal, domain id included: the new domain has to take over the old domain's id.
//!
//! Until the invalidations have completed, caches may still hold old entries, upper-level pointers
//! and translations (VT-d 6.2): the old tables must stay as they are. [`Step::Release`] marks the
//! end of that, and nothing of the old domain may be changed, freed or reused before it.
//!
//! What the caller answers for: both entries' tables map the same addresses; the new tables are
//! complete and visible to hardware; and of a domain with several devices the tables (and the domain
//! id) are only given up at the [`Step::Release`] of the last one. Until then devices that share a
//! domain id may see old and new translations by turns, since caches are tagged with it. So a device
//! with a TLB of its own must not keep an id that others still use: it would fetch old translations
//! again after its TLB was invalidated (`rules::domain_id` sees to that).

use super::legacy::{self, ContextEntry, ContextTarget};
use super::pasid::{PasidEntry, PasidTarget, FIRST_STAGE_WORD, PASID_WORDS, SECOND_STAGE_WORD};
use crate::iommu::address::HostAddressWidth;
use crate::iommu::flaw::{Entry, Field, Flaw};
use crate::iommu::plan::{Plan, Step};
use crate::iommu::pt::format::Format;

/// What the machine and the device can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The processor has a 128-bit compare-exchange, and the unit reads context entries in one
    /// 128-bit access.
    pub compare_exchange_128: bool,
    /// The device has translation caches of its own that are enabled (ATS).
    pub device_tlb: bool,
}

/// Plans the change of a legacy context entry from `old`, which is what memory holds now, to `new`.
///
/// Everything may differ: domain id, table, levels, and whether the device may use a device TLB, but one
/// that it uses is not taken away. (In scalable mode that is said in the context entry, which a swap
/// leaves alone.)
///
/// # Errors
///
/// [`Flaw::NotPresent`] and what [`ContextEntry::decode`] refuses, for either entry;
/// [`Flaw::TranslationType`] for pass-through; [`Flaw::SameTable`];
/// [`Flaw::Differs`] for fault processing, and for the translation type if that takes a device TLB away;
/// [`Flaw::NeedsCompareExchange128`].
pub fn plan_context(
    old: [u64; legacy::ENTRY_WORDS],
    new: [u64; legacy::ENTRY_WORDS],
    capabilities: Capabilities,
    width: HostAddressWidth,
) -> Result<Plan, Flaw> {
    const ABSENT: Flaw = Flaw::NotPresent(Entry::Context);
    const UNTRANSLATED: Flaw = Flaw::TranslationType(Entry::Context);
    let from = ContextEntry::decode(old, width)?.ok_or(ABSENT)?;
    let to = ContextEntry::decode(new, width)?.ok_or(ABSENT)?;
    let ContextTarget::SecondStage {
        table: old_table,
        device_tlb: old_tlb,
        ..
    } = from.target
    else {
        return Err(UNTRANSLATED);
    };
    let ContextTarget::SecondStage {
        table: new_table,
        device_tlb: new_tlb,
        ..
    } = to.target
    else {
        return Err(UNTRANSLATED);
    };
    // A device goes on sending what its TLB has translated, and under TT 0 that faults.
    if capabilities.device_tlb && old_tlb && !new_tlb {
        return Err(Flaw::Differs(Field::TranslationType));
    }
    if old_table == new_table {
        return Err(Flaw::SameTable);
    }
    if from.fault_processing_disabled != to.fault_processing_disabled {
        return Err(Flaw::Differs(Field::FaultProcessing));
    }

    let [old_low, old_high] = old;
    let [new_low, new_high] = new;
    // The tables differ, so the low word does.
    let write = if old_high == new_high {
        Step::Store64 {
            word: 0,
            value: new_low,
        }
    } else if capabilities.compare_exchange_128 {
        Step::CompareExchange128 {
            word: 0,
            old: [old_low, old_high],
            new: [new_low, new_high],
        }
    } else {
        return Err(Flaw::NeedsCompareExchange128);
    };

    // VT-d 6.5.3.3 for a context entry that was present: device-selective context-cache, then
    // domain-selective IOTLB, then the device TLB, all for the domain that was.
    let did = from.domain_id;
    Ok(Plan::new([
        Some(write),
        Some(Step::InvalidateContext { did }),
        Some(Step::InvalidateIotlb { did }),
        capabilities.device_tlb.then_some(Step::InvalidateDeviceTlb),
        Some(Step::Release),
    ]))
}

/// Plans the change of the entry of `pasid` from `old`, which is what memory holds now, to `new`.
///
/// # Errors
///
/// [`Flaw::NotPresent`] and what [`PasidEntry::decode`] refuses, for either entry;
/// [`Flaw::TranslationType`] for pass-through; [`Flaw::SameTable`]; and
/// [`Flaw::Differs`] with the first field other than the table pointer that differs: no such
/// change can be made without a faulting moment.
pub fn plan_pasid(
    old: [u64; PASID_WORDS],
    new: [u64; PASID_WORDS],
    pasid: u32,
    capabilities: Capabilities,
    width: HostAddressWidth,
) -> Result<Plan, Flaw> {
    const ABSENT: Flaw = Flaw::NotPresent(Entry::Pasid);
    const UNTRANSLATED: Flaw = Flaw::TranslationType(Entry::Pasid);
    let from = PasidEntry::decode(old, width)?.ok_or(ABSENT)?;
    let to = PasidEntry::decode(new, width)?.ok_or(ABSENT)?;
    let (old_table, format) = from.page_table().ok_or(UNTRANSLATED)?;
    let (new_table, _) = to.page_table().ok_or(UNTRANSLATED)?;
    if let Some(field) = first_difference(&from, &to) {
        return Err(Flaw::Differs(field));
    }
    if old_table == new_table {
        return Err(Flaw::SameTable);
    }

    let [second_stage, _, first_stage, ..] = new;
    let (word, value) = match format {
        Format::Vtdss(_) => (SECOND_STAGE_WORD, second_stage),
        Format::X86_64(_) => (FIRST_STAGE_WORD, first_stage),
    };
    // VT-d 6.5.3.3 for a PASID entry that was present: the PASID cache first, or stale entries would
    // refill the IOTLB; then the IOTLB, domain-selective for second stage and PASID-selective for
    // first stage; then the device TLB.
    let did = from.domain_id;
    let iotlb = match format {
        Format::Vtdss(_) => Step::InvalidateIotlb { did },
        Format::X86_64(_) => Step::InvalidatePasidIotlb { did, pasid },
    };
    Ok(Plan::new([
        Some(Step::Store64 { word, value }),
        Some(Step::InvalidatePasidCache { did, pasid }),
        Some(iotlb),
        capabilities.device_tlb.then_some(Step::InvalidateDeviceTlb),
        Some(Step::Release),
    ]))
}

/// The first field, the table pointer aside, in which the entries differ.
fn first_difference(from: &PasidEntry, to: &PasidEntry) -> Option<Field> {
    let differs = |changed: bool, field: Field| changed.then_some(field);
    let target = match (from.target, to.target) {
        (
            PasidTarget::FirstStage {
                table: _,
                levels,
                address_width,
                supervisor_requests,
                write_protect,
                extended_accessed,
            },
            PasidTarget::FirstStage {
                table: _,
                levels: new_levels,
                address_width: new_address_width,
                supervisor_requests: new_supervisor_requests,
                write_protect: new_write_protect,
                extended_accessed: new_extended_accessed,
            },
        ) => differs(levels != new_levels, Field::PagingMode)
            .or(differs(
                address_width != new_address_width,
                Field::AddressWidth,
            ))
            .or(differs(
                supervisor_requests != new_supervisor_requests,
                Field::SupervisorRequest,
            ))
            .or(differs(
                write_protect != new_write_protect,
                Field::WriteProtect,
            ))
            .or(differs(
                extended_accessed != new_extended_accessed,
                Field::ExtendedAccessed,
            )),
        (
            PasidTarget::SecondStage {
                table: _,
                levels,
                accessed_dirty,
            },
            PasidTarget::SecondStage {
                table: _,
                levels: new_levels,
                accessed_dirty: new_accessed_dirty,
            },
        ) => differs(levels != new_levels, Field::AddressWidth).or(differs(
            accessed_dirty != new_accessed_dirty,
            Field::AccessedDirty,
        )),
        _ => Some(Field::TranslationType),
    };
    target
        .or(differs(from.domain_id != to.domain_id, Field::DomainId))
        .or(differs(
            from.page_walk_snoop != to.page_walk_snoop,
            Field::PageWalkSnoop,
        ))
        .or(differs(from.page_snoop != to.page_snoop, Field::PageSnoop))
        .or(differs(
            from.fault_processing_disabled != to.fault_processing_disabled,
            Field::FaultProcessing,
        ))
}
