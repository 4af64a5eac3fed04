// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the planner of a swap refuses, field by field.

use hitless_core::iommu::address::DomainId;
use hitless_core::iommu::change::{IdUse, SwapFacts};
use hitless_core::iommu::flaw::{Entry, Field, Flaw};
use hitless_core::iommu::plan::{Plan, Step};
use hitless_core::iommu::pt::vtdss::Levels;
use hitless_core::iommu::pt::x86_64;
use hitless_core::iommu::vtd::context::{ContextEntry, ContextTarget};
use hitless_core::iommu::vtd::pasid::{PasidEntry, PasidTarget};
use hitless_core::iommu::vtd::swap::{
    decide, plan_context, plan_pasid, Capabilities, Decision, NewId, Swap, Words,
};
use hitless_core::refusal::Refusal;
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
fn each_field_of_a_pasid_entry_that_cannot_change_is_named() {
    type Change = fn(&mut PasidEntry);
    let cases: [(Field, PasidEntry, Change); 10] = [
        (Field::DomainId, first_stage(), |e| e.domain_id.0 += 1),
        (Field::PageWalkSnoop, first_stage(), |e| {
            e.page_walk_snoop = false
        }),
        (Field::PageSnoop, first_stage(), |e| e.page_snoop = true),
        (Field::FaultProcessing, first_stage(), |e| {
            e.fault_processing_disabled = true
        }),
        (Field::FaultProcessing, second_stage(), |e| {
            e.fault_processing_disabled = true
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

fn context(at: u64) -> ContextEntry {
    ContextEntry {
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
    let swap = |old: ContextEntry, new: ContextEntry, capabilities| {
        plan_context(old.encode(), new.encode(), capabilities, width())
    };
    let old = context(0x1000);
    let new = context(0x2000);
    assert_eq!(swap(old, old, CAPABLE), Err(Flaw::SameTable));

    let mut silent = new;
    silent.fault_processing_disabled = true;
    let refusal = Flaw::Differs(Field::FaultProcessing);
    assert_eq!(swap(old, silent, CAPABLE), Err(refusal));

    let through = ContextEntry {
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

/// In second stage too, and what sits beside the pointer changes with it.
#[test]
fn two_words_of_a_pasid_entry_need_a_compare_exchange() {
    let narrow = Capabilities {
        compare_exchange_128: false,
        ..CAPABLE
    };
    let plan = |new: PasidEntry, capabilities| {
        plan_pasid(
            second_stage().encode(),
            new.encode(),
            0,
            capabilities,
            width(),
        )
    };
    let mut new = moved(second_stage());
    if let PasidTarget::SecondStage {
        levels,
        accessed_dirty,
        ..
    } = &mut new.target
    {
        *levels = Levels::Five;
        *accessed_dirty = true;
    }
    assert!(plan(new, narrow).is_ok());
    let changes: [fn(&mut PasidEntry); 3] = [
        |entry| entry.domain_id.0 += 1,
        |entry| entry.page_walk_snoop = false,
        |entry| entry.page_snoop = true,
    ];
    for change in changes {
        let mut new = new;
        change(&mut new);
        assert_eq!(plan(new, narrow), Err(Flaw::NeedsCompareExchange128));
        let words = new.encode();
        let step = plan(new, CAPABLE).expect("planned").steps().next();
        assert!(matches!(
            step,
            Some(Step::CompareExchange128 { word: 0, new, .. }) if new == [words[0], words[1]]
        ));
    }
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
    let new = ContextEntry {
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

/// All that a swap of the only device of a restored domain depends on.
fn restored(words: Words) -> Swap {
    Swap {
        facts: SwapFacts(SwapFacts::RESTORED),
        old_id: DomainId(5),
        new_id: DomainId(7),
        id_use: IdUse {
            users: 1,
            has_own: false,
        },
        capabilities: CAPABLE,
        words,
    }
}

/// A swap in each format; the id in the new entry is any.
fn swaps() -> [Swap; 3] {
    let mut legacy = context(0x2000);
    legacy.domain_id.0 = 0x1234;
    let pasid = |old: PasidEntry| {
        let mut new = moved(old);
        new.domain_id.0 = 0x4321;
        restored(Words::Pasid {
            old: old.encode(),
            new: new.encode(),
        })
    };
    [
        restored(Words::Context {
            old: context(0x1000).encode(),
            new: legacy.encode(),
        }),
        pasid(second_stage()),
        pasid(first_stage()),
    ]
}

fn id_of(decision: &Decision) -> Option<NewId> {
    match decision {
        Decision::InPlace { id, .. } => Some(*id),
        Decision::BlockFirst => None,
    }
}

/// Whether the device is blocked first if it is not on a restored domain, and what it is refused for if it is.
fn refusal(swap: &Swap) -> Refusal {
    let ordinary = Swap {
        facts: SwapFacts(swap.facts.0 & !SwapFacts::RESTORED),
        ..*swap
    };
    assert_eq!(decide(&ordinary), Ok(Decision::BlockFirst));
    decide(swap).expect_err("refused")
}

#[test]
fn the_last_device_hands_the_id_over() {
    for swap in swaps() {
        let decision = decide(&swap).expect("possible");
        assert_eq!(id_of(&decision), Some(NewId::HandedOver));
        let Decision::InPlace { plan, .. } = decision else {
            panic!("in place");
        };
        // One word changes, whatever id the caller wrote.
        assert!(matches!(plan.steps().next(), Some(Step::Store64 { .. })));
    }
}

#[test]
fn others_keep_their_id() {
    for (users, has_own) in [(2, false), (1, true), (9, true), (0, false)] {
        let id_use = IdUse { users, has_own };
        let [legacy, second, first] = swaps().map(|swap| Swap { id_use, ..swap });
        for swap in [legacy, second] {
            let decision = decide(&swap).expect("possible");
            assert_eq!(id_of(&decision), Some(NewId::Own));
            let narrow = Swap {
                capabilities: Capabilities {
                    compare_exchange_128: false,
                    ..CAPABLE
                },
                ..swap
            };
            let needs = Refusal::Table(Flaw::NeedsCompareExchange128);
            assert_eq!(refusal(&narrow), needs);
            // Two domains under one id.
            let same = Swap {
                new_id: swap.old_id,
                ..swap
            };
            assert_eq!(refusal(&same), Refusal::NotSwappable);
        }
        assert_eq!(refusal(&first), Refusal::SharedHwpt);
    }
}

#[test]
fn a_restored_domain_is_never_blocked() {
    for swap in swaps() {
        for bit in (0..32).filter(|bit| 1 << bit != SwapFacts::RESTORED) {
            let facts = SwapFacts(swap.facts.0 | 1 << bit);
            assert_eq!(refusal(&Swap { facts, ..swap }), Refusal::NotSwappable);
        }
        // The entry has another id than the domain.
        let other = Swap {
            old_id: DomainId(6),
            ..swap
        };
        let differs = Refusal::Table(Flaw::Differs(Field::DomainId));
        assert_eq!(refusal(&other), differs);
        // There is no entry, and nothing to change to.
        let (gone, same) = match swap.words {
            Words::Context { old, new } => (
                Words::Context { old: [0; 2], new },
                Words::Context { old, new: old },
            ),
            Words::Pasid { old, new } => (
                Words::Pasid { old: [0; 8], new },
                Words::Pasid { old, new: old },
            ),
        };
        let gone = Swap {
            words: gone,
            ..swap
        };
        assert_eq!(refusal(&gone), Refusal::NotSwappable);
        let same = Swap {
            words: same,
            ..swap
        };
        assert_eq!(refusal(&same), Refusal::Table(Flaw::SameTable));
    }
    // From one stage to the other.
    let words = Words::Pasid {
        old: first_stage().encode(),
        new: moved(second_stage()).encode(),
    };
    let differs = Refusal::Table(Flaw::Differs(Field::TranslationType));
    assert_eq!(refusal(&restored(words)), differs);
}
