//! What the neighbours say they hold of one release.
//!
//! Have-maps are claims. The claims of a neighbour that did not live up to them are kept, but have less [`Credit`].

use crate::rarity::Rarity;
use branchmesh_wire::{BlockSet, NodeId, Segments};
use std::collections::BTreeMap;

/// What a neighbour's claims are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Credit {
    /// Nothing: its blocks are not asked for.
    Nothing,
    /// Its blocks are asked for. But what only it claims may be fetched over the WAN.
    Trial,
    /// What it claims is as good as held: the WAN is not used for it.
    Full,
}

/// One neighbour's claims.
struct View {
    map: BlockSet,
    credit: Credit,
    /// Segments that may have claimed blocks that this node misses: all that do, and some that did. Those are found out
    /// when they are looked at: with many neighbours, that is cheaper than to tell each of each block that came.
    promising: BlockSet,
}

pub(crate) struct Availability {
    me: NodeId,
    rarity: Rarity,
    views: BTreeMap<NodeId, View>,
    /// Neighbours that have told what they hold and lack something.
    lacking: u64,
    /// Of these, the ones whose ids are lower than this node's.
    lacking_before: u64,
}

/// What one neighbour offers that this node misses.
pub(crate) struct Offer<'a> {
    map: &'a BlockSet,
    rarity: &'a Rarity,
}

impl Availability {
    /// Nobody claims anything yet, and this node, `me`, misses all.
    pub(crate) fn new(me: NodeId, segments: &Segments) -> Self {
        Self { me, rarity: Rarity::new(segments), views: BTreeMap::new(), lacking: 0, lacking_before: 0 }
    }

    /// How rare the blocks are, by all claims that count.
    pub(crate) fn rarity(&self) -> &Rarity {
        &self.rarity
    }

    /// This node misses `block` now.
    pub(crate) fn misses(&mut self, block: u32) {
        if self.rarity.misses(block) {
            let segment = self.rarity.segment_of(block);
            for view in self.views.values_mut().filter(|view| view.map.contains(block)) {
                view.promising.insert(segment);
            }
        }
    }

    /// This node does not miss `block` any more: it holds it, or has asked for it.
    pub(crate) fn misses_no_more(&mut self, block: u32) {
        self.rarity.misses_no_more(block);
    }

    /// Whether `node` has told its have-map.
    pub(crate) fn knows(&self, node: &NodeId) -> bool {
        self.views.contains_key(node)
    }

    /// The neighbours that have told theirs.
    pub(crate) fn neighbours(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.views.keys().copied()
    }

    /// How many they are.
    pub(crate) fn neighbour_count(&self) -> usize {
        self.views.len()
    }

    /// How many neighbours have told theirs and lack something: those with ids lower than this node's, and all.
    pub(crate) fn lacking(&self) -> (u64, u64) {
        (self.lacking_before, self.lacking)
    }

    /// `node` holds exactly `map` (of the right size).
    pub(crate) fn replace(&mut self, node: NodeId, map: &BlockSet, credit: Credit) {
        self.forget(&node);
        let mut promising = BlockSet::empty(self.rarity.segment_count());
        for segment in 0..self.rarity.segment_count() {
            let missing = self.rarity.missing();
            if map.iter_common(missing, self.rarity.blocks_of(segment)).next().is_some() {
                promising.insert(segment);
            }
        }
        if credit == Credit::Full {
            map.iter().for_each(|block| self.rarity.count_in(block));
        }
        self.count_lacking(&node, false, !map.is_full());
        self.views.insert(node, View { map: map.clone(), credit, promising });
    }

    /// `node` holds these `blocks` too. Returns how many of them it had claimed before, or that do not exist; `None` if
    /// it has not told its have-map.
    pub(crate) fn gain(&mut self, node: NodeId, blocks: impl Iterator<Item = u32>) -> Option<u64> {
        let view = self.views.get_mut(&node)?;
        let (lacked, mut repeated) = (!view.map.is_full(), 0);
        for block in blocks {
            if !view.map.insert(block) {
                repeated += 1;
                continue;
            }
            if self.rarity.missing().contains(block) {
                view.promising.insert(self.rarity.segment_of(block));
            }
            if view.credit == Credit::Full {
                self.rarity.count_in(block);
            }
        }
        let lacks = !view.map.is_full();
        self.count_lacking(&node, lacked, lacks);
        Some(repeated)
    }

