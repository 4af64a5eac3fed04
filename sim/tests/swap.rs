// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A swap has no moment at which a DMA faults, goes astray or finds tables that are gone; and the
//! checks that say so notice every way of doing it wrong.

mod common;

use std::collections::HashMap;

use common::{
    alterations, busy, is_caught, scalable_scenarios, scenarios, Alteration, Scenario, Stage,
    Violation, DEVICE,
};
use hitless_core::iommu::change::IdUse;
use hitless_core::iommu::plan::Step;
use hitless_core::iommu::pt::format::Format;
use hitless_core::iommu::vtd::mode::Mode;
use hitless_core::iommu::vtd::swap::{decide, Decision, NewId};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

fn planned(stage: &Stage) -> Vec<Step> {
    stage.plan().expect("can be planned").steps().collect()
}

fn is_invalidation(step: &Step) -> bool {
    !matches!(
        step,
        Step::Store64 { .. } | Step::CompareExchange128 { .. } | Step::Release
    )
}

/// What comes of running the plan for entries with other bits than usual; `None` if there is no plan.
fn accepted(scenario: &Scenario, alteration: &Alteration) -> Option<Result<(), ()>> {
    let mut stage = Stage::new(scenario.clone());
    stage.alter(alteration);
    let steps: Vec<_> = stage.plan().ok()?.steps().collect();
    let result = stage.run(steps);
    Some(result.map_err(|violation| eprintln!("{violation:?}")))
}

/// The property below does reach plans, of entries that are not the builder's.
#[test]
fn altered_entries_are_accepted() {
    let mut runner = TestRunner::deterministic();
    let strategy = (scenarios(), alterations());
    let mut counts = HashMap::new();
    for _ in 0..300 {
        let drawn = strategy.new_tree(&mut runner).expect("a value");
        let (scenario, alteration) = drawn.current();
        let altered = !alteration.both.is_empty() || !alteration.new.is_empty();
        if let Some(result) = accepted(&scenario, &alteration) {
            assert_eq!(result, Ok(()));
            *counts.entry((scenario.mode, altered)).or_insert(0) += 1;
        }
    }
    for mode in [Mode::Legacy, Mode::Scalable] {
        let count = counts.get(&(mode, true)).copied().unwrap_or(0);
        assert!(count > 20, "{mode:?}: {count}");
    }
}

