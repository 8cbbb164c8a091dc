//! What the neighbours say they hold of one release, and how rare each segment is.
//!
//! Have-maps are claims. The claims of a neighbour that did not live up to them are kept, but don't count while it
//! is discredited: then its blocks are neither asked of it, nor kept from being fetched over the WAN.

use branchmesh_wire::{BlockSet, NodeId, Segments};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

/// One neighbour's claims.
struct View {
    map: BlockSet,
    /// Whether the claims count.
    credited: bool,
    /// Per segment: claimed blocks that this node misses.
    useful: Vec<u16>,
    /// The segments where that is not zero.
    useful_segments: BTreeSet<u32>,
}

pub(crate) struct Availability {
    /// Where each segment ends.
    ends: Vec<u32>,
    /// What this node misses (a copy of the block states, kept by [`Release`](crate::release::Release)).
    missing: BlockSet,
    /// Per block: neighbours whose claims count.
    holders: Vec<u16>,
    /// Per segment: the sum of `holders` over the missing blocks.
    copies: Vec<u32>,
    /// Per segment: missing blocks.
    missing_here: Vec<u16>,
    /// Per segment: missing blocks that one neighbour holds.
    lonely: Vec<u16>,
    /// Per segment: missing blocks that no neighbour holds.
    unheld: Vec<u16>,
    /// The segments where that is not zero.
    unheld_segments: BTreeSet<u32>,
    unheld_total: u32,
    views: BTreeMap<NodeId, View>,
}

impl Availability {
    /// Nobody claims anything yet, and this node misses all.
    pub(crate) fn new(segments: &Segments) -> Self {
        let count = segments.block_count();
        let mut new = Self {
            ends: segments.all().iter().map(|segment| segment.blocks.end).collect(),
            missing: BlockSet::empty(count),
            holders: vec![0; count as usize],
            copies: vec![0; segments.all().len()],
            missing_here: vec![0; segments.all().len()],
            lonely: vec![0; segments.all().len()],
            unheld: vec![0; segments.all().len()],
            unheld_segments: BTreeSet::new(),
            unheld_total: 0,
            views: BTreeMap::new(),
        };
        (0..count).for_each(|block| new.misses(block));
        new
    }

    /// This node misses `block` now.
    pub(crate) fn misses(&mut self, block: u32) {
        if !self.missing.insert(block) {
            return;
        }
        let segment = self.segment_of(block);
        for view in self.views.values_mut().filter(|view| view.map.contains(block)) {
            view.add_useful(segment);
        }
        self.copies[segment as usize] += u32::from(self.holders[block as usize]);
        self.missing_here[segment as usize] += 1;
        match self.holders[block as usize] {
            0 => self.add_unheld(segment),
            1 => self.lonely[segment as usize] += 1,
            _ => {}
        }
    }

    /// This node does not miss `block` any more: it holds it, or has asked for it.
    pub(crate) fn misses_no_more(&mut self, block: u32) {
        if !self.missing.remove(block) {
            return;
        }
        let segment = self.segment_of(block);
        for view in self.views.values_mut().filter(|view| view.map.contains(block)) {
            view.remove_useful(segment);
        }
        self.copies[segment as usize] -= u32::from(self.holders[block as usize]);
        self.missing_here[segment as usize] -= 1;
        match self.holders[block as usize] {
            0 => self.remove_unheld(segment),
            1 => self.lonely[segment as usize] -= 1,
            _ => {}
        }
    }

    /// Whether `node` has told its have-map.
    pub(crate) fn knows(&self, node: &NodeId) -> bool {
        self.views.contains_key(node)
    }

    /// The neighbours that have told theirs.
    pub(crate) fn neighbours(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.views.keys().copied()
    }

    /// The neighbours that have told theirs and lack something, in the order of their ids.
    pub(crate) fn lacking(&self) -> impl Iterator<Item = &NodeId> {
        let all = self.missing.capacity();
        self.views.iter().filter(move |(_, view)| view.map.len() < all).map(|(node, _)| node)
    }

    /// `node` holds exactly `map` (of the right size).
    pub(crate) fn replace(&mut self, node: NodeId, map: &BlockSet, credited: bool) {
        self.forget(&node);
        let mut view = View::new(map.clone(), self.copies.len(), credited);
        for (segment, blocks) in segments_of(&self.ends) {
            for block in map.iter_range(blocks) {
                if self.missing.contains(block) {
                    view.add_useful(segment);
                }
                if credited {
                    self.count_in(block, segment);
                }
            }
        }
        self.views.insert(node, view);
    }

    /// `node` holds `block` too. Returns whether that is new.
    pub(crate) fn gain(&mut self, node: NodeId, block: u32) -> bool {
        if block >= self.missing.capacity() {
            return false;
        }
        let segment = self.segment_of(block);
        let Some(view) = self.views.get_mut(&node) else { return false };
        if !view.map.insert(block) {
            return false;
        }
        if self.missing.contains(block) {
            view.add_useful(segment);
        }
        if view.credited {
            self.count_in(block, segment);
        }
        true
    }

