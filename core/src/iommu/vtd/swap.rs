// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A swap: how a present context or PASID entry becomes another one while the device goes on doing DMA.
//!
//! [`decide`] takes all facts and has the only say. The rest of this file are its means: the planners of
//! a legacy context entry and of a PASID entry.
//!
//! Hardware may fetch the entry, or use what it has cached of it, at any moment. So a plan changes
//! it by exactly one atomic write: a fetch sees the whole old or the whole new entry.
//!
//! - Legacy context entry (128 bits): one 64-bit store if only one word differs, else one 128-bit
//!   compare-exchange.
//! - PASID entry (512 bits) in second stage: table pointer, levels and type are in word 0 and the domain
//!   id in word 1 of the same 128 bits, so the same holds.
//! - PASID entry in first stage: one 64-bit store of the word with the table pointer, word 2. All other
//!   words must be equal, domain id included: the new domain has to take over the old domain's id.
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
//! again after its TLB was invalidated ([`IdUse::hands_over`] sees to that).

use super::context::{self, ContextEntry, ContextTarget, CONTEXT_WORDS};
use super::pasid::{PasidEntry, PasidTarget, FIRST_STAGE_WORD, PASID_WORDS, SECOND_STAGE_WORD};
use crate::iommu::address::{DomainId, HostAddressWidth};
use crate::iommu::change::{IdUse, SwapFacts};
use crate::iommu::flaw::{Entry, Field, Flaw};
use crate::iommu::plan::{Plan, Step};
use crate::iommu::pt::format::Format;
use crate::refusal::Refusal;

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
    old: [u64; CONTEXT_WORDS],
    new: [u64; CONTEXT_WORDS],
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
/// In second stage everything may differ but fault processing.
///
/// # Errors
///
/// [`Flaw::NotPresent`] and what [`PasidEntry::decode`] refuses, for either entry;
/// [`Flaw::TranslationType`] for pass-through; [`Flaw::SameTable`]; [`Flaw::Differs`] with the first field
/// that cannot change without a faulting moment; [`Flaw::NeedsCompareExchange128`].
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
    if let Some(field) = fixed_difference(&from, &to) {
        return Err(Flaw::Differs(field));
    }
    if old_table == new_table {
        return Err(Flaw::SameTable);
    }

    let [old_low, old_high, ..] = old;
    let [low, high, first_stage, ..] = new;
    let write = match format {
        Format::Vtdss(_) if old_high == high => Step::Store64 {
            word: SECOND_STAGE_WORD,
            value: low,
        },
        Format::Vtdss(_) if capabilities.compare_exchange_128 => Step::CompareExchange128 {
            word: SECOND_STAGE_WORD,
            old: [old_low, old_high],
            new: [low, high],
        },
        Format::Vtdss(_) => return Err(Flaw::NeedsCompareExchange128),
        Format::X86_64(_) => Step::Store64 {
            word: FIRST_STAGE_WORD,
            value: first_stage,
        },
    };
    // VT-d 6.5.3.3 for a PASID entry that was present: the PASID cache first, or stale entries would
    // refill the IOTLB; then the IOTLB, domain-selective for second stage and PASID-selective for
    // first stage; then the device TLB. All for the domain that was.
    let did = from.domain_id;
    let iotlb = match format {
        Format::Vtdss(_) => Step::InvalidateIotlb { did },
        Format::X86_64(_) => Step::InvalidatePasidIotlb { did, pasid },
    };
    Ok(Plan::new([
        Some(write),
        Some(Step::InvalidatePasidCache { did, pasid }),
        Some(iotlb),
        capabilities.device_tlb.then_some(Step::InvalidateDeviceTlb),
        Some(Step::Release),
    ]))
}

/// The first field, the table pointer aside, that differs and is not in the 128 bits that change at once.
/// Of those only fault processing has to stay: whether faults are reported is no matter of a swap.
fn fixed_difference(from: &PasidEntry, to: &PasidEntry) -> Option<Field> {
    let differs = |changed: bool, field: Field| changed.then_some(field);
    let silent = differs(
        from.fault_processing_disabled != to.fault_processing_disabled,
        Field::FaultProcessing,
    );
    let target = match (from.target, to.target) {
        (PasidTarget::SecondStage { .. }, PasidTarget::SecondStage { .. }) => return silent,
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
        _ => Some(Field::TranslationType),
    };
    target
        .or(differs(from.domain_id != to.domain_id, Field::DomainId))
        .or(differs(
            from.page_walk_snoop != to.page_walk_snoop,
            Field::PageWalkSnoop,
        ))
        .or(differs(from.page_snoop != to.page_snoop, Field::PageSnoop))
        .or(silent)
}