    /// `node` does not hold `block` after all.
    pub(crate) fn lose(&mut self, node: NodeId, block: u32) {
        let Some(view) = self.views.get_mut(&node) else { return };
        let lacked = !view.map.is_full();
        if !view.map.remove(block) {
            return;
        }
        if view.credit == Credit::Full {
            self.rarity.count_out(block);
        }
        self.count_lacking(&node, lacked, true);
    }

    /// `node` is gone, or holds nothing any more.
    pub(crate) fn forget(&mut self, node: &NodeId) {
        self.set_credit(node, Credit::Nothing);
        if let Some(view) = self.views.remove(node) {
            self.count_lacking(node, !view.map.is_full(), false);
        }
    }

    /// What the claims of `node` are good for from now on.
    pub(crate) fn set_credit(&mut self, node: &NodeId, credit: Credit) {
        let Some(view) = self.views.get_mut(node) else { return };
        let before = std::mem::replace(&mut view.credit, credit);
        let counts = credit == Credit::Full;
        if counts == (before == Credit::Full) {
            return;
        }
        for block in view.map.iter() {
            if counts {
                self.rarity.count_in(block);
            } else {
                self.rarity.count_out(block);
            }
        }
    }

    /// Whether `node` claims `block`, and is as good as its word.
    pub(crate) fn offers(&self, node: &NodeId, block: u32) -> bool {
        self.views.get(node).is_some_and(|view| view.credit == Credit::Full && view.map.contains(block))
    }

    /// What `node` offers; `None` if that is nothing, as far as one sees at once.
    pub(crate) fn offer(&self, node: &NodeId) -> Option<Offer<'_>> {
        let view = self
            .views
            .get(node)
            .filter(|view| view.credit > Credit::Nothing && !view.promising.is_empty())?;
        Some(Offer { map: &view.map, rarity: &self.rarity })
    }

    /// Segments where `node` holds something that is missing here, in a round from `start`, at most so many.
    pub(crate) fn useful_segments(&mut self, node: &NodeId, start: u32, most: usize) -> Vec<u32> {
        let view = self.views.get_mut(node).filter(|view| view.credit > Credit::Nothing);
        let Some(view) = view else { return Vec::new() };
        let offer = Offer { map: &view.map, rarity: &self.rarity };
        let (mut useful, mut stale) = (Vec::new(), Vec::new());
        let round =
            [start..self.rarity.segment_count(), 0..start].map(|part| view.promising.iter_range(part));
        for segment in round.into_iter().flatten() {
            if offer.blocks(segment).next().is_none() {
                stale.push(segment);
                continue;
            }
            useful.push(segment);
            if useful.len() == most {
                break;
            }
        }
        for segment in stale {
            view.promising.remove(segment);
        }
        useful
    }

    /// Whether `node` is one that lacks something has changed, or not.
    fn count_lacking(&mut self, node: &NodeId, did: bool, does: bool) {
        let before = u64::from(*node < self.me);
        match (did, does) {
            (false, true) => {
                (self.lacking, self.lacking_before) = (self.lacking + 1, self.lacking_before + before);
            }
            (true, false) => {
                (self.lacking, self.lacking_before) = (self.lacking - 1, self.lacking_before - before);
            }
            (false, false) | (true, true) => {}
        }
    }
}

impl Offer<'_> {
    /// What is missing here of `segment`.
    pub(crate) fn blocks(&self, segment: u32) -> impl Iterator<Item = u32> + '_ {
        self.map.iter_common(self.rarity.missing(), self.rarity.blocks_of(segment))
    }

    /// Of these, what nobody else offers.
    pub(crate) fn lonely(&self, segment: u32) -> impl Iterator<Item = u32> + '_ {
        self.map.iter_common(self.rarity.lonely(), self.rarity.blocks_of(segment))
    }
}

#[cfg(test)]
mod tests;