    /// `node` does not hold `block` after all.
    pub(crate) fn lose(&mut self, node: NodeId, block: u32) {
        let Some(view) = self.views.get_mut(&node) else { return };
        if !view.map.remove(block) {
            return;
        }
        let credited = view.credited;
        let segment = self.segment_of(block);
        if self.missing.contains(block)
            && let Some(view) = self.views.get_mut(&node)
        {
            view.remove_useful(segment);
        }
        if credited {
            self.count_out(block, segment);
        }
    }

    /// `node` is gone, or holds nothing any more.
    pub(crate) fn forget(&mut self, node: &NodeId) {
        self.set_credited(node, false);
        self.views.remove(node);
    }

    /// Whether the claims of `node` count from now on.
    pub(crate) fn set_credited(&mut self, node: &NodeId, credited: bool) {
        let Some(view) = self.views.get_mut(node) else { return };
        if view.credited == credited {
            return;
        }
        view.credited = credited;
        let map = std::mem::replace(&mut view.map, BlockSet::empty(0));
        for (segment, blocks) in segments_of(&self.ends.clone()) {
            for block in map.iter_range(blocks) {
                if credited {
                    self.count_in(block, segment);
                } else {
                    self.count_out(block, segment);
                }
            }
        }
        if let Some(view) = self.views.get_mut(node) {
            view.map = map;
        }
    }

    /// Whether `node` holds anything that this node misses.
    pub(crate) fn is_useful(&self, node: &NodeId) -> bool {
        self.views.get(node).is_some_and(|view| view.credited && !view.useful_segments.is_empty())
    }

    /// Whether `node` claims `block`, and its claims count.
    pub(crate) fn offers(&self, node: &NodeId, block: u32) -> bool {
        self.views.get(node).is_some_and(|view| view.credited && view.map.contains(block))
    }

    /// Segments where `node` holds something that is missing here, in a round from `start`.
    pub(crate) fn useful_segments(&self, node: &NodeId, start: u32) -> impl Iterator<Item = u32> + '_ {
        let view = self.views.get(node).filter(|view| view.credited);
        let segments = view.map(|view| &view.useful_segments);
        segments.into_iter().flat_map(move |all| all.range(start..).chain(all.range(..start)).copied())
    }

    /// Missing blocks of `segment` that `node` holds.
    pub(crate) fn useful_blocks(&self, node: &NodeId, segment: u32) -> impl Iterator<Item = u32> + '_ {
        let view = self.views.get(node).filter(|view| view.credited);
        let blocks = self.blocks_of(segment);
        view.into_iter().flat_map(move |view| {
            self.missing.iter_range(blocks.clone()).filter(|block| view.map.contains(*block))
        })
    }

    /// Neighbours that hold `block`.
    pub(crate) fn holders(&self, block: u32) -> u16 {
        self.holders.get(block as usize).copied().unwrap_or(0)
    }

    /// Whether exactly one neighbour holds `block`.
    pub(crate) fn is_lonely(&self, block: u32) -> bool {
        self.holders(block) == 1
    }

    /// Whether exactly one neighbour holds any missing block of `segment`.
    pub(crate) fn has_lonely(&self, segment: u32) -> bool {
        self.lonely[segment as usize] > 0
    }

    /// Copies that the neighbours hold of a missing block of `segment`, on average over those that any of them
    /// holds: a segment that is only just arriving at the site is not rarer than the one before it.
    pub(crate) fn commonness(&self, segment: u32) -> u32 {
        let segment = segment as usize;
        let offered = self.missing_here[segment] - self.unheld[segment];
        self.copies[segment] / u32::from(offered.max(1))
    }

    /// The blocks that any neighbour holds.
    pub(crate) fn held_by_any(&self) -> BlockSet {
        let mut held = BlockSet::empty(self.missing.capacity());
        for (block, _) in (0u32..).zip(&self.holders).filter(|(_, holders)| **holders > 0) {
            held.insert(block);
        }
        held
    }

    /// Missing blocks that no neighbour holds.
    pub(crate) fn unheld_total(&self) -> u32 {
        self.unheld_total
    }

    /// The segments that have such blocks, ascending.
    pub(crate) fn unheld_segments(&self) -> impl Iterator<Item = u32> + '_ {
        self.unheld_segments.iter().copied()
    }

    /// These blocks of `segment`, ascending.
    pub(crate) fn unheld_blocks(&self, segment: u32) -> impl Iterator<Item = u32> + '_ {
        let blocks = self.blocks_of(segment);
        self.missing.iter_range(blocks).filter(|block| self.holders[*block as usize] == 0)
    }

    pub(crate) fn segment_count(&self) -> u32 {
        u32::try_from(self.ends.len()).expect("no more segments than blocks")
    }

    fn count_in(&mut self, block: u32, segment: u32) {
        self.holders[block as usize] += 1;
        if !self.missing.contains(block) {
            return;
        }
        self.copies[segment as usize] += 1;
        match self.holders[block as usize] {
            1 => {
                self.lonely[segment as usize] += 1;
                self.remove_unheld(segment);
            }
            2 => self.lonely[segment as usize] -= 1,
            _ => {}
        }
    }

    fn count_out(&mut self, block: u32, segment: u32) {
        self.holders[block as usize] -= 1;
        if !self.missing.contains(block) {
            return;
        }
        self.copies[segment as usize] -= 1;
        match self.holders[block as usize] {
            0 => {
                self.lonely[segment as usize] -= 1;
                self.add_unheld(segment);
            }
            1 => self.lonely[segment as usize] += 1,
            _ => {}
        }
    }

    fn add_unheld(&mut self, segment: u32) {
        self.unheld[segment as usize] += 1;
        self.unheld_total += 1;
        self.unheld_segments.insert(segment);
    }

    fn remove_unheld(&mut self, segment: u32) {
        self.unheld[segment as usize] -= 1;
        self.unheld_total -= 1;
        if self.unheld[segment as usize] == 0 {
            self.unheld_segments.remove(&segment);
        }
    }

    fn segment_of(&self, block: u32) -> u32 {
        let at = self.ends.partition_point(|end| *end <= block);
        u32::try_from(at).expect("no more segments than blocks")
    }

    fn blocks_of(&self, segment: u32) -> Range<u32> {
        let start = segment.checked_sub(1).and_then(|before| self.ends.get(before as usize));
        let end = self.ends.get(segment as usize);
        start.copied().unwrap_or(0)..end.copied().unwrap_or(0)
    }

    /// Recounts everything the slow way; for tests.
    #[cfg(test)]
    fn check(&self) {
        let mut unheld = 0;
        for (segment, blocks) in segments_of(&self.ends) {
            let (mut copies, mut missing_here, mut lonely) = (0, 0, 0);
            for block in blocks {
                let holders = self.views.values().filter(|view| view.credited && view.map.contains(block));
                let holders = holders.count();
                assert_eq!(usize::from(self.holders[block as usize]), holders);
                assert_eq!(self.held_by_any().contains(block), holders > 0);
                if self.missing.contains(block) {
                    (copies, missing_here) = (copies + u32::try_from(holders).unwrap(), missing_here + 1);
                }
                unheld += u32::from(holders == 0 && self.missing.contains(block));
                lonely += u16::from(holders == 1 && self.missing.contains(block));
            }
            assert_eq!(self.copies[segment as usize], copies);
            assert_eq!(self.missing_here[segment as usize], missing_here);
            assert_eq!(self.lonely[segment as usize], lonely);
            let here = self.unheld_blocks(segment).count();
            assert_eq!(usize::from(self.unheld[segment as usize]), here);
            assert_eq!(self.unheld_segments.contains(&segment), here > 0);
            for view in self.views.values() {
                let missing = self.missing.iter_range(self.blocks_of(segment));
                let useful = missing.filter(|block| view.map.contains(*block)).count();
                assert_eq!(usize::from(view.useful[segment as usize]), useful);
                assert_eq!(view.useful_segments.contains(&segment), useful > 0);
            }
        }
        assert_eq!(self.unheld_total, unheld);
    }
}

