// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the planner of a swap refuses, field by field.

use hitless_core::iommu::address::DomainId;
use hitless_core::iommu::flaw::Entry;
use hitless_core::iommu::flaw::Field;
use hitless_core::iommu::flaw::Flaw;
use hitless_core::iommu::plan::Plan;
use hitless_core::iommu::plan::Step;
use hitless_core::iommu::pt::vtdss::Levels;
use hitless_core::iommu::pt::x86_64;
use hitless_core::iommu::vtd::legacy::{self, ContextTarget};
use hitless_core::iommu::vtd::pasid::PasidEntry;
use hitless_core::iommu::vtd::pasid::PasidTarget;
use hitless_core::iommu::vtd::swap::plan_context;
use hitless_core::iommu::vtd::swap::plan_pasid;
use hitless_core::iommu::vtd::swap::Capabilities;
use hitless_sim::memory::{table, width};

const CAPABLE: Capabilities = Capabilities {
    compare_exchange_128: true,
    device_tlb: true,
};

fn second_stage() -> PasidEntry {
    PasidEntry {
        domain_id: DomainId(5),
        target: PasidTarget::SecondStage {
            table: table(0x1000),
            levels: Levels::Four,
            accessed_dirty: false,
        },
        page_walk_snoop: true,
        page_snoop: false,
        fault_processing_disabled: false,
    }
}

fn first_stage() -> PasidEntry {
    PasidEntry {
        target: PasidTarget::FirstStage {
            table: table(0x1000),
            levels: x86_64::Levels::Four,
            address_width: Levels::Four,
            supervisor_requests: false,
            write_protect: false,
            extended_accessed: false,
        },
        ..second_stage()
    }
}

fn moved(mut entry: PasidEntry) -> PasidEntry {
    match &mut entry.target {
        PasidTarget::FirstStage { table: at, .. } | PasidTarget::SecondStage { table: at, .. } => {
            *at = table(0x2000);
        }
        PasidTarget::PassThrough { .. } => {}
    }
    entry
}

fn swap(old: PasidEntry, new: PasidEntry) -> Result<Plan, Flaw> {
    plan_pasid(old.encode(), new.encode(), 0, CAPABLE, width())
}

#[test]
fn each_field_of_a_pasid_entry_that_differs_is_named() {
    type Change = fn(&mut PasidEntry);
    let cases: [(Field, PasidEntry, Change); 13] = [
        (Field::DomainId, second_stage(), |e| e.domain_id.0 += 1),
        (Field::DomainId, first_stage(), |e| e.domain_id.0 += 1),
        (Field::PageWalkSnoop, second_stage(), |e| {
            e.page_walk_snoop = false
        }),
        (Field::PageWalkSnoop, first_stage(), |e| {
            e.page_walk_snoop = false
        }),
        (Field::PageSnoop, first_stage(), |e| e.page_snoop = true),
        (Field::FaultProcessing, second_stage(), |e| {
            e.fault_processing_disabled = true
        }),
        (Field::AddressWidth, second_stage(), |e| {
            if let PasidTarget::SecondStage { levels, .. } = &mut e.target {
                *levels = Levels::Five;
            }
        }),
        (Field::AccessedDirty, second_stage(), |e| {
            if let PasidTarget::SecondStage { accessed_dirty, .. } = &mut e.target {
                *accessed_dirty = true;
            }
        }),
        (Field::PagingMode, first_stage(), |e| {
            if let PasidTarget::FirstStage { levels, .. } = &mut e.target {
                *levels = x86_64::Levels::Five;
            }
        }),
        (Field::SupervisorRequest, first_stage(), |e| {
            if let PasidTarget::FirstStage {
                supervisor_requests,
                ..
            } = &mut e.target
            {
                *supervisor_requests = true;
            }
        }),
        (Field::WriteProtect, first_stage(), |e| {
            if let PasidTarget::FirstStage { write_protect, .. } = &mut e.target {
                *write_protect = true;
            }
        }),
        (Field::ExtendedAccessed, first_stage(), |e| {
            if let PasidTarget::FirstStage {
                extended_accessed, ..
            } = &mut e.target
            {
                *extended_accessed = true;
            }
        }),
        (Field::AddressWidth, first_stage(), |e| {
            if let PasidTarget::FirstStage { address_width, .. } = &mut e.target {
                *address_width = Levels::Three;
            }
        }),
    ];
    for (field, old, change) in cases {
        let mut new = moved(old);
        assert!(swap(old, new).is_ok());
        change(&mut new);
        assert_eq!(swap(old, new), Err(Flaw::Differs(field)));
    }
    for (old, new) in [
        (second_stage(), moved(first_stage())),
        (first_stage(), moved(second_stage())),
    ] {
        let refusal = Flaw::Differs(Field::TranslationType);
        assert_eq!(swap(old, new), Err(refusal));
    }
}