/// The live entry of a device and what shall be in it, both as words. The domain id in the new words does not
/// matter: [`decide`] puts one in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// A legacy context entry.
    Context {
        /// What memory holds now.
        old: [u64; CONTEXT_WORDS],
        /// What it shall hold.
        new: [u64; CONTEXT_WORDS],
    },
    /// The PASID table entry for requests without PASID, PASID 0.
    Pasid {
        /// What memory holds now.
        old: [u64; PASID_WORDS],
        /// What it shall hold.
        new: [u64; PASID_WORDS],
    },
}

impl Words {
    /// The domain id in the live entry, if that is present.
    fn old_id(&self, width: HostAddressWidth) -> Result<Option<DomainId>, Flaw> {
        Ok(match *self {
            Self::Context { old, .. } => {
                ContextEntry::decode(old, width)?.map(|entry| entry.domain_id)
            }
            Self::Pasid { old, .. } => PasidEntry::decode(old, width)?.map(|entry| entry.domain_id),
        })
    }

    /// The plan, if the new entry gets this domain id.
    fn plan(
        &self,
        id: DomainId,
        capabilities: Capabilities,
        width: HostAddressWidth,
    ) -> Result<Plan, Flaw> {
        match *self {
            Self::Context { old, new } => {
                let new = context::with_domain_id(new, id);
                plan_context(old, new, capabilities, width)
            }
            Self::Pasid { old, new } => {
                let new = super::pasid::with_domain_id(new, id);
                plan_pasid(old, new, NO_PASID, capabilities, width)
            }
        }
    }
}

/// The PASID of requests without PASID.
const NO_PASID: u32 = 0;

/// Everything that a swap depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swap {
    /// Facts about the device and its entry.
    pub facts: SwapFacts,
    /// The old domain's id on the unit.
    pub old_id: DomainId,
    /// The new domain's id on the unit. If it has none there, one that was set aside for it and is given back
    /// if it is not used.
    pub new_id: DomainId,
    /// Who uses these ids.
    pub id_use: IdUse,
    /// What the machine and the device can do.
    pub capabilities: Capabilities,
    /// The entry.
    pub words: Words,
}

/// Which domain id the new domain has on the unit afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewId {
    /// The old domain's, which does not have it any more.
    HandedOver,
    /// Its own: [`Swap::new_id`].
    Own,
}

/// How a device changes to the new domain.
#[allow(
    clippy::large_enum_variant,
    reason = "there is no memory to put a plan into, and one decision at a time"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Carry the plan out: no DMA faults. If its first step fails nothing has changed, and no other step
    /// can fail.
    InPlace {
        /// The steps.
        plan: Plan,
        /// The new domain's id.
        id: NewId,
    },
    /// Clear the entry, then write the new one: DMA in between faults.
    BlockFirst,
}

/// Decides how a device changes from one domain to another.
///
/// A device that is on its restored domain is never blocked: if its entry cannot be changed in place, the swap
/// is refused, and everything stays as it is.
///
/// # Errors
///
/// For a device on its restored domain: [`Refusal::NotSwappable`] if something is in the way of rewriting the
/// entry, [`Refusal::SharedHwpt`] if the entry needs the domain id handed over and others use that, and
/// [`Refusal::Table`] with what the planner refuses.
pub fn decide(swap: &Swap) -> Result<Decision, Refusal> {
    let in_place = if swap.facts.is_in_the_way() {
        Err(Refusal::NotSwappable)
    } else {
        in_place(swap)
    };
    match in_place {
        Ok(decision) => Ok(decision),
        Err(refusal) if swap.facts.has(SwapFacts::RESTORED) => Err(refusal),
        Err(_) => Ok(Decision::BlockFirst),
    }
}

fn in_place(swap: &Swap) -> Result<Decision, Refusal> {
    let width = HostAddressWidth::MAX;
    let id_differs = Flaw::Differs(Field::DomainId);
    if swap.words.old_id(width)? != Some(swap.old_id) {
        // Who would invalidate the caches of whom is not known then.
        return Err(match swap.words.old_id(width)? {
            Some(_) => id_differs.into(),
            None => Refusal::NotSwappable,
        });
    }
    let (id, number) = if swap.id_use.hands_over() {
        (NewId::HandedOver, swap.old_id)
    } else if swap.new_id == swap.old_id {
        // Two domains never share an id.
        return Err(Refusal::NotSwappable);
    } else {
        (NewId::Own, swap.new_id)
    };
    match swap.words.plan(number, swap.capabilities, width) {
        Ok(plan) => Ok(Decision::InPlace { plan, id }),
        Err(flaw) if flaw == id_differs && id == NewId::Own => Err(Refusal::SharedHwpt),
        Err(flaw) => Err(flaw.into()),
    }
}