impl View {
    /// As long as nothing is counted, none of it is useful.
    fn new(map: BlockSet, segments: usize, credited: bool) -> Self {
        Self { map, credited, useful: vec![0; segments], useful_segments: BTreeSet::new() }
    }

    fn add_useful(&mut self, segment: u32) {
        self.useful[segment as usize] += 1;
        if self.useful[segment as usize] == 1 {
            self.useful_segments.insert(segment);
        }
    }

    fn remove_useful(&mut self, segment: u32) {
        self.useful[segment as usize] -= 1;
        if self.useful[segment as usize] == 0 {
            self.useful_segments.remove(&segment);
        }
    }
}

/// Segments and their blocks, from where each ends.
fn segments_of(ends: &[u32]) -> Vec<(u32, Range<u32>)> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    (0u32..).zip(starts.zip(ends).map(|(start, end)| start..*end)).collect()
}

#[cfg(test)]
mod tests {
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
        Credit(u8, bool),
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
            (node, any::<bool>()).prop_map(|(node, credited)| Step::Credit(node, credited)),
        ]
    }

    proptest! {
        #[test]
        fn counters_agree_with_a_recount(steps in prop::collection::vec(step(), 0..60)) {
            // Four segments of ten blocks.
            let mut availability = Availability::new(&Segments::of(vec![420_000; 40]));
            prop_assert_eq!(availability.segment_count(), 4);
            for step in steps {
                let node = |node: u8| NodeId([node; 32]);
                match step {
                    Step::Miss(block) => availability.misses(block),
                    Step::Get(block) => availability.misses_no_more(block),
                    Step::Replace(at, blocks) => {
                        let mut map = BlockSet::empty(40);
                        blocks.iter().for_each(|block| { map.insert(*block); });
                        availability.replace(node(at), &map, blocks.len() % 2 == 0);
                    }
                    Step::Gain(at, block) => { availability.gain(node(at), block); }
                    Step::Lose(at, block) => availability.lose(node(at), block),
                    Step::Forget(at) => availability.forget(&node(at)),
                    Step::Credit(at, credited) => availability.set_credited(&node(at), credited),
                }
                availability.check();
            }
        }
    }
}
