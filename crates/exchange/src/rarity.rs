//! How many neighbours hold each block that this node misses, and with it how rare each segment is: counters that follow
//! each change, so that no event costs more than the blocks that it names.

use branchmesh_wire::{BlockSet, Segments};
use std::ops::Range;

pub(crate) struct Rarity {
    /// Where each segment ends.
    ends: Vec<u32>,
    /// What this node misses (a copy of the block states, kept by [`Release`](crate::release::Release)).
    missing: BlockSet,
    /// Per block: neighbours whose claims count.
    holders: Vec<u16>,
    /// Missing blocks that one neighbour holds.
    lonely: BlockSet,
    /// Missing blocks that no neighbour holds.
    unheld: BlockSet,
    /// The segments that have such blocks.
    unheld_segments: BlockSet,
    /// Per segment: the sum of `holders` over the missing blocks.
    copies: Vec<u32>,
    /// Per segment: missing blocks that any neighbour holds.
    offered: Vec<u16>,
}

impl Rarity {
    /// Nobody holds anything, and this node misses all.
    pub(crate) fn new(segments: &Segments) -> Self {
        let (count, parts) = (segments.block_count(), segments.all().len());
        let ends: Vec<u32> = segments.all().iter().map(|segment| segment.blocks.end).collect();
        Self {
            missing: BlockSet::full(count),
            holders: vec![0; count as usize],
            lonely: BlockSet::empty(count),
            unheld: BlockSet::full(count),
            unheld_segments: BlockSet::full(u32::try_from(parts).expect("no more segments than blocks")),
            copies: vec![0; parts],
            offered: vec![0; parts],
            ends,
        }
    }

    /// This node misses `block` now. Returns whether that is new.
    pub(crate) fn misses(&mut self, block: u32) -> bool {
        let new = self.missing.insert(block);
        if new {
            let (segment, holders) = (self.segment_of(block) as usize, self.holders[block as usize]);
            self.copies[segment] += u32::from(holders);
            self.offered[segment] += u16::from(holders > 0);
            self.classify(block);
        }
        new
    }

    /// This node does not miss `block` any more: it holds it, or has asked for it.
    pub(crate) fn misses_no_more(&mut self, block: u32) {
        if self.missing.remove(block) {
            let (segment, holders) = (self.segment_of(block) as usize, self.holders[block as usize]);
            self.copies[segment] -= u32::from(holders);
            self.offered[segment] -= u16::from(holders > 0);
            self.classify(block);
        }
    }

    /// One more neighbour holds `block`.
    pub(crate) fn count_in(&mut self, block: u32) {
        self.holders[block as usize] += 1;
        if self.missing.contains(block) {
            let segment = self.segment_of(block) as usize;
            self.copies[segment] += 1;
            self.offered[segment] += u16::from(self.holders[block as usize] == 1);
            self.classify(block);
        }
    }

    /// One neighbour less holds `block`.
    pub(crate) fn count_out(&mut self, block: u32) {
        self.holders[block as usize] -= 1;
        if self.missing.contains(block) {
            let segment = self.segment_of(block) as usize;
            self.copies[segment] -= 1;
            self.offered[segment] -= u16::from(self.holders[block as usize] == 0);
            self.classify(block);
        }
    }

    /// Blocks of the release.
    pub(crate) fn block_count(&self) -> u32 {
        self.missing.capacity()
    }

    pub(crate) fn segment_count(&self) -> u32 {
        self.unheld_segments.capacity()
    }

    pub(crate) fn segment_of(&self, block: u32) -> u32 {
        let at = self.ends.partition_point(|end| *end <= block);
        u32::try_from(at).expect("no more segments than blocks")
    }

    pub(crate) fn blocks_of(&self, segment: u32) -> Range<u32> {
        let start = segment.checked_sub(1).and_then(|before| self.ends.get(before as usize));
        let end = self.ends.get(segment as usize);
        start.copied().unwrap_or(0)..end.copied().unwrap_or(0)
    }

    /// What this node misses.
    pub(crate) fn missing(&self) -> &BlockSet {
        &self.missing
    }

    /// What it misses and exactly one neighbour holds.
    pub(crate) fn lonely(&self) -> &BlockSet {
        &self.lonely
    }

    /// Neighbours that hold `block`.
    pub(crate) fn holders(&self, block: u32) -> u16 {
        self.holders.get(block as usize).copied().unwrap_or(0)
    }

    /// Copies that the neighbours hold of a missing block of `segment`, on average over those that any of them
    /// holds: a segment that is only just arriving at the site is not rarer than the one before it.
    pub(crate) fn commonness(&self, segment: u32) -> u32 {
        let segment = segment as usize;
        self.copies[segment] / u32::from(self.offered[segment].max(1))
    }

    /// The blocks that any neighbour holds.
    pub(crate) fn held_by_any(&self) -> BlockSet {
        let mut held = BlockSet::empty(self.block_count());
        for (block, _) in (0u32..).zip(&self.holders).filter(|(_, holders)| **holders > 0) {
            held.insert(block);
        }
        held
    }

    /// Missing blocks that no neighbour holds.
    pub(crate) fn unheld_total(&self) -> u32 {
        self.unheld.len()
    }

    /// The segments that have such blocks, ascending.
    pub(crate) fn unheld_segments(&self) -> impl Iterator<Item = u32> + '_ {
        self.unheld_segments.iter()
    }

    /// These blocks of `segment`, ascending.
    pub(crate) fn unheld_blocks(&self, segment: u32) -> impl Iterator<Item = u32> + '_ {
        self.unheld.iter_range(self.blocks_of(segment))
    }

    /// Puts `block` among the lonely or the unheld ones, or takes it out.
    fn classify(&mut self, block: u32) {
        let holders = self.missing.contains(block).then_some(self.holders[block as usize]);
        if holders == Some(1) {
            self.lonely.insert(block)
        } else {
            self.lonely.remove(block)
        };
        let changed = if holders == Some(0) { self.unheld.insert(block) } else { self.unheld.remove(block) };
        if !changed {
            return;
        }
        let segment = self.segment_of(block);
        if self.unheld_blocks(segment).next().is_some() {
            self.unheld_segments.insert(segment);
        } else {
            self.unheld_segments.remove(segment);
        }
    }

    /// Recounts everything the slow way, with the true number of holders of each block; for tests.
    #[cfg(test)]
    pub(crate) fn check(&self, holders_of: impl Fn(u32) -> usize) {
        for segment in 0..self.segment_count() {
            let (mut copies, mut offered, mut has_unheld) = (0, 0, false);
            for block in self.blocks_of(segment) {
                let (holders, missing) = (holders_of(block), self.missing.contains(block));
                assert_eq!(usize::from(self.holders(block)), holders);
                assert_eq!(self.held_by_any().contains(block), holders > 0);
                assert_eq!(self.lonely.contains(block), missing && holders == 1);
                assert_eq!(self.unheld.contains(block), missing && holders == 0);
                assert_eq!(self.segment_of(block), segment);
                if missing {
                    (copies, offered) = (copies + holders, offered + u16::from(holders > 0));
                    has_unheld |= holders == 0;
                }
            }
            assert_eq!(self.copies[segment as usize] as usize, copies);
            assert_eq!(self.offered[segment as usize], offered);
            assert_eq!(self.unheld_segments.contains(segment), has_unheld);
        }
    }
}