proptest! {
    /// Old or new answers at every moment, new ones alone once the invalidations are through, and
    /// all that with old tables and a free domain id given away at the release.
    #[test]
    fn no_moment_without_a_right_answer(scenario in scenarios()) {
        let stage = Stage::new(scenario);
        let steps = planned(&stage);
        prop_assert_eq!(stage.run(steps), Ok(()));
    }

    /// Whatever the planner accepts runs like that, and ends with the new entry.
    #[test]
    fn what_is_accepted_runs(scenario in scenarios(), alteration in alterations()) {
        prop_assert!(accepted(&scenario, &alteration) != Some(Err(())));
    }

    /// A PASID entry that is fetched in four pieces of 128 bits while it is written is still the old or the new
    /// one.
    #[test]
    fn torn_fetches_of_a_pasid_entry_see_one_of_two(scenario in scalable_scenarios(), mix: [bool; 4]) {
        let stage = Stage::new(scenario);
        let old: [u64; 8] = stage.place.read(&stage.memory);
        let mut now = old;
        for step in planned(&stage) {
            match step {
                Step::Store64 { word, value } => now[word] = value,
                Step::CompareExchange128 { word, new, .. } => {
                    now[word..word + 2].copy_from_slice(&new);
                }
                _ => {}
            }
        }
        let piece = |word: usize| if mix[word / 2] { now[word] } else { old[word] };
        let torn: [u64; 8] = std::array::from_fn(piece);
        prop_assert!(torn == old || torn == now);
        prop_assert_eq!(now.to_vec(), stage.new_words);
    }

    /// Twin: clearing the entry before it is written is noticed.
    #[test]
    fn clear_then_write_is_caught(scenario in scenarios()) {
        let stage = Stage::new(scenario);
        let words = stage.new_words.clone();
        let clear = (0..words.len()).map(|word| Step::Store64 { word, value: 0 });
        let rest = planned(&stage).into_iter().skip(1);
        let write = (0..words.len()).rev().map(|word| Step::Store64 { word, value: words[word] });
        let steps: Vec<_> = clear.chain(write).chain(rest).collect();
        let caught = matches!(stage.run(steps), Err(Violation::Fault(DEVICE, _, _)));
        prop_assert!(caught);
    }

    /// Twin: leaving out any one invalidation is noticed.
    #[test]
    fn a_missing_invalidation_is_caught(scenario in scenarios(), which: prop::sample::Index) {
        let caught = is_caught(&scenario, |stage| {
            let mut steps = planned(stage);
            let invalidations: Vec<_> =
                (0..steps.len()).filter(|i| is_invalidation(&steps[*i])).collect();
            steps.remove(*which.get(&invalidations));
            steps
        });
        prop_assert!(caught);
    }

    /// Twin: flushing translations before the entries that refill them is noticed.
    #[test]
    fn invalidations_in_the_wrong_order_are_caught(scenario in scenarios()) {
        let caught = is_caught(&scenario, |stage| {
            let mut steps = planned(stage);
            steps.swap(1, 2);
            steps
        });
        prop_assert!(caught);
    }

    /// Twin: giving the old tables away before the invalidations is noticed.
    #[test]
    fn an_early_release_is_caught(scenario in scenarios()) {
        let caught = is_caught(&scenario, |stage| {
            let mut steps = planned(stage);
            steps.pop();
            steps.insert(1, Step::Release);
            steps
        });
        prop_assert!(caught);
    }

    /// Twin: two 64-bit stores in place of the compare-exchange are noticed. If only the domain id
    /// differs beside the pointer's word, storing the pointer first happens to be harmless here.
    #[test]
    fn two_stores_are_caught(scenario in scenarios(), low_first: bool) {
        let levels_beside = scenario.mode == Mode::Legacy && scenario.old != scenario.new;
        prop_assume!(levels_beside || !scenario.same_did);
        let low_first = low_first && levels_beside;
        let order = if low_first { [0, 1] } else { [1, 0] };
        let caught = is_caught(&scenario, |stage| {
            let write = order.map(|word| Step::Store64 { word, value: stage.new_words[word] });
            write.into_iter().chain(planned(stage).into_iter().skip(1)).collect()
        });
        prop_assert!(caught);
    }

    /// Two devices of one HWPT, each swapped as it is decided: right answers throughout, and each keeps to its own
    /// side. In first stage the first of them is refused, and nothing happens.
    #[test]
    fn devices_that_share_a_hwpt_are_swapped_one_by_one(scenario in scenarios(), evict in 0u8..64) {
        let first_stage = matches!(scenario.old, Format::X86_64(_));
        let stage = Stage::new(busy(&scenario, evict));
        let expected = (!first_stage).then_some([NewId::Own; 2]);
        prop_assert_eq!(stage.run_decided(), Ok(expected));
    }

    /// A device that is alone hands its id over, in every format.
    #[test]
    fn a_decision_for_one_device_runs(scenario in scenarios()) {
        let scenario = Scenario { same_did: true, ..scenario };
        let stage = Stage::new(scenario);
        let id_use = IdUse { users: 1, has_own: false };
        let decision = decide(&stage.facts(stage.place, id_use));
        let Ok(Decision::InPlace { plan, id: NewId::HandedOver }) = decision else {
            panic!("{decision:?}");
        };
        prop_assert_eq!(stage.run(plan.steps().collect()), Ok(()));
    }

    /// Two devices of one domain, swapped one after the other: right answers throughout. With TLBs of
    /// their own they do not keep the domain id.
    #[test]
    fn a_shared_domain_is_released_by_its_last_device(scenario in scenarios(), evict in 0u8..64) {
        let device_tlb = scenario.device_tlb && !scenario.same_did;
        let scenario = Scenario { device_tlb, ..scenario };
        let stage = Stage::new(busy(&scenario, evict));
        prop_assert_eq!(stage.run_shared(false), Ok(()));
    }

    /// Twin: if they do, old translations outlive the tables in the TLB of the first.
    #[test]
    fn a_shared_id_with_device_tlbs_is_caught(scenario in scenarios()) {
        prop_assume!(scenario.same_did);
        let scenario = Scenario { device_tlb: true, ..scenario };
        let caught = (32..64).any(|evict| {
            let stage = Stage::new(busy(&scenario, evict));
            stage.run_shared(false).is_err()
        });
        prop_assert!(caught);
    }

    /// Twin: after the first device's release the second still needs the old tables.
    #[test]
    fn a_release_by_the_first_of_two_is_caught(scenario in scenarios()) {
        let caught = (0..32).rev().any(|evict| {
            let stage = Stage::new(busy(&scenario, evict));
            stage.run_shared(true).is_err()
        });
        prop_assert!(caught);
    }

    /// Where only one word differs no compare-exchange is asked for.
    #[test]
    fn a_handed_over_domain_id_needs_one_store(scenario in scenarios()) {
        // Levels are in the pointer's word of a PASID entry.
        let beside = scenario.mode == Mode::Legacy && scenario.old != scenario.new;
        let one_word = scenario.same_did && !beside;
        let steps = planned(&Stage::new(scenario));
        let writes: Vec<_> = steps.iter().filter(|step| !is_invalidation(step)).collect();
        prop_assert_eq!(writes.len(), 2, "one write and the release");
        prop_assert_eq!(matches!(writes[0], Step::Store64 { .. }), one_word);
        prop_assert_eq!(writes[1], &Step::Release);
    }
}