#[test]
fn entries_that_cannot_be_swapped_are_refused() {
    let old = second_stage();
    assert_eq!(swap(old, old), Err(Flaw::SameTable));
    let absent = Err(Flaw::NotPresent(Entry::Pasid));
    let new = moved(old).encode();
    assert_eq!(plan_pasid([0; 8], new, 0, CAPABLE, width()), absent);
    assert_eq!(plan_pasid(new, [0; 8], 0, CAPABLE, width()), absent);
    let through = PasidEntry {
        target: PasidTarget::PassThrough {
            address_width: Levels::Four,
        },
        ..old
    };
    let untranslated = Err(Flaw::TranslationType(Entry::Pasid));
    assert_eq!(swap(old, through), untranslated);
    assert_eq!(swap(through, old), untranslated);
}

fn context(at: u64) -> legacy::ContextEntry {
    legacy::ContextEntry {
        domain_id: DomainId(5),
        target: ContextTarget::SecondStage {
            table: table(at),
            levels: Levels::Four,
            device_tlb: false,
        },
        fault_processing_disabled: false,
    }
}

#[test]
fn contexts_that_cannot_be_swapped_are_refused() {
    let swap = |old: legacy::ContextEntry, new: legacy::ContextEntry, capabilities| {
        plan_context(old.encode(), new.encode(), capabilities, width())
    };
    let old = context(0x1000);
    let new = context(0x2000);
    assert_eq!(swap(old, old, CAPABLE), Err(Flaw::SameTable));

    let mut silent = new;
    silent.fault_processing_disabled = true;
    let refusal = Flaw::Differs(Field::FaultProcessing);
    assert_eq!(swap(old, silent, CAPABLE), Err(refusal));

    let through = legacy::ContextEntry {
        target: ContextTarget::PassThrough {
            levels: Levels::Four,
        },
        ..new
    };
    let untranslated = Err(Flaw::TranslationType(Entry::Context));
    assert_eq!(swap(old, through, CAPABLE), untranslated);
    assert_eq!(swap(through, old, CAPABLE), untranslated);

    let absent = Err(Flaw::NotPresent(Entry::Context));
    assert_eq!(plan_context([0; 2], new.encode(), CAPABLE, width()), absent);
    assert_eq!(plan_context(old.encode(), [0; 2], CAPABLE, width()), absent);
}

#[test]
fn two_words_need_a_compare_exchange() {
    let narrow = Capabilities {
        compare_exchange_128: false,
        ..CAPABLE
    };
    let old = context(0x1000).encode();
    let mut new = context(0x2000);
    assert!(plan_context(old, new.encode(), narrow, width()).is_ok());
    new.domain_id.0 += 1;
    let plan = plan_context(old, new.encode(), narrow, width());
    assert_eq!(plan, Err(Flaw::NeedsCompareExchange128));
    assert!(plan_context(old, new.encode(), CAPABLE, width()).is_ok());
}

/// Translated requests fault under TT 0: only a device that makes none can do without TT 1.
#[test]
fn a_device_tlb_in_use_is_not_taken_away() {
    let with = |at, allowed| {
        let mut entry = context(at);
        if let ContextTarget::SecondStage { device_tlb, .. } = &mut entry.target {
            *device_tlb = allowed;
        }
        entry.encode()
    };
    let unused = Capabilities {
        device_tlb: false,
        ..CAPABLE
    };
    for (old, new, capabilities, accepted) in [
        (true, false, CAPABLE, false),
        (true, false, unused, true),
        (true, true, CAPABLE, true),
        (false, true, CAPABLE, true),
        (false, false, CAPABLE, true),
    ] {
        let plan = plan_context(with(0x1000, old), with(0x2000, new), capabilities, width());
        match accepted {
            true => assert!(plan.is_ok()),
            false => assert_eq!(plan, Err(Flaw::Differs(Field::TranslationType))),
        }
    }
}

/// TT sits in the word with the pointer, so a device TLB can be allowed on the way.
#[test]
fn the_device_tlb_bit_changes_with_the_pointer() {
    let old = context(0x1000);
    let new = legacy::ContextEntry {
        target: ContextTarget::SecondStage {
            table: table(0x2000),
            levels: Levels::Four,
            device_tlb: true,
        },
        ..old
    };
    let [value, _] = new.encode();
    let plan = plan_context(old.encode(), new.encode(), CAPABLE, width()).expect("planned");
    assert_eq!(plan.steps().next(), Some(Step::Store64 { word: 0, value }));
    let invalidations: Vec<_> = plan.steps().skip(1).collect();
    let did = DomainId(5);
    assert_eq!(
        invalidations,
        [
            Step::InvalidateContext { did },
            Step::InvalidateIotlb { did },
            Step::InvalidateDeviceTlb,
            Step::Release
        ]
    );
}
