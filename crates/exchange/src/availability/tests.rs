//! After any claims, everything that is derived from them equals a recount.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Miss(u32),
    Get(u32),
    Replace(u8, Vec<u32>),
    Gain(u8, u32),
    Lose(u8, u32),
    Forget(u8),
    Credit(u8, Credit),
    Look(u8, u32),
}

fn step() -> impl Strategy<Value = Step> {
    let (node, block) = (0u8..4, 0u32..45);
    prop_oneof![
        block.clone().prop_map(Step::Miss),
        block.clone().prop_map(Step::Get),
        (node.clone(), prop::collection::vec(block.clone(), 0..40))
            .prop_map(|(node, blocks)| Step::Replace(node, blocks)),
        (node.clone(), block.clone()).prop_map(|(node, block)| Step::Gain(node, block)),
        (node.clone(), block).prop_map(|(node, block)| Step::Lose(node, block)),
        node.clone().prop_map(Step::Forget),
        (node.clone(), credit()).prop_map(|(node, credit)| Step::Credit(node, credit)),
        (node, 0u32..4).prop_map(|(node, start)| Step::Look(node, start)),
    ]
}

fn credit() -> impl Strategy<Value = Credit> {
    prop_oneof![Just(Credit::Nothing), Just(Credit::Trial), Just(Credit::Full)]
}

proptest! {
    #[test]
    fn counters_agree_with_a_recount(steps in prop::collection::vec(step(), 0..60)) {
        // Four segments of ten blocks.
        let mut availability = Availability::new(NodeId([2; 32]), &Segments::of(vec![420_000; 40]));
        prop_assert_eq!(availability.rarity().segment_count(), 4);
        for step in steps {
            let node = |node: u8| NodeId([node; 32]);
            match step {
                Step::Miss(block) => availability.misses(block),
                Step::Get(block) => availability.misses_no_more(block),
                Step::Replace(at, blocks) => {
                    let mut map = BlockSet::empty(40);
                    blocks.iter().for_each(|block| { map.insert(*block); });
                    let credit = [Credit::Full, Credit::Trial, Credit::Nothing][blocks.len() % 3];
                    availability.replace(node(at), &map, credit);
                }
                Step::Gain(at, block) => { availability.gain(node(at), std::iter::once(block)); }
                Step::Look(at, start) => drop(availability.useful_segments(&node(at), start, 2)),
                Step::Lose(at, block) => availability.lose(node(at), block),
                Step::Forget(at) => availability.forget(&node(at)),
                Step::Credit(at, credit) => availability.set_credit(&node(at), credit),
            }
            check(&availability);
        }
    }
}

/// Recounts everything the slow way.
fn check(availability: &Availability) {
    let rarity = availability.rarity();
    rarity.check(|block| {
        availability
            .views
            .values()
            .filter(|view| view.credit == Credit::Full && view.map.contains(block))
            .count()
    });
    for segment in 0..rarity.segment_count() {
        for view in availability.views.values() {
            let is_useful = rarity
                .blocks_of(segment)
                .any(|block| rarity.missing().contains(block) && view.map.contains(block));
            assert!(view.promising.contains(segment) || !is_useful);
        }
    }
    let lacking = || availability.views.iter().filter(|(_, view)| view.map.len() < rarity.block_count());
    let before = lacking().filter(|(node, _)| **node < availability.me).count();
    assert_eq!(availability.lacking(), (before as u64, lacking().count() as u64));
}
